package local

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// roomsAtOnce is how many rooms of one user are changed at the same time.
const roomsAtOnce = 8

// ProfileChanged carries the profile of a user into the rooms that it is in.
//
// Two changes may be carried at once, the older one last. So the profile is read again afterwards, until it is the one
// that was carried: whoever carried an old one finds the newer then.
// https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information
func (s *Users) ProfileChanged(ctx context.Context, user matrix.UserID) error {
	shown, err := s.people.Profile(ctx, user)
	for err == nil {
		failed := s.carry(ctx, user, shown)
		carried := shown
		shown, err = s.people.Profile(ctx, user)
		if maps.Equal(shown, carried) || err != nil {
			return errors.Join(failed, err)
		}
	}
	return err
}

// carry makes all rooms that a user is in show this profile.
func (s *Users) carry(ctx context.Context, user matrix.UserID, shown member.Profile) error {
	change := member.Change{Target: user, Membership: event.Join, Profile: shown}
	return s.everywhere(ctx, user, func(ctx context.Context, m rooms.Membership) error {
		if m.Membership != event.Join {
			return nil
		}
		return s.owners.Do(ctx, m.Room, func(ctx context.Context, st *owner.Step) error {
			now, ev, err := st.Member(ctx, user)
			if err != nil || now != event.Join {
				return err
			}
			if shown.IsShownBy(ev) {
				return nil
			}
			return member.Set(ctx, st, user, change)
		})
	})
}

// LeaveAll takes a user out of all rooms, and rejects its invites: its account ends.
func (s *Users) LeaveAll(ctx context.Context, user matrix.UserID) error {
	return s.everywhere(ctx, user, func(ctx context.Context, m rooms.Membership) error {
		switch m.Membership {
		case event.Join, event.Invite, event.Knock:
			return s.leaveAnyway(ctx, user, m)
		}
		return nil
	})
}

// leaveAnyway takes a user out of a room. Where this server is not in the room, no other is told.
func (s *Users) leaveAnyway(ctx context.Context, user matrix.UserID, m rooms.Membership) error {
	standing, err := s.receiver.Standing(ctx, user, m.Room)
	if err == nil && !standing.Resident && m.Membership != event.Join {
		return s.receiver.Left(ctx, user, m.Room, nil)
	}
	if err != nil {
		return err
	}
	return s.Leave(ctx, matrix.Requester{Account: user, User: user}, m.Room, "")
}

// everywhere does something in each room of a user. A room that fails does not keep the others from it.
func (s *Users) everywhere(ctx context.Context, user matrix.UserID, do func(context.Context, rooms.Membership) error) error {
	all, err := rooms.MembershipsOfUser(ctx, s.db, user, 0)
	if err != nil {
		return fmt.Errorf("find the rooms of %s: %w", user, err)
	}
	failed := make([]error, len(all))
	var group errgroup.Group
	group.SetLimit(roomsAtOnce)
	for i, m := range all {
		group.Go(func() error {
			failed[i] = do(ctx, m)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return errors.Join(failed...)
}
