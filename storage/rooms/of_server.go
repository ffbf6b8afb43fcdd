package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// UsersOf returns users of a server that have, or once had, any membership of a room: those that are joined first.
func UsersOf(ctx context.Context, q storage.Querier, roomNum int64, server matrix.ServerName, limit int) ([]matrix.UserID, error) {
	return storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships WHERE room_num = $1 AND server = $2
		ORDER BY CASE membership WHEN 'join' THEN 0 ELSE 1 END, position LIMIT $3`,
		roomNum, string(server), int64(limit))
}

// UsersMoved returns the users whose membership of a room came with news: not those of whom it was learnt with the members of
// a join.
func UsersMoved(ctx context.Context, q storage.Querier, roomNum int64) ([]matrix.UserID, error) {
	return storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships WHERE room_num = $1 AND position > 0`, roomNum)
}

// JoinedOf returns some of the users of a server that are joined to a room.
func JoinedOf(ctx context.Context, q storage.Querier, roomNum int64, server matrix.ServerName, limit int) ([]matrix.UserID, error) {
	return storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships
		WHERE room_num = $1 AND server = $2 AND membership = 'join'
		ORDER BY user_id LIMIT $3`, roomNum, string(server), int64(limit))
}

// HasJoined says whether a server has a user in a room.
func HasJoined(ctx context.Context, q storage.Querier, roomNum int64, server matrix.ServerName) (bool, error) {
	joined, err := JoinedOf(ctx, q, roomNum, server, 1)
	return len(joined) > 0, err
}

// ServersOf returns the servers that have a user in a room.
func ServersOf(ctx context.Context, q storage.Querier, roomNum int64) ([]matrix.ServerName, error) {
	return storage.Collect[matrix.ServerName](ctx, q, `
		SELECT DISTINCT server FROM memberships WHERE room_num = $1 AND membership = 'join' ORDER BY server`, roomNum)
}

// JoinedServers returns some of the servers that have a user in a room. It goes from one server to the next in the index: most
// users of a large room may be of one.
func JoinedServers(ctx context.Context, q storage.Querier, roomNum int64, limit int) ([]matrix.ServerName, error) {
	return storage.Collect[matrix.ServerName](ctx, q, `
		WITH RECURSIVE found(server) AS (
			SELECT MIN(server) FROM memberships WHERE room_num = $1 AND membership = 'join'
			UNION ALL
			SELECT (SELECT MIN(m.server) FROM memberships m
				WHERE m.room_num = $1 AND m.server > found.server AND m.membership = 'join')
			FROM found WHERE found.server IS NOT NULL
		)
		SELECT server FROM found WHERE server IS NOT NULL LIMIT $2`, roomNum, int64(limit))
}

// RoomsOfEvent returns the numbers of rooms that have an event with this ID: one, but for rooms of old versions, where
// others choose the IDs.
func RoomsOfEvent(ctx context.Context, q storage.Querier, id matrix.EventID, limit int) ([]int64, error) {
	return storage.Collect[int64](ctx, q, `
		SELECT room_num FROM events WHERE event_id = $1 ORDER BY room_num LIMIT $2`, string(id), int64(limit))
}

// IsJoinedAnywhere says whether a user is joined to any room.
func IsJoinedAnywhere(ctx context.Context, q storage.Querier, user matrix.UserID) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `
		SELECT room_num FROM memberships WHERE user_id = $1 AND membership = 'join' LIMIT 1`, string(user))
	return found, err
}
