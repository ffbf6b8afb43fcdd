package users_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

func at(user matrix.UserID, device matrix.DeviceID) users.Address {
	return users.Address{User: user, Device: device}
}

// send is a message with the same content for some devices.
func send(key int64, content string, to ...users.Address) users.SendToDevice {
	w := users.SendToDevice{Key: key, Sender: "@s:elsewhere", Type: "m.test", AtMS: key}
	for _, a := range to {
		w.Letters = append(w.Letters, users.Letter{To: a, Content: []byte(content)})
	}
	return w
}

// inbox returns the contents that wait for a device in a span.
func (s *store) inbox(to users.Address, span storage.Span, limit int) []string {
	s.t.Helper()
	list, err := users.ToDevice(s.ctx, s, to, span, limit)
	if err != nil {
		s.t.Fatalf("inbox of %v: %v", to, err)
	}
	var contents []string
	for _, m := range list {
		if m.Sender != "@s:elsewhere" || m.Type != "m.test" || m.Position <= span.After || m.Position > span.UpTo {
			s.t.Errorf("inbox of %v in %v: got %+v", to, span, m)
		}
		contents = append(contents, string(m.Content))
	}
	return contents
}

func (s *store) wantInbox(what string, to users.Address, want ...string) {
	s.t.Helper()
	if got := s.inbox(to, storage.Span{UpTo: s.Position()}, 100); !reflect.DeepEqual(got, want) {
		s.t.Errorf("%s: %v got %q, want %q", what, to, got, want)
	}
}

func TestToDevice(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		s.commit(login(alice, "B", 2), nil)
		s.commit(create(bob, "A", 3), nil)
		first := s.commit(send(1, `{"n":1,"x":"\u0000"}`, at(alice, "A"), at(alice, "B"), at(bob, "A")), nil)
		second := s.commit(send(2, `{"n":2}`, at(alice, "A")), nil)
		s.wantInbox("both", at(alice, "A"), `{"n":1,"x":"\u0000"}`, `{"n":2}`)
		s.wantInbox("the first", at(alice, "B"), `{"n":1,"x":"\u0000"}`)
		s.wantInbox("the first", at(bob, "A"), `{"n":1,"x":"\u0000"}`)
		s.wantInbox("nobody", at(bob, "B"))
		news, complete := s.Since(first-1, 10)
		if !complete || len(news) != 2 || news[0].Kind != storage.NewsToDevice ||
			!reflect.DeepEqual(news[0].Value, []matrix.UserID{alice, bob}) {
			s.t.Errorf("news: got %+v, %v, want two, the first for alice and bob", news, complete)
		}
		for _, c := range []struct {
			span  storage.Span
			limit int
			want  int
		}{
			{storage.Span{After: 0, UpTo: second}, 1, 1}, {storage.Span{After: first, UpTo: second}, 9, 1},
			{storage.Span{After: 0, UpTo: first}, 9, 1}, {storage.Span{After: second, UpTo: second}, 9, 0},
		} {
			if got := s.inbox(at(alice, "A"), c.span, c.limit); len(got) != c.want {
				s.t.Errorf("in %v, at most %d: got %q, want %d", c.span, c.limit, got, c.want)
			}
		}
	})
}

// A repeat is known, also one that comes beside the first, and one that was for nobody.
func TestToDeviceIsTakenOnce(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		errs := s.together(send(7, `{}`, at(alice, "A")), send(7, `{}`, at(alice, "A")), send(8, `{"o":1}`, at(alice, "A")))
		if errs[0] != nil || errs[2] != nil {
			s.t.Errorf("together: got %v, want the second alone refused", errs)
		}
		s.commit(send(7, `{}`, at(alice, "A")), storage.ErrDuplicate)
		s.commit(send(9, ``), nil)
		s.commit(send(9, `{}`, at(alice, "A")), storage.ErrDuplicate)
		s.wantInbox("once", at(alice, "A"), `{}`, `{"o":1}`)
		known, err := users.KnownToDevice(s.ctx, s, []int64{7, 9, 10})
		if err != nil || !reflect.DeepEqual(known, map[int64]bool{7: true, 9: true}) {
			s.t.Errorf("known: got %v, %v, want 7 and 9", known, err)
		}
	})
}

// Several messages of one write come all or none, each at a position of its own.
func TestToDeviceAllOrNone(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		s.commit(storage.All{send(1, `{"n":1}`, at(alice, "A")), send(2, `{"n":2}`, at(alice, "A"))}, nil)
		s.commit(storage.All{send(3, `{"n":3}`, at(alice, "A")), send(2, `{"n":2}`, at(alice, "A"))}, storage.ErrDuplicate)
		s.wantInbox("the first write", at(alice, "A"), `{"n":1}`, `{"n":2}`)
	})
}

func TestToDeviceIsForgotten(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "A", 1), nil)
		s.commit(login(alice, "B", 2), nil)
		first := s.commit(send(1, `{"n":1}`, at(alice, "A"), at(alice, "B")), nil)
		s.commit(send(2, `{"n":2}`, at(alice, "A")), nil)
		for _, c := range []struct {
			upTo storage.Position
			want bool
		}{{first - 1, false}, {first, true}} {
			if got, err := users.HasToDevice(s.ctx, s, at(alice, "A"), c.upTo); got != c.want || err != nil {
				s.t.Errorf("has any up to %d: got %v, %v, want %v", c.upTo, got, err, c.want)
			}
		}
		s.commit(users.ForgetToDevice{To: at(alice, "A"), UpTo: first}, nil)
		s.wantInbox("after the first", at(alice, "A"), `{"n":2}`)
		s.wantInbox("another device", at(alice, "B"), `{"n":1}`)
	})
}

