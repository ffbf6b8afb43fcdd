package resident

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// MakeKnock makes the template of a knock, if the user may knock on the room now.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_knockroomiduserid
func (s *Host) MakeKnock(ctx context.Context, v Visit) (Template, error) {
	return s.template(ctx, v, event.Knock)
}

// SendKnock takes a knock into its room, and returns the state by which who knocks can tell what the room is.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid
func (s *Host) SendKnock(ctx context.Context, in Sent) ([]*rooms.Event, error) {
	knock, err := s.enter(ctx, in, event.Knock)
	if err != nil {
		return nil, err
	}
	room, err := s.owners.Room(ctx, in.Room)
	if err != nil {
		return nil, err
	}
	return shown(ctx, s.owners.StateAt(room, knock.StateBefore))
}

// shown is what of a state those may know who are outside.
func shown(ctx context.Context, in committed.State) ([]*rooms.Event, error) {
	found, err := in.Events(ctx, event.StrippedKeys()...)
	if err != nil {
		return nil, err
	}
	var state []*rooms.Event
	for _, ev := range found {
		if ev != nil {
			state = append(state, ev)
		}
	}
	return state, nil
}
