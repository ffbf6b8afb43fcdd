package servers

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
)

// The reads below are of tables that storage/rooms writes, for who follows the log.

// ReceiptsMoved returns the last position of the receipts in each room, by its number, that has any in a span. It looks at
// all receipts: for the start.
func ReceiptsMoved(ctx context.Context, q storage.Querier, after, upTo storage.Position) (map[int64]storage.Position, error) {
	moved := map[int64]storage.Position{}
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var room int64
		var last storage.Position
		err := rows.Scan(&room, &last)
		moved[room] = last
		return err
	}, `
		SELECT room_num, MAX(position) FROM receipts
		WHERE position > $1 AND position <= $2 AND type = 'm.read' GROUP BY room_num`, after, upTo)
	return moved, err
}

// NthNewest returns the position before the n newest live events of a room in a span; 0 if there are no more than n.
func NthNewest(ctx context.Context, q storage.Querier, room int64, after, upTo storage.Position, n int) (storage.Position, error) {
	p, _, err := storage.One[storage.Position](ctx, q, `
		SELECT position FROM events
		WHERE room_num = $1 AND anchor > $2 AND anchor <= $3 AND position IS NOT NULL
		ORDER BY anchor DESC, sub DESC LIMIT 1 OFFSET $4`, room, after, upTo, int64(n))
	return p, err
}

// NextEvent returns the position of the next live event of a room after a position; of any room, if the room is 0. It
// returns 0 if there is none.
func NextEvent(ctx context.Context, q storage.Querier, room int64, after storage.Position) (storage.Position, error) {
	text, args := `SELECT position FROM events WHERE position > $1 ORDER BY position LIMIT 1`, []any{after}
	if room != 0 {
		text = `
			SELECT position FROM events
			WHERE anchor > $1 AND room_num = $2 AND position IS NOT NULL ORDER BY anchor, sub LIMIT 1`
		args = append(args, room)
	}
	p, _, err := storage.One[storage.Position](ctx, q, text, args...)
	return p, err
}
