package accounts

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestLoginByIdentifier(t *testing.T) {
	w := onSQLite(t)
	w.register("alice")
	for _, c := range []struct {
		name             string
		identifier, user string
		password         string
		want             matrix.ErrorCode
	}{
		{"localpart", `{"type":"m.id.user","user":"alice"}`, "", goodPassword, ""},
		{"user ID", `{"type":"m.id.user","user":"@alice:example.org"}`, "", goodPassword, ""},
		{"capitals", `{"type":"m.id.user","user":"@ALICE:example.org"}`, "", goodPassword, ""},
		{"old localpart", ``, "alice", goodPassword, ""},
		{"old user ID beside null", `null`, "@alice:example.org", goodPassword, ""},
		{"identifier before old", `{"type":"m.id.user","user":"alice"}`, "bob", goodPassword, ""},
		{"wrong password", ``, "alice", "wrong", matrix.Forbidden},
		{"no password", ``, "alice", "", matrix.Forbidden},
		{"long password", ``, "alice", strings.Repeat("x", 1<<20), matrix.Forbidden},
		{"unknown user", ``, "bob", goodPassword, matrix.Forbidden},
		{"user of another server", ``, "@alice:example.com", goodPassword, matrix.Forbidden},
		{"no user ID", ``, "@alice", goodPassword, matrix.Forbidden},
		{"NUL", ``, "alice\x00", goodPassword, matrix.Forbidden},
		{"mail address", `{"type":"m.id.thirdparty","medium":"email","address":"a@b"}`, "", goodPassword, matrix.Forbidden},
		{"telephone", `{"type":"m.id.phone","country":"GB","phone":"1"}`, "", goodPassword, matrix.Forbidden},
		{"unknown identifier", `{"type":"m.id.other"}`, "", goodPassword, matrix.InvalidParam},
		{"nobody", ``, "", goodPassword, matrix.MissingParam},
		{"no user in it", `{"type":"m.id.user"}`, "alice", goodPassword, matrix.MissingParam},
		{"wrong type", `"alice"`, "", goodPassword, matrix.BadJSON},
		{"wrong type in it", `{"type":"m.id.user","user":1}`, "", goodPassword, matrix.BadJSON},
	} {
		s, err := w.Login(w.ctx, Login{
			Type: TypePassword, Identifier: json.RawMessage(c.identifier), User: c.user, Password: c.password,
		})
		wantCode(t, c.name, err, c.want)
		if c.want == "" && (s.User != "@alice:example.org" || s.AccessToken == "" || len(s.Device) != deviceIDLength) {
			t.Errorf("%s: got %+v, want a session of alice", c.name, s)
		}
	}
}

func TestLoginTypes(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.Login(w.ctx, Login{})
	wantCode(t, "none", err, matrix.MissingParam)
	_, err = w.Login(w.ctx, Login{Type: "m.login.other"})
	wantCode(t, "unknown", err, matrix.Unknown)
	if e, ok := err.(*matrix.Error); !ok || e.Status() != 400 {
		t.Errorf("unknown: got %v, want status 400", err)
	}
	_, err = w.Login(w.ctx, Login{Type: TypePassword, User: "a", Device: Device{ID: strings.Repeat("x", 256)}})
	wantCode(t, "device", err, matrix.InvalidParam)
}

func TestALoginReplacesTheTokenOfItsDevice(t *testing.T) {
	each(t, func(w *world) {
		w.register("alice")
		in := Login{Type: TypePassword, User: "alice", Password: goodPassword, Device: Device{ID: "TV", DisplayName: "Tele"}}
		first, err := w.Login(w.ctx, in)
		wantCode(w.t, "first", err, "")
		w.who(first)
		in.Device.DisplayName = "Other"
		second, err := w.Login(w.ctx, in)
		wantCode(w.t, "second", err, "")
		w.wantLoggedOut("the first token", first)
		if who := w.who(second); who.Device != "TV" {
			w.t.Errorf("device: got %s, want TV", who.Device)
		}
		if d, err := w.Device(w.ctx, "@alice:example.org", "TV"); err != nil || d.DisplayName != "Tele" {
			w.t.Errorf("device: got %+v, %v, want its first name", d, err)
		}
	})
}

