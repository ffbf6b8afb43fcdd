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

// Lacked returns those of some events that are missing before any that are here, and whether one of these is in the
// timeline.
func Lacked(ctx context.Context, q storage.Querier, roomNum int64, ids []matrix.EventID) (map[matrix.EventID]bool, error) {
	lacked := make(map[matrix.EventID]bool)
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var id matrix.EventID
		var shown int64
		err := rows.Scan(&id, &shown)
		lacked[id] = shown > 0
		return err
	}, `
		SELECT g.prev_id, COUNT(e.anchor) FROM gaps g JOIN events e ON e.event_num = g.event_num
		WHERE g.room_num = $1 AND g.prev_id IN (SELECT key FROM json_each($2))
		GROUP BY g.prev_id`, roomNum, storage.Set(ids...))
	return lacked, err
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
	scan := func(g *Gap, rows storage.Rows) error { return rows.Scan(&g.Event, &g.At.Anchor, &g.At.Sub, &g.Lacks) }
	read := func(where string) ([]Gap, error) {
		return storage.List(ctx, q, scan, columns+where, roomNum, int64(at.Anchor), at.Sub, int64(limit))
	}
	found, err := read(`(e.anchor, e.sub) <= ($2, $3) ORDER BY e.anchor DESC, e.sub DESC, g.prev_id LIMIT $4`)
	if err == nil && len(found) == 0 {
		found, err = read(`(e.anchor, e.sub) > ($2, $3) ORDER BY e.anchor, e.sub, g.prev_id LIMIT $4`)
	}
	return found, err
}
