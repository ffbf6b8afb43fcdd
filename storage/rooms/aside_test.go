package rooms

import (
	"errors"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// What ends an invite is stored only while that is what the user has.
func TestSetAsideEnds(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		write := func(what string) SetAside {
			n := w.event(room, what)
			n.Event.Kind, n.Event.StateUnknown = Aside, true
			return SetAside{Room: room, Event: n.Event, Membership: n.Members[0]}
		}
		invite := write("alice invite")
		invite.NewRoom = true
		w.commit(invite)
		for i, want := range []error{nil, ErrAsideOver} {
			leave := write("alice leave")
			leave.Ends = invite.Event.Num
			if _, err := w.db.Commit(ctx, leave); !errors.Is(err, want) {
				t.Errorf("leave %d: got %v, want %v", i, err, want)
			}
		}
		history, err := MembershipHistory(ctx, w.db, room, matrix.UserID(invite.Membership.User))
		if err != nil || len(history) != 2 || history[1].Membership != event.Leave {
			t.Errorf("history: got %+v, %v; want an invite and a leave", history, err)
		}
	})
}