func TestManyLoginsOnOneDeviceLeaveOneToken(t *testing.T) {
	each(t, func(w *world) {
		w.register("alice")
		var wg sync.WaitGroup
		sessions := make(chan Session, 20)
		for range cap(sessions) {
			wg.Go(func() {
				s, err := w.Login(w.ctx, Login{Type: TypePassword, User: "alice", Password: goodPassword, Device: Device{ID: "TV"}})
				wantCode(w.t, "login", err, "")
				sessions <- s
			})
		}
		wg.Wait()
		close(sessions)
		valid := 0
		for s := range sessions {
			if _, err := w.Authenticate(w.ctx, s.AccessToken); err == nil {
				valid++
			}
		}
		if valid != 1 {
			w.t.Errorf("valid tokens of the device: %d, want 1", valid)
		}
	})
}

func TestDeactivatedIsToldToWhoKnowsThePassword(t *testing.T) {
	each(t, func(w *world) {
		s, who := w.register("alice")
		c := wantChallenge(w.t, "deactivate", w.Deactivate(w.ctx, who, false, nil), "")
		wantCode(w.t, "deactivate", w.Deactivate(w.ctx, who, false, passwordAuth(c.Session, "alice", goodPassword)), "")
		w.wantLoggedOut("afterwards", s)
		_, err := w.login("alice", goodPassword)
		wantCode(w.t, "right password", err, matrix.UserDeactivated)
		_, err = w.login("alice", "wrong")
		wantCode(w.t, "wrong password", err, matrix.Forbidden)
		_, err = w.Register(w.ctx, Registration{Username: "alice", Password: goodPassword, Auth: dummy})
		wantCode(w.t, "the same name again", err, matrix.UserInUse)
	})
}

func (w *world) loginToken(who matrix.Requester) string {
	w.t.Helper()
	_, _, err := w.LoginToken(w.ctx, who, nil)
	c := wantChallenge(w.t, "login token without auth", err, "")
	token, life, err := w.LoginToken(w.ctx, who, passwordAuth(c.Session, string(who.Account), goodPassword))
	if err != nil || life != 2*time.Minute || !strings.HasPrefix(token, "myl_") {
		w.t.Fatalf("login token: got %q for %s, %v", token, life, err)
	}
	return token
}

func TestLoginTokenIsGoodOnceAndForAWhile(t *testing.T) {
	each(t, func(w *world) {
		_, who := w.register("alice")
		token := w.loginToken(who)
		s, err := w.Login(w.ctx, Login{Type: TypeToken, Token: token})
		if err != nil || s.User != who.Account {
			w.t.Fatalf("login: got %+v, %v, want a session of alice", s, err)
		}
		_, err = w.Login(w.ctx, Login{Type: TypeToken, Token: token})
		wantCode(w.t, "again", err, matrix.Forbidden)
		late := w.loginToken(who)
		w.clock.Advance(2 * time.Minute)
		for _, token := range []string{late, "", "unknown"} {
			_, err = w.Login(w.ctx, Login{Type: TypeToken, Token: token})
			wantCode(w.t, "token "+token, err, matrix.Forbidden)
		}
		_, err = w.Authenticate(w.ctx, w.loginToken(who))
		wantCode(w.t, "as an access token", err, matrix.UnknownToken)
	})
}

func TestALoginTokenLetsOneIn(t *testing.T) {
	each(t, func(w *world) {
		_, who := w.register("alice")
		token := w.loginToken(who)
		var wg sync.WaitGroup
		codes := make(chan matrix.ErrorCode, 20)
		for range cap(codes) {
			wg.Go(func() {
				_, err := w.Login(w.ctx, Login{Type: TypeToken, Token: token})
				codes <- matrix.CodeOf(err)
			})
		}
		wg.Wait()
		close(codes)
		count := map[matrix.ErrorCode]int{}
		for code := range codes {
			count[code]++
		}
		if count[""] != 1 || count[matrix.Forbidden] != cap(codes)-1 {
			w.t.Errorf("got %v, want one success", count)
		}
	})
}

