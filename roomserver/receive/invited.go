package receive

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// receiveAside takes from some events those that are of rooms that this server is not in, but has an invite to, or has
// knocked on: others tell of the end of these. It returns the rest, which only a room that this server has been in can take.
func (s *Receiver) receiveAside(ctx context.Context, room rooms.Room, r *reception, events []*event.Event) (rest []*event.Event, err error) {
	for _, ev := range events {
		ended, err := s.turnedAway(ctx, room, ev)
		if err != nil {
			return nil, err
		}
		if ended {
			r.note(owner.Result{Event: ev.ID, Outcome: owner.Accepted})
		} else {
			rest = append(rest, ev)
		}
	}
	if len(rest) == 0 {
		return nil, nil
	}
	_, err = s.owners.Current(ctx, room.ID)
	return rest, err
}

// turnedAway ends an invite or a knock of a room that this server is not in, if the event is the leave or ban of the user.
// Nobody here can tell who may do so. Who names the invite or the knock among the auth events comes after it, as an old
// kick by who has invited the user again does not, and has seen it in the room, where alone the ID of a knock is known. An
// invite is taken back by the inviter.
func (s *Receiver) turnedAway(ctx context.Context, room rooms.Room, ev *event.Event) (bool, error) {
	if m := ev.Membership(); !s.owners.IsLocal(ev.Target()) || m != event.Leave && m != event.Ban {
		return false, nil
	}
	before, err := s.standing(ctx, room, ev.Target())
	if err != nil || before.invite == nil || before.Membership == event.Invite && before.Inviter != ev.Sender {
		return false, err
	}
	if !slices.Contains(ev.AuthEvents, before.invite.ID) {
		return false, err
	}
	resident, err := s.SetAside(ctx, Aside{Event: ev, ends: before.invite.Num})
	if errors.Is(err, rooms.ErrAsideOver) {
		return false, nil
	}
	return !resident && err == nil, err
}
