package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
)

// History that is filled in before a live event comes in stretches, which lie apart in the room's order, so that what is
// missing between two of them has its place too. The first stretch begins at the live event; another begins where
// somebody has asked for an older event without those between.
const (
	stretchEvents = 1 << 32 // subs of one stretch: it is never full
	stretchesLeft = 1 << 12 // between a stretch and the first that is begun below it
)

// Stretch is the number of the stretch that a place is in: 0 for the live event itself, and more the older it is.
func (o Order) Stretch() int64 { return -o.Sub / stretchEvents }

// LowestOf returns the smallest Sub that is in use in the stretch that a timeline event is in.
func LowestOf(ctx context.Context, q storage.Querier, roomNum int64, at Order) (int64, error) {
	sub, _, err := storage.One[int64](ctx, q, `
		SELECT sub FROM events WHERE room_num = $1 AND anchor = $2 AND sub > $3 ORDER BY sub LIMIT 1`,
		roomNum, int64(at.Anchor), -(at.Stretch()+1)*stretchEvents)
	return min(sub, 0), err
}

// StretchBelow returns the place where a new stretch may begin, older than the one that a timeline event is in and newer
// than the one that follows that now. It is false if there is no place between the two.
func StretchBelow(ctx context.Context, q storage.Querier, roomNum int64, at Order) (Order, bool, error) {
	own := at.Stretch()
	next, found, err := storage.One[int64](ctx, q, `
		SELECT sub FROM events WHERE room_num = $1 AND anchor = $2 AND sub <= $3 ORDER BY sub DESC LIMIT 1`,
		roomNum, int64(at.Anchor), -(own+1)*stretchEvents)
	if err != nil {
		return Order{}, false, err
	}
	number := own + stretchesLeft
	if found {
		number = (own + Order{Sub: next}.Stretch()) / 2
	}
	begin := Order{Anchor: at.Anchor, Sub: -number * stretchEvents}
	return begin, number > own && begin.Stretch() == number, nil
}
