package accounts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestRegisterInOneRequest(t *testing.T) {
	each(t, func(w *world) {
		s, err := w.Register(w.ctx, Registration{
			Username: "Alice", Password: goodPassword, Auth: dummy, Device: Device{ID: "PHONE", DisplayName: "Her phone"},
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if s.User != "@alice:example.org" || s.Device != "PHONE" {
			w.t.Errorf("got %s on %s, want @alice:example.org on PHONE", s.User, s.Device)
		}
		device, err := w.Device(w.ctx, s.User, s.Device)
		if err != nil || device.DisplayName != "Her phone" || device.CreatedMS != w.nowMS() {
			w.t.Errorf("device: got %+v, %v", device, err)
		}
		if _, err := w.login("alice", goodPassword); err != nil {
			w.t.Errorf("login afterwards: %v", err)
		}
	})
}

func TestRegisterInTwoRequests(t *testing.T) {
	w := onSQLite(t)
	in := Registration{Username: "alice", Password: goodPassword}
	for _, first := range []Registration{in, {}} { // some clients ask for the flows before they ask for a name
		in.Username += "x"
		if first.Username != "" {
			first.Username = in.Username
		}
		_, err := w.Register(w.ctx, first)
		c := wantChallenge(t, "without auth", err, "")
		if len(c.Flows) != 1 || !slices.Equal(c.Flows[0].Stages, []string{TypeDummy}) || c.Session == "" {
			t.Errorf("challenge: got %+v, want a session and one flow of m.login.dummy", c)
		}
		in.Auth = json.RawMessage(fmt.Sprintf(`{"type":"m.login.dummy","session":%q}`, c.Session))
		if _, err := w.Register(w.ctx, in); err != nil {
			t.Errorf("with auth: %v", err)
		}
		_, err = w.Register(w.ctx, Registration{Username: "another", Password: goodPassword, Auth: in.Auth})
		wantChallenge(t, "with a session that was used", err, matrix.Unknown)
	}
}

func TestRegisterRefusesBeforeAuthentication(t *testing.T) {
	w := onSQLite(t)
	w.register("alice")
	for _, c := range []struct {
		name string
		in   Registration
		want matrix.ErrorCode
	}{
		{"taken", Registration{Username: "alice"}, matrix.UserInUse},
		{"taken in capitals", Registration{Username: "ALICE"}, matrix.UserInUse},
		{"too long", Registration{Username: strings.Repeat("a", 250)}, matrix.InvalidUsername},
		{"Kelvin sign", Registration{Username: "\u212a"}, matrix.InvalidUsername},
		{"long password", Registration{Username: "bob", Password: strings.Repeat("p", 513)}, matrix.InvalidParam},
		{"no password", Registration{Username: "bob", Auth: dummy}, matrix.MissingParam},
		{"auth of another kind", Registration{Username: "bob", Password: "x", Auth: json.RawMessage(`[]`)}, matrix.BadJSON},
		{"bad device", Registration{Username: "bob", Password: "x", Device: Device{ID: "a\x00"}}, matrix.InvalidParam},
	} {
		_, err := w.Register(w.ctx, c.in)
		wantCode(t, c.name, err, c.want)
	}
	for _, c := range "!\":?\\@[]{|}£é\n' \x00" {
		_, err := w.Register(w.ctx, Registration{Username: "user" + string(c), Password: goodPassword, Auth: dummy})
		wantCode(t, fmt.Sprintf("character %q", c), err, matrix.InvalidUsername)
	}
	for _, c := range "q3._=-/+" {
		w.register("user" + string(c))
	}
}

func TestRegisterClosed(t *testing.T) {
	w := newWorld(t, nil, withRegistration(config.Closed))
	_, err := w.Register(w.ctx, Registration{Username: "alice", Password: goodPassword, Auth: dummy})
	wantCode(t, "register", err, matrix.Forbidden)
	wantCode(t, "available", w.Available(w.ctx, "alice"), matrix.Forbidden)
	_, err = w.RegisterGuest(w.ctx, "")
	wantCode(t, "guest", err, matrix.GuestAccessForbidden)
}

func TestRegisterWithoutLogin(t *testing.T) {
	w := onSQLite(t)
	s, err := w.Register(w.ctx, Registration{Password: goodPassword, Auth: dummy, InhibitLogin: true})
	if err != nil || s.AccessToken != "" || s.Device != "" {
		t.Errorf("got %+v, %v, want a user only", s, err)
	}
	if len(s.User.Localpart()) != usernameLength {
		t.Errorf("user: got %s, want a name that was made", s.User)
	}
	if devices, err := w.Devices(w.ctx, s.User); err != nil || len(devices) != 0 {
		t.Errorf("devices: got %v, %v, want none", devices, err)
	}
}

func TestAvailable(t *testing.T) {
	w := onSQLite(t)
	w.register("alice")
	wantCode(t, "free", w.Available(w.ctx, "bob"), "")
	wantCode(t, "taken", w.Available(w.ctx, "alice"), matrix.UserInUse)
	wantCode(t, "no name", w.Available(w.ctx, ""), matrix.InvalidUsername)
}

func TestOneOfManyGetsAName(t *testing.T) {
	each(t, func(w *world) {
		var wg sync.WaitGroup
		codes := make(chan matrix.ErrorCode, 20)
		for i := range cap(codes) {
			wg.Go(func() {
				_, err := w.Register(w.ctx, Registration{
					Username: "alice", Password: fmt.Sprintf("password %d", i), Auth: dummy,
				})
				codes <- matrix.CodeOf(err)
			})
		}
		wg.Wait()
		close(codes)
		count := map[matrix.ErrorCode]int{}
		for code := range codes {
			count[code]++
		}
		if count[""] != 1 || count[matrix.UserInUse] != cap(codes)-1 {
			w.t.Errorf("got %v, want one success and %s for the others", count, matrix.UserInUse)
		}
	})
}

func TestRegisterGuest(t *testing.T) {
	each(t, func(w *world) {
		s, err := w.RegisterGuest(w.ctx, "browser")
		if err != nil {
			w.t.Fatal(err)
		}
		if who := w.who(s); !who.Guest || who.Admin {
			w.t.Errorf("got %+v, want a guest", who)
		}
		_, err = w.login(string(s.User), "")
		wantCode(w.t, "login as a guest, without a password", err, matrix.Forbidden)
	}, withGuests, withRegistration(config.Closed))
}

func tokenAuth(token string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"type":"m.login.registration_token","token":%q}`, token))
}

func TestRegistrationToken(t *testing.T) {
	each(t, func(w *world) {
		once, now := int64(1), w.nowMS()
		for _, token := range []users.RegistrationToken{
			{Token: "once", UsesAllowed: &once}, {Token: "always"}, {Token: "old", ExpiresMS: now}, {Token: "new", ExpiresMS: now + 1},
		} {
			if _, err := w.AddRegistrationToken(w.ctx, token); err != nil {
				w.t.Fatal(err)
			}
		}
		_, err := w.Register(w.ctx, Registration{Username: "zero", Password: goodPassword, Auth: dummy})
		wantChallenge(w.t, "dummy", err, matrix.Unrecognized)
		for i, c := range []struct {
			token string
			valid bool
		}{
			{"once", true}, {"once", false}, {"always", true}, {"always", true},
			{"old", false}, {"new", true}, {"", false}, {"unknown", false}, {"a b", false}, {strings.Repeat("x", 65), false},
		} {
			valid, err := w.ValidRegistrationToken(w.ctx, c.token)
			if valid != c.valid || err != nil {
				w.t.Errorf("%d: validity of %q: got %v, %v, want %v", i, c.token, valid, err, c.valid)
			}
			_, err = w.Register(w.ctx, Registration{Username: fmt.Sprint("user", i), Password: goodPassword, Auth: tokenAuth(c.token)})
			if c.valid {
				wantCode(w.t, "register with "+c.token, err, "")
			} else {
				wantChallenge(w.t, "register with "+c.token, err, matrix.Unauthorized)
			}
		}
		list, err := w.RegistrationTokens(w.ctx, "", 10)
		if err != nil || len(list) != 4 || list[0].Token != "always" || list[0].Completed != 2 || list[3].Completed != 1 {
			w.t.Errorf("tokens: got %+v, %v, want four, the first used twice", list, err)
		}
	}, withRegistration(config.WithToken))
}

func TestATokenForOneIsUsedByOne(t *testing.T) {
	each(t, func(w *world) {
		once := int64(1)
		if _, err := w.AddRegistrationToken(w.ctx, users.RegistrationToken{Token: "once", UsesAllowed: &once}); err != nil {
			w.t.Fatal(err)
		}
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for i := range cap(errs) {
			wg.Go(func() {
				_, err := w.Register(w.ctx, Registration{Username: fmt.Sprint("user", i), Password: "x", Auth: tokenAuth("once")})
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		made := 0
		for err := range errs {
			var c *Challenge
			switch {
			case err == nil:
				made++
			case errors.As(err, &c): // it saw the token used up before
			default:
				wantCode(w.t, "too late", err, matrix.Unauthorized)
			}
		}
		if made != 1 {
			w.t.Errorf("accounts made with a token for one: %d", made)
		}
	}, withRegistration(config.WithToken))
}

func TestManageRegistrationTokens(t *testing.T) {
	each(t, func(w *world) {
		made, err := w.AddRegistrationToken(w.ctx, users.RegistrationToken{})
		if err != nil || len(made.Token) != registrationTokenLength {
			w.t.Fatalf("got %+v, %v, want a token that was made", made, err)
		}
		_, err = w.AddRegistrationToken(w.ctx, made)
		wantCode(w.t, "twice", err, matrix.InvalidParam)
		negative := int64(-1)
		for _, bad := range []users.RegistrationToken{
			{Token: "a b"}, {Token: strings.Repeat("x", 65)}, {UsesAllowed: &negative}, {ExpiresMS: -1},
		} {
			_, err := w.AddRegistrationToken(w.ctx, bad)
			wantCode(w.t, bad.Token, err, matrix.InvalidParam)
		}
		wantCode(w.t, "remove", w.RemoveRegistrationToken(w.ctx, made.Token), "")
		wantCode(w.t, "remove again", w.RemoveRegistrationToken(w.ctx, made.Token), matrix.NotFound)
	})
}
