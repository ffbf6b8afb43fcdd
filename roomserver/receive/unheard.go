package receive

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxUnheard bounds the leaves that are told of at a time.
const maxUnheard = 500

// UnheardLeaves returns the leaves of users of this server from rooms that it is not in, of which no server of the room has
// heard yet, longest first. Those that do not matter any more are forgotten.
func (s *Receiver) UnheardLeaves(ctx context.Context) ([]rooms.UnheardLeave, error) {
	unheard, over, err := rooms.UnheardLeaves(ctx, s.db, maxUnheard)
	if err != nil {
		return nil, fmt.Errorf("find who has left unheard: %w", err)
	}
	for _, u := range over {
		if err := s.LeaveHeard(ctx, u); err != nil {
			return nil, err
		}
	}
	return unheard, nil
}

// LeaveHeard notes that a server of the room has heard of a leave, or that none is to be told any more.
func (s *Receiver) LeaveHeard(ctx context.Context, u rooms.UnheardLeave) error {
	if _, err := s.db.Commit(ctx, rooms.LeaveHeard{Leave: u}); err != nil {
		return fmt.Errorf("note that %s has left %s: %w", u.User, u.Room.ID, err)
	}
	return nil
}
