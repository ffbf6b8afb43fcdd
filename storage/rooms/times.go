package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
)

// A Moment is a time in a room, and a direction to look in from there.
type Moment struct {
	AtMS     int64 // milliseconds since 1970
	Backward bool
}

// Includes says whether an event of a time lies in the direction of m, that very time included.
func (m Moment) Includes(ms int64) bool {
	if m.Backward {
		return ms <= m.AtMS
	}
	return ms >= m.AtMS
}

// A TimeQuery asks for events of a room's timeline in the order of the times that they carry, those of the same time in
// the order of the room. All turns round if it goes backward.
type TimeQuery struct {
	Moment
	Beyond *Event // where to go on: behind this one; nil: at the moment, events of that very time included
	Limit  int
}

// ByTime returns timeline events nearest in time first.
func ByTime(ctx context.Context, q storage.Querier, room Room, t TimeQuery) ([]*Event, error) {
	const forward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND ts IS NOT NULL AND (ts, anchor, sub) > ($2, $3, $4)
		ORDER BY ts, anchor, sub LIMIT $5`
	const backward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND ts IS NOT NULL AND (ts, anchor, sub) < ($2, $3, $4)
		ORDER BY ts DESC, anchor DESC, sub DESC LIMIT $5`
	text, ms, at := forward, t.AtMS, Order{}
	if t.Backward {
		text, at = backward, Order{Anchor: 1<<63 - 1}
	}
	if t.Beyond != nil {
		ms, at = t.Beyond.OriginServerTS, t.Beyond.Order
	}
	return selectEvents(ctx, q, room, text, room.Num, ms, int64(at.Anchor), at.Sub, int64(t.Limit))
}
