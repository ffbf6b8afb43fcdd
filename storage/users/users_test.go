package users_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

const alice, bob = matrix.UserID("@alice:example.org"), matrix.UserID("@bob:example.org")

// odd is text that databases do not like.
const odd = "a\x00b\x01'\"\\é"

// store is a database under test.
type store struct {
	*storage.DB
	t   *testing.T
	ctx context.Context
}

func each(t *testing.T, f func(s *store)) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { f(&store{db, t, t.Context()}) })
}

// commit stores w and fails unless that ends as wanted.
func (s *store) commit(w storage.Write, want error) storage.Position {
	s.t.Helper()
	pos, err := s.Commit(s.ctx, w)
	if !errors.Is(err, want) {
		s.t.Errorf("%T: got %v, want %v", w, err, want)
	}
	return pos
}

// refuse stores nothing of w, since one of its conditions fails with code.
func (s *store) refuse(w storage.Write, code matrix.ErrorCode) {
	s.t.Helper()
	if _, err := s.Commit(s.ctx, w); err == nil || matrix.CodeOf(err) != code {
		s.t.Errorf("%T: got %v, want %s", w, err, code)
	}
}

// together submits writes so that they can share a group, and returns their errors.
func (s *store) together(writes ...storage.Write) []error {
	errs := make([]error, len(writes))
	done := make(chan struct{}, len(writes))
	for i, w := range writes {
		s.Submit(w, func(_ storage.Position, err error) {
			errs[i] = err
			done <- struct{}{}
		})
	}
	for range writes {
		<-done
	}
	return errs
}

func (s *store) owner(token byte) matrix.Requester {
	s.t.Helper()
	who, found, err := users.TokenOwner(s.ctx, s, users.TokenHash{token})
	if err != nil || found != (who.Account != "") {
		s.t.Fatalf("owner of token %d: got %+v, %v, %v", token, who, found, err)
	}
	return who
}

func (s *store) devices(user matrix.UserID) string {
	s.t.Helper()
	list, err := users.Devices(s.ctx, s, user)
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, d := range list {
		ids = append(ids, string(d.ID))
	}
	return strings.Join(ids, " ")
}

func session(device matrix.DeviceID, token byte) users.Session {
	return users.Session{Device: device, DisplayName: "name of " + string(device), Token: users.TokenHash{token}, AtMS: 5}
}

func create(id matrix.UserID, device matrix.DeviceID, token byte) users.Create {
	s := session(device, token)
	return users.Create{User: users.User{ID: id, PasswordHash: "hash", CreatedMS: 1}, Session: &s}
}

func login(id matrix.UserID, device matrix.DeviceID, token byte) users.Login {
	return users.Login{User: id, Session: session(device, token), PasswordHash: "hash", Refusal: errRefused}
}

var errRefused = matrix.Errorf(matrix.Forbidden, "refused")

func TestUsers(t *testing.T) {
	each(t, func(s *store) {
		want := users.User{ID: alice, PasswordHash: odd, Admin: true, Guest: true, Type: "bot", CreatedMS: 1 << 50}
		s.commit(users.Create{User: want}, nil)
		s.commit(users.Create{User: users.User{ID: alice}}, storage.ErrDuplicate)
		if got, found, err := users.ByID(s.ctx, s, alice); got != want || !found || err != nil {
			s.t.Errorf("user: got %+v, %v, %v, want %+v", got, found, err, want)
		}
		if got, found, err := users.ByID(s.ctx, s, bob); found || err != nil {
			s.t.Errorf("nobody: got %+v, %v, %v", got, found, err)
		}
		for id, want := range map[matrix.UserID]bool{alice: true, bob: false, odd: false} {
			if got, err := users.Exists(s.ctx, s, id); got != want || err != nil {
				s.t.Errorf("%q exists: got %v, %v, want %v", id, got, err, want)
			}
		}
		s.commit(create(bob, "D", 1), nil)
		list, err := users.List(s.ctx, s, alice, 10)
		if err != nil || len(list) != 1 || list[0].ID != bob {
			s.t.Errorf("after alice: got %+v, %v, want bob", list, err)
		}
	})
}

