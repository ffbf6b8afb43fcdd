package rooms

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// UsersOf returns users of a server that have, or once had, any membership of a room: those that are joined first.
func UsersOf(ctx context.Context, q storage.Querier, roomNum int64, server matrix.ServerName, limit int) ([]matrix.UserID, error) {
	suffix := ":" + string(server)
	users, err := storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships
		WHERE room_num = $1 AND substr(user_id, length(user_id) - $2 + 1) = $3
		ORDER BY CASE membership WHEN 'join' THEN 0 ELSE 1 END, position LIMIT $4`,
		roomNum, int64(len(suffix)), suffix, int64(limit))
	// A server may have the name of another's port.
	return slices.DeleteFunc(users, func(u matrix.UserID) bool { return u.Server() != server }), err
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