// Messages go with their device, however that goes, and none waits for one that is gone.
func TestToDeviceGoesWithTheDevice(t *testing.T) {
	each(t, func(s *store) {
		for i, remove := range []storage.Write{
			users.RemoveDevices{User: alice, Devices: []matrix.DeviceID{"A", "Z"}},
			users.RemoveAllDevices{User: alice, Keep: "B"},
			users.SetPassword{User: alice, Hash: "hash", Logout: true, Keep: "B"},
		} {
			key := int64(10 * i)
			if i == 0 {
				s.commit(create(alice, "A", 1), nil)
				s.commit(login(alice, "B", 2), nil)
			} else {
				s.commit(login(alice, "A", 1), nil)
			}
			s.commit(send(key+1, `{"n":1}`, at(alice, "A"), at(alice, "B")), nil)
			s.commit(remove, nil)
			s.commit(send(key+2, `{"n":2}`, at(alice, "A"), at(alice, "B")), users.ErrDevicesMoved)
			s.commit(send(key+2, `{"n":2}`, at(alice, "B")), nil) // what failed is not known
			what := fmt.Sprintf("%T", remove)
			s.commit(login(alice, "A", 1), nil)
			s.wantInbox(what, at(alice, "A"))
			s.wantInbox(what, at(alice, "B"), `{"n":1}`, `{"n":2}`)
			s.commit(users.ForgetToDevice{To: at(alice, "B"), UpTo: s.Position()}, nil)
		}
		errs := s.together(send(100, `{}`, at(alice, "A")), users.RemoveDevices{User: alice, Devices: []matrix.DeviceID{"A"}})
		if errs[1] != nil {
			s.t.Errorf("removed beside a message: got %v", errs)
		}
		s.commit(login(alice, "A", 1), nil)
		s.wantInbox("removed beside a message", at(alice, "A"))
	})
}

func TestDevicesOf(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "B", 1), nil)
		s.commit(login(alice, "A", 2), nil)
		s.commit(create(bob, "A", 3), nil)
		got, err := users.DevicesOf(s.ctx, s, []matrix.UserID{alice, "@nobody:example.org"})
		if want := map[matrix.UserID][]matrix.DeviceID{alice: {"A", "B"}}; err != nil || !reflect.DeepEqual(got, want) {
			s.t.Errorf("got %v, %v, want %v", got, err, want)
		}
	})
}

func TestKnownToDeviceIsForgotten(t *testing.T) {
	each(t, func(s *store) {
		for key := range int64(4) {
			s.commit(send(key, ``), nil) // at as many milliseconds
		}
		s.commit(users.ForgetKnownToDevice{BeforeMS: 3, Limit: 2}, nil)
		if old, err := users.HasOldToDevice(s.ctx, s, 3); !old || err != nil {
			s.t.Errorf("of three old ones, after two: got %v, %v, want one left", old, err)
		}
		s.commit(users.ForgetKnownToDevice{BeforeMS: 3, Limit: 2}, nil)
		if old, err := users.HasOldToDevice(s.ctx, s, 3); old || err != nil {
			s.t.Errorf("of three old ones, after all: got %v, %v, want none left", old, err)
		}
		s.commit(send(3, ``), storage.ErrDuplicate)
		s.commit(send(0, ``), nil)
	})
}

// Only devices that nobody uses have a bound, and it is the oldest messages that are dropped.
func TestFullInboxes(t *testing.T) {
	each(t, func(s *store) {
		s.commit(create(alice, "OLD", 1), nil)
		s.commit(login(alice, "USED", 2), nil)
		s.commit(login(alice, "NEARLY", 3), nil)
		s.commit(users.Create{User: users.User{ID: bob}, Session: &users.Session{Device: "NEW", Token: users.TokenHash{4}, AtMS: 1000}}, nil)
		s.commit(users.Seen{{User: alice, Device: "USED", AtMS: 1000}}, nil)
		var third storage.Position
		for i := range 5 {
			to := []users.Address{at(alice, "OLD"), at(alice, "USED"), at(bob, "NEW")}
			if i < 2 {
				to = append(to, at(alice, "NEARLY"))
			}
			p := s.commit(send(int64(i+1), fmt.Sprintf(`{"n":%d}`, i), to...), nil)
			if i == 2 {
				third = p
			}
		}
		full, err := users.FullInboxes(s.ctx, s, 1000, 2, 10)
		want := []users.FullInbox{{Of: at(alice, "OLD"), Drop: third, Count: 3}}
		if err != nil || !reflect.DeepEqual(full, want) {
			t.Fatalf("full inboxes: got %+v, %v, want %+v", full, err, want)
		}
		s.commit(users.DropToDevice{To: at(alice, "OLD"), UpTo: third, Limit: 2}, nil)
		s.wantInbox("two dropped", at(alice, "OLD"), `{"n":2}`, `{"n":3}`, `{"n":4}`)
		s.commit(users.DropToDevice{To: at(alice, "OLD"), UpTo: third, Limit: 2}, nil)
		s.wantInbox("no more than that", at(alice, "OLD"), `{"n":3}`, `{"n":4}`)
		s.wantInbox("of another device", at(alice, "NEARLY"), `{"n":0}`, `{"n":1}`)
		if full, err := users.FullInboxes(s.ctx, s, 1001, 2, 1); err != nil || len(full) != 1 {
			t.Errorf("a moment later: got %+v, %v, want one", full, err)
		}
	})
}
