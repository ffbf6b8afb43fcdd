package rooms

import (
	"cmp"
	"context"
	"slices"

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

// Most live events carry a time that is not before that of any earlier one of the room: these are timely, and are found by
// their place in it, so that a send costs nothing. All others, history among them, have their time in an index.

// isTimed says whether the time of an event in the timeline is in the index.
func (e *NewEvent) isTimed() bool { return e.Kind != Live || e.Untimely }

// ByTime returns timeline events nearest in time first.
func ByTime(ctx context.Context, q storage.Querier, room Room, t TimeQuery) ([]*Event, error) {
	timed, err := timedEvents(ctx, q, room, t)
	if err != nil {
		return nil, err
	}
	timely, err := timelyEvents(ctx, q, room, t)
	if err != nil {
		return nil, err
	}
	all := append(timed, timely...)
	slices.SortFunc(all, func(a, b *Event) int {
		c := cmp.Or(cmp.Compare(a.OriginServerTS, b.OriginServerTS), a.Order.Compare(b.Order))
		if t.Backward {
			return -c
		}
		return c
	})
	return all[:min(len(all), t.Limit)], nil
}

// from is where a query begins: behind an event of this time and place.
func (t TimeQuery) from() (ms int64, at Order) {
	switch {
	case t.Beyond != nil:
		return t.Beyond.OriginServerTS, t.Beyond.Order
	case t.Backward:
		return t.AtMS, Order{Anchor: 1<<63 - 1}
	}
	return t.AtMS, Order{}
}

// timedEvents are those of the index.
func timedEvents(ctx context.Context, q storage.Querier, room Room, t TimeQuery) ([]*Event, error) {
	const forward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND ts IS NOT NULL AND (ts, anchor, sub) > ($2, $3, $4)
		ORDER BY ts, anchor, sub LIMIT $5`
	const backward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND ts IS NOT NULL AND (ts, anchor, sub) < ($2, $3, $4)
		ORDER BY ts DESC, anchor DESC, sub DESC LIMIT $5`
	text := forward
	if t.Backward {
		text = backward
	}
	ms, at := t.from()
	return selectEvents(ctx, q, room, text, room.Num, ms, int64(at.Anchor), at.Sub, int64(t.Limit))
}

// timelyEvents are the others. Rows leave the inner query in its order, one by one, as in firstTimely.
func timelyEvents(ctx context.Context, q storage.Querier, room Room, t TimeQuery) ([]*Event, error) {
	const forward = `
		SELECT ` + eventColumns + ` FROM (
			SELECT ` + eventColumns + `, ts FROM events
			WHERE room_num = $1 AND position IS NOT NULL AND anchor >= $2
			ORDER BY anchor, sub LIMIT $3) AS few
		WHERE ts IS NULL LIMIT $4`
	const backward = `
		SELECT ` + eventColumns + ` FROM (
			SELECT ` + eventColumns + `, ts FROM events
			WHERE room_num = $1 AND position IS NOT NULL AND anchor < $2
			ORDER BY anchor DESC, sub DESC LIMIT $3) AS few
		WHERE ts IS NULL LIMIT $4`
	ms, at := t.from()
	first, err := firstTimely(ctx, q, room, func(e *Event) bool {
		c := cmp.Or(cmp.Compare(e.OriginServerTS, ms), e.Order.Compare(at))
		return c > 0 || c == 0 && t.Backward
	})
	if err != nil {
		return nil, err
	}
	text := forward
	if t.Backward {
		text = backward
	}
	return selectEvents(ctx, q, room, text, room.Num, int64(first), int64(maxUntimely+t.Limit), int64(t.Limit))
}

// maxUntimely bounds the untimely events in a row over which a timely one is looked for. Behind more of them, which
// somebody has to send on purpose, none is found.
const maxUntimely = 4096

// firstTimely returns the position of the first timely event for which is is true, as it then is for all that follow; the
// end of all positions if there is none. It looks at one event for each halving of the positions. Rows leave the inner
// query in its order, one by one; were they ordered once more, all of them would be read.
func firstTimely(ctx context.Context, q storage.Querier, room Room, is func(*Event) bool) (storage.Position, error) {
	const end = storage.Position(1<<63 - 1)
	last, _, err := storage.One[int64](ctx, q, `
		SELECT anchor FROM events WHERE room_num = $1 AND anchor IS NOT NULL ORDER BY anchor DESC, sub DESC LIMIT 1`, room.Num)
	if err != nil {
		return 0, err
	}
	found := end
	for low, high := storage.Position(0), storage.Position(last); low < high; {
		middle := low + (high-low)/2
		next, err := selectEvents(ctx, q, room, `
			SELECT `+eventColumns+` FROM (
				SELECT `+eventColumns+`, ts FROM events
				WHERE room_num = $1 AND anchor > $2 AND anchor <= $3 AND position IS NOT NULL
				ORDER BY anchor, sub LIMIT $4) AS few
			WHERE ts IS NULL LIMIT 1`, room.Num, int64(middle), int64(high), int64(maxUntimely))
		switch {
		case err != nil:
			return 0, err
		case len(next) == 0:
			high = middle
		case is(next[0]):
			found, high = next[0].Position, middle
		default:
			low = next[0].Position
		}
	}
	return found, nil
}

// LatestTimely returns the time of the last timely event of a room; 0 if there is none.
func LatestTimely(ctx context.Context, q storage.Querier, room Room) (int64, error) {
	found, err := selectEvents(ctx, q, room, `
		SELECT `+eventColumns+` FROM events
		WHERE room_num = $1 AND anchor IS NOT NULL AND position IS NOT NULL AND ts IS NULL
		ORDER BY anchor DESC, sub DESC LIMIT 1`, room.Num)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0].OriginServerTS, nil
}