func TestSessions(t *testing.T) {
	each(t, func(s *store) {
		at := s.commit(create(alice, "A", 1), nil)
		if at == 0 {
			s.t.Error("a new device got no position")
		}
		want := matrix.Requester{Account: alice, User: alice, Device: "A"}
		if got := s.owner(1); got != want {
			s.t.Errorf("owner: got %+v, want %+v", got, want)
		}
		if got := s.owner(9); got.Account != "" {
			s.t.Errorf("owner of no token: got %+v", got)
		}
		s.commit(login(alice, "A", 2), nil)
		s.commit(login(alice, odd, 3), nil)
		for token, device := range map[byte]matrix.DeviceID{1: "", 2: "A", 3: odd} {
			if got := s.owner(token); got.Device != device {
				s.t.Errorf("device of token %d: got %q, want %q", token, got.Device, device)
			}
		}
		d, found, err := users.DeviceByID(s.ctx, s, alice, "A")
		if wantD := (users.Device{ID: "A", DisplayName: "name of A", CreatedMS: 5}); d != wantD || !found || err != nil {
			s.t.Errorf("device: got %+v, %v, %v, want %+v", d, found, err, wantD)
		}
		wrong := login(alice, "B", 4)
		wrong.PasswordHash = "another"
		s.refuse(wrong, matrix.Forbidden)
		s.refuse(login(bob, "B", 4), matrix.Forbidden)
		if got := s.owner(4); got.Account != "" || strings.Contains(s.devices(alice), "B") {
			s.t.Errorf("of a refused login: got token of %+v, devices %q, want nothing", got, s.devices(alice))
		}
	})
}

// Whatever shares a group, it ends as if one came after the other.
func TestLoginsBesideWhatEndsThem(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		errs := s.together(login(alice, "B", 2), users.SetPassword{User: alice, Hash: "new", Logout: true, Keep: "A"}, login(alice, "C", 3))
		if errs[0] != nil || errs[1] != nil || matrix.CodeOf(errs[2]) != matrix.Forbidden {
			s.t.Errorf("around a new password: got %v, want only the login after it refused", errs)
		}
		if got := s.devices(alice); got != "A" || s.owner(2).Account != "" || s.owner(3).Account != "" {
			s.t.Errorf("devices: got %q, want A only, and no other token", got)
		}
		again := login(alice, "D", 4)
		again.PasswordHash = "new"
		late := again
		late.Session = session("E", 5)
		errs = s.together(again, users.Deactivate{User: alice, AtMS: 7}, late)
		if errs[0] != nil || errs[1] != nil || matrix.CodeOf(errs[2]) != matrix.Forbidden {
			s.t.Errorf("around the end of the account: got %v, want only the login after it refused", errs)
		}
		if got := s.devices(alice); got != "" || s.owner(1).Account != "" || s.owner(4).Account != "" {
			s.t.Errorf("devices: got %q, want none, and no token", got)
		}
		errs = s.together(create(bob, "A", 6), create(bob, "A", 7))
		if (errs[0] == nil) == (errs[1] == nil) {
			s.t.Errorf("two accounts of one name: got %v, want one of them", errs)
		}
	})
}

