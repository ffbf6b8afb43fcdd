package syncapi

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
)

// findPartial finds the rooms that a client which wants all members has not been shown: while they are partial it is not,
// and when they are whole it is shown them as new ones. Who loads members lazily has them at once.
func (b *builder) findPartial(ctx context.Context) error {
	if b.lazily() {
		return nil
	}
	since := b.since()
	if b.req.initial {
		since = b.look.position
	}
	joins, err := b.api.Rooms.PartialSince(ctx, since)
	if err != nil || len(joins) == 0 {
		return err
	}
	b.unseen = make(map[int64]storage.Position, len(joins))
	for _, j := range joins {
		if j.Until > b.look.position {
			j.Until = 0 // as of this answer it is still partial
		}
		b.unseen[j.RoomNum] = j.Until
	}
	return nil
}

// isPartial says whether a room is kept from the client.
func (b *builder) isPartial(room int64) bool {
	whole, unseen := b.unseen[room]
	return unseen && whole == 0
}
