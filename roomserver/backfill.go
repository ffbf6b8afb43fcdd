package roomserver

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Backfill asks other servers for up to limit events that come before a place in the timeline of a room, and
// stores them there. It returns how many are new.
// https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
func (s *Server) Backfill(ctx context.Context, room matrix.RoomID, before rooms.Order, limit int) (int, error) {
	_, _, _, _ = ctx, room, before, limit
	return 0, errAlone
}