func TestDevices(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		for i, id := range []matrix.DeviceID{"B", "C", odd} {
			s.commit(login(alice, id, byte(2+i)), nil)
		}
		s.commit(create(bob, "B", 9), nil)
		start := s.Position()
		s.commit(users.RenameDevice{User: alice, Device: "A", DisplayName: odd}, nil)
		s.refuse(users.RenameDevice{User: bob, Device: "A", DisplayName: "x"}, matrix.NotFound)
		s.commit(users.RemoveDevices{User: alice, Devices: []matrix.DeviceID{"B", odd, "UNKNOWN"}}, nil)
		if got := s.devices(alice); got != "A C" || s.owner(2).Account != "" || s.owner(4).Account != "" {
			s.t.Errorf("devices: got %q, want A C", got)
		}
		if got := s.devices(bob); got != "B" || s.owner(9).Account != bob {
			s.t.Errorf("devices of bob: got %q, want B", got)
		}
		s.commit(users.RemoveAllDevices{User: alice, Keep: "A"}, nil)
		if got := s.devices(alice); got != "A" || s.owner(1).Device != "A" {
			s.t.Errorf("devices: got %q, want A", got)
		}
		changed, err := users.DeviceChanges(s.ctx, s, storage.Span{After: start, UpTo: s.Position()}, 100)
		if err != nil || len(changed) == 0 || slices.ContainsFunc(changed, func(c users.DeviceChange) bool { return c.User != alice }) {
			s.t.Errorf("changes: got %v, %v, want some of alice", changed, err)
		}
		removed, err := storage.Collect[string](s.ctx, s, `SELECT device_id FROM device_changes WHERE user_id = $1 AND position = $2`,
			alice, s.Position())
		if err != nil || !slices.Equal(removed, []string{"C"}) {
			s.t.Errorf("of the last change: got %v, %v, want C", removed, err)
		}
		s.commit(users.RemoveDevices{User: alice}, nil)
	})
}

func TestSeen(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		for _, c := range []struct {
			at     int64
			ip     string
			wantMS int64
			wantIP string
		}{{10, "x", 10, "x"}, {9, "y", 10, "x"}, {11, "z", 11, "z"}} {
			s.commit(users.Seen{{User: alice, Device: "A", AtMS: c.at, IP: c.ip}, {User: bob, Device: "A", AtMS: 1}}, nil)
			d, _, err := users.DeviceByID(s.ctx, s, alice, "A")
			if d.SeenMS != c.wantMS || d.SeenIP != c.wantIP || err != nil {
				s.t.Errorf("after %d from %s: got %+v, %v, want %d from %s", c.at, c.ip, d, err, c.wantMS, c.wantIP)
			}
		}
	})
}

func TestDeactivate(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		s.commit(create(bob, "B", 2), nil)
		for _, user := range []matrix.UserID{alice, bob} {
			s.commit(users.SetProfileField{User: user, Field: "displayname", Value: []byte(`"x"`)}, nil)
			s.commit(users.SetAccountData{User: user, Type: "t", Content: []byte(`{}`)}, nil)
			s.commit(users.AddFilter{User: user, ID: "f", Content: []byte(`{}`)}, nil)
		}
		left := func(user matrix.UserID) string {
			profile, err1 := users.Profile(s.ctx, s, user)
			data, err2 := users.RoomAccountData(s.ctx, s, user, "")
			filters, err3 := users.CountFilters(s.ctx, s, user)
			if err := errors.Join(err1, err2, err3); err != nil {
				s.t.Fatal(err)
			}
			return fmt.Sprint(len(profile), len(data), filters)
		}
		departing := func(want ...matrix.UserID) {
			s.t.Helper()
			if got, err := users.Departing(s.ctx, s, 10); !slices.Equal(got, want) || err != nil {
				s.t.Errorf("departing: got %v and %v, want %v", got, err, want)
			}
		}
		departing()
		s.commit(users.Deactivate{User: alice, AtMS: 7}, nil)
		departing(alice)
		s.commit(users.Departed{User: alice}, nil)
		departing()
		if got := left(alice); got != "1 1 1" || s.owner(1).Account != "" {
			s.t.Errorf("deactivated: got %s, want all but the devices", got)
		}
		s.commit(users.Deactivate{User: alice, AtMS: 8, Erase: true}, nil)
		u, _, err := users.ByID(s.ctx, s, alice)
		if got := left(alice); got != "0 0 0" || u.DeactivatedMS != 7 || !u.Erased || u.PasswordHash != "" || err != nil {
			s.t.Errorf("erased: got %s and %+v, %v, want nothing left, deactivated at 7", got, u, err)
		}
		if got := left(bob); got != "1 1 1" || s.owner(2).Account != bob {
			s.t.Errorf("bob: got %s, want all", got)
		}
		s.refuse(users.SetPassword{User: alice, Hash: "x"}, matrix.NotFound)
		s.refuse(users.Deactivate{User: "@carol:example.org"}, matrix.NotFound)
	})
}

