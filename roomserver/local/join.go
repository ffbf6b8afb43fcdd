package local

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// Join takes a user into a room that this server is in. Who is in it already is in it.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin
func (s *Users) Join(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	return s.JoinWith(ctx, by, JoinRoom{Room: room, Reason: reason})
}

// JoinRoom is a wish to join.
type JoinRoom struct {
	Room    matrix.RoomID
	Reason  string
	Extra   map[string]json.RawMessage // more members of the event's content; what the server sets goes before them
	Vouched bool                       // into a partial room: a server that knows its members lets the user in
}

// JoinWith is Join with something to say: clients put what they like into their member events.
func (s *Users) JoinWith(ctx context.Context, by matrix.Requester, in JoinRoom) error {
	shown, err := s.people.Profile(ctx, by.User)
	if err != nil {
		return err
	}
	return s.owners.Do(ctx, in.Room, func(ctx context.Context, st *owner.Step) error {
		before, _, err := st.Member(ctx, by.User)
		if committed.IsUnknown(err) {
			if err = errNotVouched; in.Vouched {
				err = nil
			}
		}
		if err != nil || before == event.Join {
			return err
		}
		if err := checkGuestJoins(ctx, st, by); err != nil {
			return err
		}
		change := member.Change{Target: by.User, Membership: event.Join, Reason: in.Reason, Profile: shown, Extra: in.Extra}
		change.Vouched = in.Vouched
		if before != event.Invite && before != event.Ban {
			if change.Via, err = member.VoucherFor(ctx, st, by.User); err != nil {
				return err
			}
		}
		return member.Set(ctx, st, by.User, change)
	})
}

// errNotVouched says that a user may be banned from a partial room, for all that is known here.
var errNotVouched = matrix.Errorf(matrix.UnableToAuthoriseJoin, "this server does not know all members of the room yet")

// checkGuestJoins: guests come in only where the room says so.
// https://spec.matrix.org/v1.19/client-server-api/#mroomguest_access
func checkGuestJoins(ctx context.Context, st *owner.Step, by matrix.Requester) error {
	if !by.Guest {
		return nil
	}
	found, err := st.Lookup(ctx, event.Key{Type: event.TypeGuestAccess})
	if err != nil {
		return err
	}
	if found[0].Text("guest_access") != "can_join" {
		return matrix.Errorf(matrix.GuestAccessForbidden, "%s does not let guests in", st.Room().ID)
	}
	return nil
}

// Knock asks to be let in. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias
func (s *Users) Knock(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	shown, err := s.people.Profile(ctx, by.User)
	if err != nil {
		return err
	}
	return s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
		if !st.Room().Version.Knock {
			return matrix.Errorf(matrix.Forbidden, "rooms of version %s have no knocking", st.Room().Version.ID)
		}
		before, _, err := st.Member(ctx, by.User)
		if err != nil || before == event.Knock {
			return err
		}
		return member.Set(ctx, st, by.User, member.Change{Target: by.User, Membership: event.Knock, Reason: reason, Profile: shown})
	})
}
