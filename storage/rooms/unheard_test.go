package rooms

import (
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// A leave is unheard until it is noted as heard, and matters while its user has no other membership.
func TestUnheardLeaves(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		leave := func(name string, sinceMS int64, newRoom bool) UnheardLeave {
			n := w.event(room, name+" leave")
			u := UnheardLeave{Room: room, User: n.Target(), Servers: []matrix.ServerName{"a.org", "b.org"}, SinceMS: sinceMS}
			n.Event.Kind, n.Event.StateUnknown = Aside, true
			w.commit(SetAside{Room: room, NewRoom: newRoom, Event: n.Event, Membership: n.Members[0], Unheard: &u})
			return u
		}
		later, first := leave("alice", 20, true), leave("bob", 10, false)
		check := func(wantUnheard, wantOver []matrix.UserID) {
			w.t.Helper()
			users := func(all []UnheardLeave) (users []matrix.UserID) {
				for _, u := range all {
					users = append(users, u.User)
				}
				return users
			}
			unheard, over, err := UnheardLeaves(ctx, w.db, 10)
			if err != nil || !slices.Equal(users(unheard), wantUnheard) || !slices.Equal(users(over), wantOver) {
				w.t.Fatalf("got %v and over %v, %v; want %v and %v", unheard, over, err, wantUnheard, wantOver)
			}
			for _, u := range unheard {
				if !slices.Equal(u.Servers, later.Servers) || u.Room.ID != room.ID || u.Room.Version != room.Version {
					w.t.Errorf("got %+v", u)
				}
			}
		}
		check([]matrix.UserID{first.User, later.User}, nil)
		w.commit(LeaveHeard{Leave: UnheardLeave{Room: room, User: first.User, SinceMS: 9}}) // of another time
		w.commit(ImportMembers{Members: []Membership{{RoomNum: room.Num, User: later.User, Membership: event.Join, EventNum: 1}}})
		check([]matrix.UserID{first.User}, []matrix.UserID{later.User})
		w.commit(LeaveHeard{Leave: first})
		w.commit(BeginAnew{Room: room})
		check(nil, nil)
	})
}