func TestRegistrationTokens(t *testing.T) {
	each(t, func(s *store) {
		two := int64(2)
		limited := users.RegistrationToken{Token: "limited", UsesAllowed: &two, ExpiresMS: 100}
		s.commit(users.AddRegistrationToken{Token: limited}, nil)
		s.commit(users.AddRegistrationToken{Token: limited}, storage.ErrDuplicate)
		s.commit(users.AddRegistrationToken{Token: users.RegistrationToken{Token: "free"}}, nil)
		with := func(token string, id matrix.UserID, now int64) users.Create {
			return users.Create{User: users.User{ID: id, CreatedMS: now}, RegistrationToken: token}
		}
		s.commit(with("limited", "@1:x", 99), nil)
		s.refuse(with("limited", "@2:x", 100), matrix.Unauthorized)
		s.refuse(with("unknown", "@2:x", 1), matrix.Unauthorized)
		s.commit(with("limited", "@1:x", 99), storage.ErrDuplicate) // and takes no use
		s.commit(with("limited", "@2:x", 99), nil)
		s.refuse(with("limited", "@3:x", 99), matrix.Unauthorized)
		s.commit(with("free", "@3:x", 1<<40), nil)
		got, found, err := users.RegistrationTokenByName(s.ctx, s, "limited")
		if !found || err != nil || got.Completed != 2 || *got.UsesAllowed != 2 || got.ExpiresMS != 100 || got.Valid(1) {
			s.t.Errorf("token: got %+v, %v, %v, want it used up", got, found, err)
		}
		list, err := users.RegistrationTokens(s.ctx, s, "", 1)
		if err != nil || len(list) != 1 || list[0].Token != "free" || list[0].UsesAllowed != nil || !list[0].Valid(1<<40) {
			s.t.Errorf("first page: got %+v, %v, want free", list, err)
		}
		s.commit(users.RemoveRegistrationToken{Token: "free"}, nil)
		s.refuse(users.RemoveRegistrationToken{Token: "free"}, matrix.NotFound)
	})
}

func TestLoginTokens(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		s.commit(users.AddLoginToken{Hash: users.TokenHash{1}, User: alice, NowMS: 1, ExpiresMS: 6}, nil)
		for now, want := range map[int64]bool{5: true, 6: false} {
			if who, found, err := users.LoginTokenOwner(s.ctx, s, users.TokenHash{1}, now); found != want || err != nil {
				s.t.Errorf("at %d: got %s, %v, %v, want %v", now, who, found, err, want)
			}
		}
		hash := users.TokenHash{1}
		in := users.Login{User: alice, Session: session("B", 2), LoginToken: &hash, Refusal: errRefused}
		other := in
		other.User = bob
		s.refuse(other, matrix.Forbidden)
		s.commit(in, nil)
		s.refuse(in, matrix.Forbidden)
		s.commit(users.AddLoginToken{Hash: users.TokenHash{2}, User: alice, NowMS: 10, ExpiresMS: 12}, nil)
		s.commit(users.AddLoginToken{Hash: users.TokenHash{3}, User: alice, NowMS: 12, ExpiresMS: 14}, nil)
		if n, _, err := storage.One[int](s.ctx, s, `SELECT COUNT(*) FROM login_tokens`); n != 1 || err != nil {
			s.t.Errorf("tokens left: got %d, %v, want the one that has not expired", n, err)
		}
	})
}

