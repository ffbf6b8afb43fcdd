package resident

import (
	"context"

	"github.com/myelin-chat/myelin/event"
)

// MakeLeave makes the template of a leave: of who is in the room, rejects an invite or takes back a knock.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid
func (s *Host) MakeLeave(ctx context.Context, v Visit) (Template, error) {
	return s.template(ctx, v, event.Leave)
}

// SendLeave takes a leave into its room.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid
func (s *Host) SendLeave(ctx context.Context, in Sent) error {
	_, err := s.enter(ctx, in, event.Leave)
	return err
}
