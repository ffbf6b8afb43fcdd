package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A Receipt says how far a user has read. There is one for each (room, user, type, thread).
type Receipt struct {
	RoomNum  int64
	User     matrix.UserID
	Type     string // m.read or m.read.private, which only its user may see
	Thread   string // root event ID or "main"; empty if unthreaded
	Event    matrix.EventID
	TS       int64
	Position storage.Position
}

// Receipts returns the receipts of a room that changed in a span, oldest change first.
func Receipts(ctx context.Context, q storage.Querier, roomNum int64, span storage.Span) ([]Receipt, error) {
	return storage.List(ctx, q, (*Receipt).scan, `
		SELECT `+receiptColumns+` FROM receipts
		WHERE room_num = $1 AND position > $2 AND position <= $3 ORDER BY position`,
		roomNum, int64(span.After), int64(span.UpTo))
}

// ReceiptsOfUser returns a user's own receipts in a room.
func ReceiptsOfUser(ctx context.Context, q storage.Querier, roomNum int64, user matrix.UserID) ([]Receipt, error) {
	return storage.List(ctx, q, (*Receipt).scan, `
		SELECT `+receiptColumns+` FROM receipts
		WHERE room_num = $1 AND user_id = $2 ORDER BY position`, roomNum, string(user))
}

const receiptColumns = `room_num, user_id, type, thread, event_id, ts, position`

func (r *Receipt) scan(rows storage.Rows) error {
	return rows.Scan(&r.RoomNum, &r.User, &r.Type, &r.Thread, &r.Event, &r.TS, &r.Position)
}