func TestProfiles(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		start := s.Position()
		set := func(field, value string) users.SetProfileField {
			return users.SetProfileField{User: alice, Field: field, Value: []byte(value)}
		}
		at := s.commit(set("a", `"`+odd+`"`), nil)
		s.commit(set("a", `"2"`), nil)
		s.commit(set("b", `null`), nil)
		if got, found, err := users.ProfileField(s.ctx, s, alice, "a"); string(got) != `"2"` || !found || err != nil {
			s.t.Errorf("field: got %s, %v, %v, want \"2\"", got, found, err)
		}
		s.commit(users.SetProfileField{User: alice, Field: "a"}, nil)
		profile, err := users.Profile(s.ctx, s, alice)
		if text, _ := json.Marshal(profile); string(text) != `{"b":null}` || err != nil {
			s.t.Errorf("profile: got %s, %v, want b only", text, err)
		}
		// {"b":null,"c":...}: the rest up to one byte below the limit.
		most := users.MaxProfileBytes - 1 - len(`{"b":null,"c":}`) - 1
		s.refuse(set("c", strings.Repeat("1", most+1)), matrix.ProfileTooLarge)
		s.commit(set("c", strings.Repeat("1", most)), nil)
		s.refuse(users.SetProfileField{User: bob, Field: "a", Value: []byte(`1`)}, matrix.NotFound)
		for span, want := range map[storage.Span]int{{After: start, UpTo: s.Position()}: 1, {UpTo: start}: 0, {After: at, UpTo: at}: 0} {
			changed, err := storage.Collect[matrix.UserID](s.ctx, s, `
				SELECT DISTINCT user_id FROM profiles WHERE position > $1 AND position <= $2`, span.After, span.UpTo)
			if len(changed) != want || err != nil {
				s.t.Errorf("changes in %v: got %v, %v, want %d", span, changed, err, want)
			}
		}
	})
}

func TestAccountData(t *testing.T) {
	each(t, func(s *store) {
		first := s.commit(users.SetAccountData{User: alice, Type: odd, Content: []byte(`{"a":"` + odd + `"}`)}, nil)
		s.commit(users.SetAccountData{User: alice, Room: "!r:x", Type: "t", Content: []byte(`{}`)}, nil)
		s.commit(users.SetAccountData{User: bob, Type: "t", Content: []byte(`{}`)}, nil)
		last := s.commit(users.SetAccountData{User: alice, Type: odd, Content: []byte(`{"a":2}`)}, nil)
		got, found, err := users.AccountData(s.ctx, s, alice, "", odd)
		if string(got) != `{"a":2}` || !found || err != nil {
			s.t.Errorf("got %s, %v, %v, want {\"a\":2}", got, found, err)
		}
		if _, found, err := users.AccountData(s.ctx, s, bob, "", odd); found || err != nil {
			s.t.Errorf("of bob: got %v, %v, want none", found, err)
		}
		for span, want := range map[storage.Span]int{{UpTo: last}: 2, {After: first, UpTo: last}: 2, {After: first + 1, UpTo: last}: 1, {UpTo: last - 1}: 1} {
			list, err := users.AccountDataSince(s.ctx, s, alice, span)
			if len(list) != want || err != nil {
				s.t.Errorf("in %v: got %d, %v, want %d", span, len(list), err, want)
			}
			if !slices.IsSortedFunc(list, func(a, b users.AccountDatum) int { return int(a.Position - b.Position) }) {
				s.t.Errorf("in %v: not in order of position", span)
			}
		}
	})
}

func TestFilters(t *testing.T) {
	each(t, func(s *store) {
		for range 2 {
			s.commit(users.AddFilter{User: alice, ID: "f", Content: []byte(`{"a":"` + odd + `"}`)}, nil)
		}
		if got, found, err := users.Filter(s.ctx, s, alice, "f"); string(got) != `{"a":"`+odd+`"}` || !found || err != nil {
			s.t.Errorf("got %q, %v, %v", got, found, err)
		}
		if _, found, err := users.Filter(s.ctx, s, bob, "f"); found || err != nil {
			s.t.Errorf("of bob: got %v, %v, want none", found, err)
		}
		if n, err := users.CountFilters(s.ctx, s, alice); n != 1 || err != nil {
			s.t.Errorf("count: got %d, %v, want 1", n, err)
		}
	})
}
