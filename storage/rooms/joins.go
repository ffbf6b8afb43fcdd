package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A Join says that a user who was not in a room came in.
type Join struct {
	User     matrix.UserID
	Room     matrix.RoomID
	Position storage.Position
}

// JoinsIn returns the joins by live events in a span, oldest first. Events of who was in the room already, as those that
// change a name, are no joins.
func JoinsIn(ctx context.Context, q storage.Querier, span storage.Span) ([]Join, error) {
	scan := func(j *Join, rows storage.Rows) error { return rows.Scan(&j.User, &j.Room, &j.Position) }
	return storage.List(ctx, q, scan, `
		SELECT h.user_id, r.room_id, h.position
		FROM events e
		JOIN membership_history h ON h.room_num = e.room_num AND h.user_id = e.state_key AND h.position = e.position
		JOIN rooms r ON r.room_num = e.room_num
		WHERE e.position > $1 AND e.position <= $2 AND e.position IS NOT NULL
		AND e.type = 'm.room.member' AND h.membership = 'join'
		AND COALESCE((
			SELECT p.membership FROM membership_history p
			WHERE p.room_num = h.room_num AND p.user_id = h.user_id AND p.position < h.position
			ORDER BY p.position DESC LIMIT 1), '') <> 'join'
		ORDER BY h.position`, int64(span.After), int64(span.UpTo))
}