func TestALoginTokenEndsWithThePasswordAndTheAccount(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	token := w.loginToken(who)
	wantCode(t, "reset", w.ResetPassword(w.ctx, who.Account, "another", false), "")
	_, err := w.Login(w.ctx, Login{Type: TypeToken, Token: token})
	wantCode(t, "after a new password", err, matrix.Forbidden)

	_, bob := w.register("bob")
	token = w.loginToken(bob)
	wantCode(t, "deactivate", w.DeactivateUser(w.ctx, bob.Account, false), "")
	_, err = w.Login(w.ctx, Login{Type: TypeToken, Token: token})
	wantCode(t, "after the end of the account", err, matrix.Forbidden)
}

// The password of a login is compared before the commit: one that was replaced meanwhile must open nothing.
func TestALoginWithAPasswordJustReplacedOpensNothing(t *testing.T) {
	each(t, func(w *world) {
		_, who := w.register("alice")
		user, err := w.User(w.ctx, who.Account)
		wantCode(w.t, "user", err, "")
		out, session, err := w.newSession(Device{})
		wantCode(w.t, "session", err, "")
		wantCode(w.t, "reset", w.ResetPassword(w.ctx, who.Account, "another", true), "")
		_, err = w.db.Commit(w.ctx, users.Login{
			User: user.ID, Session: session, PasswordHash: user.PasswordHash, Refusal: errWrongLogin(),
		})
		wantCode(w.t, "login", err, matrix.Forbidden)
		w.wantLoggedOut("its token", out)
	})
}

func TestLogout(t *testing.T) {
	each(t, func(w *world) {
		first, who := w.register("alice")
		second, err := w.login("alice", goodPassword)
		wantCode(w.t, "login", err, "")
		other, _ := w.register("bob")
		w.who(second)
		wantCode(w.t, "logout", w.Logout(w.ctx, who), "")
		w.wantLoggedOut("after logout", first)
		left := w.who(second)
		if devices, err := w.Devices(w.ctx, first.User); err != nil || len(devices) != 1 || devices[0].ID != second.Device {
			w.t.Errorf("devices: got %+v, %v, want %s only", devices, err, second.Device)
		}
		wantCode(w.t, "logout all", w.LogoutAll(w.ctx, left), "")
		w.wantLoggedOut("after logout of all", second)
		w.who(other)
	})
}

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"äöü", 3, "äöü"}, {"äöüß", 3, "äöü"}} {
		if got := shorten(c.in, c.n); got != c.want {
			t.Errorf("%q to %d: got %q, want %q", c.in, c.n, got, c.want)
		}
	}
}

func TestAsciiLower(t *testing.T) {
	for in, want := range map[string]string{"": "", "AbZ9": "abz9", "\u212a": "\u212a", "İ": "İ", "É": "É"} {
		if got := asciiLower(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseIdentifier(f *testing.F) {
	for _, seed := range []string{
		`{"type":"m.id.user","user":"alice"}`, `{"type":"m.id.thirdparty"}`, `{"type":"m.id.phone"}`, `null`, `{}`, `[]`,
		`{"type":"m.id.user","user":"@alice:example.org"}`, `{"type":["m.id.user"]}`, `{"type":"m.id.user","user":"\ud800"}`, ``,
	} {
		f.Add([]byte(seed), "bob")
	}
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte, old string) {
		name, err := parseIdentifier(raw, old)
		if err != nil {
			if code := matrix.CodeOf(err); code == matrix.Unknown {
				t.Errorf("got %v, want an error that blames the client", err)
			}
			return
		}
		id := w.userID(name)
		if id == "" {
			return
		}
		if _, err := matrix.ParseUserID(string(id)); err != nil || id.Server() != "example.org" {
			t.Errorf("%q became %q, which is no user of this server", name, id)
		}
	})
}

func BenchmarkLogin(b *testing.B) {
	for _, cost := range []int{4, 10} {
		b.Run(fmt.Sprint("cost ", cost), func(b *testing.B) {
			h := newHasher(cost)
			hash, err := h.hash(b.Context(), goodPassword)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if ok, err := h.matches(b.Context(), hash, goodPassword); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
