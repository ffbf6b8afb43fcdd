package owner

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// settleAsides goes by the room's own word on users of whom something was set aside that has found its place in the room
// by now. A knock, say, that a resident server has taken may have met with a ban.
func (st *Step) settleAsides(ctx context.Context) error {
	for _, ev := range st.settled {
		m, _, err := rooms.MembershipOf(ctx, st.owners.db, st.room.Num, ev.Target())
		if err != nil {
			return fmt.Errorf("find the membership of %s in %s: %w", ev.Target(), st.room.ID, err)
		}
		is, now, err := st.Member(ctx, ev.Target())
		if unlessUnknown(err) != nil {
			return err
		}
		if err != nil || m.EventNum != ev.Num || now != nil && now.Num == ev.Num {
			continue // it is not known yet, or the other way round: what was set aside is out of date, or it is what the room says
		}
		m.Membership, m.Stripped, m.Forgotten = is, nil, false
		if now == nil {
			m.Membership = event.Leave // it is gone with its event
		} else if m.EventNum = now.Num; is == event.Invite || is == event.Knock {
			if m.Stripped, err = st.strippedState(ctx, now); err != nil {
				return err
			}
		}
		st.asides = append(st.asides, m)
	}
	return nil
}
