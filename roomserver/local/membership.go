package local

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Move is a change of somebody's membership by somebody else.
type Move struct {
	Room   matrix.RoomID
	Target matrix.UserID
	Reason string
}

// Invite invites a user. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite
func (s *Users) Invite(ctx context.Context, by matrix.Requester, in Move) error {
	if err := s.checkInvitee(by, in.Target); err != nil {
		return err
	}
	if err := s.people.WantsInvites(ctx, in.Target); err != nil {
		return err
	}
	shown, err := s.people.Profile(ctx, in.Target)
	if err != nil {
		return err
	}
	invited := member.Change{Target: in.Target, Membership: event.Invite, Reason: in.Reason, Profile: shown}
	return s.move(ctx, by, in.Room, invited, func(before event.Membership) error {
		switch before {
		case event.Join:
			return matrix.Errorf(matrix.Forbidden, "%s is already in %s", in.Target, in.Room)
		case event.Ban:
			return matrix.Errorf(matrix.Forbidden, "%s is banned from %s", in.Target, in.Room)
		}
		return nil
	})
}

func (s *Users) checkInvitee(by matrix.Requester, target matrix.UserID) error {
	switch {
	case by.Guest:
		return matrix.Errorf(matrix.GuestAccessForbidden, "guests may not invite")
	case !s.owners.IsLocal(target):
		return matrix.Errorf(matrix.Unknown, "cannot invite %s: this server does not reach other servers", target).WithStatus(502)
	}
	return nil
}

// Kick makes a user leave. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick
func (s *Users) Kick(ctx context.Context, by matrix.Requester, in Move) error {
	kicked := member.Change{Target: in.Target, Membership: event.Leave, Reason: in.Reason}
	return s.move(ctx, by, in.Room, kicked, func(before event.Membership) error {
		switch before {
		case event.Join, event.Invite, event.Knock:
			return nil
		case event.Ban:
			return matrix.Errorf(matrix.BadState, "%s is banned from %s: kicking would lift the ban", in.Target, in.Room)
		}
		return matrix.Errorf(matrix.Forbidden, "%s is not in %s", in.Target, in.Room)
	})
}

// Ban keeps a user out. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban
func (s *Users) Ban(ctx context.Context, by matrix.Requester, in Move) error {
	banned := member.Change{Target: in.Target, Membership: event.Ban, Reason: in.Reason}
	return s.move(ctx, by, in.Room, banned, func(event.Membership) error { return nil })
}

// Unban lifts a ban. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban
func (s *Users) Unban(ctx context.Context, by matrix.Requester, in Move) error {
	unbanned := member.Change{Target: in.Target, Membership: event.Leave, Reason: in.Reason}
	return s.move(ctx, by, in.Room, unbanned, func(before event.Membership) error {
		if before != event.Ban {
			return matrix.Errorf(matrix.BadState, "%s is not banned from %s", in.Target, in.Room)
		}
		return nil
	})
}

// move makes a change of somebody else's membership, if that may follow the one before.
func (s *Users) move(ctx context.Context, by matrix.Requester, room matrix.RoomID, c member.Change, mayFollow func(before event.Membership) error) error {
	err := s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
		if err := st.MustBeJoined(ctx, by.User); err != nil {
			return err
		}
		before, _, err := st.Member(ctx, c.Target)
		if err != nil {
			return err
		}
		if err := mayFollow(before); err != nil {
			return err
		}
		return member.Set(ctx, st, by.User, c)
	})
	return notThere(room, err)
}

// Leave leaves a room, rejects an invite to it, or takes back a knock. Who has left already has left.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave
func (s *Users) Leave(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	outside := false
	err := s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
		before, _, err := st.Member(ctx, by.User)
		if err != nil {
			return err
		}
		outside = before == "" || before == event.Leave
		switch before {
		case event.Leave:
			return nil
		case event.Ban:
			return matrix.Errorf(matrix.Forbidden, "%s is banned from %s", by.User, room)
		case "":
			return matrix.Errorf(matrix.Forbidden, "%s is not in %s", by.User, room)
		}
		return member.Set(ctx, st, by.User, member.Change{Target: by.User, Membership: event.Leave, Reason: reason})
	})
	if outside {
		if dropped, dropErr := s.receiver.DropAside(ctx, by.User, room); dropped || dropErr != nil {
			return dropErr
		}
	}
	return notThere(room, err)
}

// Forget hides a room that its user has left.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget
func (s *Users) Forget(ctx context.Context, by matrix.Requester, id matrix.RoomID) error {
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return notThere(id, err)
	}
	m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, by.User)
	switch {
	case err != nil:
		return fmt.Errorf("find the membership of %s in %s: %w", by.User, id, err)
	case !found:
		return matrix.Errorf(matrix.Forbidden, "%s has never been in %s", by.User, id)
	case m.Membership != event.Leave && m.Membership != event.Ban:
		return matrix.Errorf(matrix.Unknown, "leave %s before you forget it", id).WithStatus(400)
	case m.Forgotten:
		return nil
	}
	_, err = s.db.Commit(ctx, rooms.Forget{Membership: m})
	return err
}

// MemberContent makes the content of the event by which a user of this server comes or goes.
func (s *Users) MemberContent(ctx context.Context, user matrix.UserID, m event.Membership, in JoinRoom) ([]byte, error) {
	change := member.Change{Target: user, Membership: m, Reason: in.Reason, Extra: in.Extra}
	if m != event.Leave {
		var err error
		if change.Profile, err = s.people.Profile(ctx, user); err != nil {
			return nil, err
		}
	}
	return change.Content()
}
