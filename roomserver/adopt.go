package roomserver

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// A JoinAnswer is what a resident server gives to one of ours that joins: its join event as it now
// stands, the state before it, and the auth chain of both. All have passed event.Parse and the check of
// their signatures.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
type JoinAnswer struct {
	Room      matrix.RoomID
	Version   *event.Version
	Join      *event.Event
	State     []*event.Event
	AuthChain []*event.Event
}

// Adopt takes a room into this server, with the join of its first user here.
func (s *Server) Adopt(ctx context.Context, in JoinAnswer) error {
	_, _ = ctx, in
	return errAlone
}
