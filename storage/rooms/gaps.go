package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// HasGaps says whether history of a room is missing anywhere.
func HasGaps(ctx context.Context, q storage.Querier, roomNum int64) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `SELECT event_num FROM gaps WHERE room_num = $1 LIMIT 1`, roomNum)
	return found, err
}

// IsLacked says whether an event that is not here is missing before any that are, and whether one of these is in
// the timeline.
func IsLacked(ctx context.Context, q storage.Querier, roomNum int64, id matrix.EventID) (lacked, shown bool, err error) {
	most, _, err := storage.One[int64](ctx, q, `
		SELECT COALESCE(MAX(CASE WHEN e.anchor IS NULL THEN 1 ELSE 2 END), 0)
		FROM gaps g JOIN events e ON e.event_num = g.event_num
		WHERE g.room_num = $1 AND g.prev_id = $2`, roomNum, string(id))
	return most > 0, most > 1, err
}

// LackedBy returns what is missing before an event.
func LackedBy(ctx context.Context, q storage.Querier, roomNum, eventNum int64) ([]matrix.EventID, error) {
	return storage.Collect[matrix.EventID](ctx, q, `
		SELECT prev_id FROM gaps WHERE room_num = $1 AND event_num = $2 ORDER BY prev_id`, roomNum, eventNum)
}

// A Gap is where history is missing: before the timeline event at At.
type Gap struct {
	Event int64
	At    Order
	Lacks matrix.EventID
}

// GapsNear returns the gaps of a room before the timeline event at or after a place, newest first, and, if there
// are none, the first after it.
func GapsNear(ctx context.Context, q storage.Querier, roomNum int64, at Order, limit int) ([]Gap, error) {
	const columns = `
		SELECT g.event_num, e.anchor, e.sub, g.prev_id FROM gaps g JOIN events e ON e.event_num = g.event_num
		WHERE g.room_num = $1 AND `
	var found []Gap
	read := func(where string) error {
		return storage.Each(ctx, q, func(rows storage.Rows) error {
			var g Gap
			err := rows.Scan(&g.Event, &g.At.Anchor, &g.At.Sub, &g.Lacks)
			found = append(found, g)
			return err
		}, columns+where, roomNum, int64(at.Anchor), at.Sub, int64(limit))
	}
	err := read(`(e.anchor, e.sub) <= ($2, $3) ORDER BY e.anchor DESC, e.sub DESC, g.prev_id LIMIT $4`)
	if err == nil && len(found) == 0 {
		err = read(`(e.anchor, e.sub) > ($2, $3) ORDER BY e.anchor, e.sub, g.prev_id LIMIT $4`)
	}
	return found, err
}
