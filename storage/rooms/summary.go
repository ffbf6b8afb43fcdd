package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// maxHeroes is how many users a room's summary names.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
const maxHeroes = 5

// Heroes returns the users after whom a room without a name is called, as user sees it: the first who
// joined or were invited; if there is none, the first who left or were banned.
func Heroes(ctx context.Context, q storage.Querier, roomNum int64, user matrix.UserID) ([]matrix.UserID, error) {
	present, err := storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships
		WHERE room_num = $1 AND user_id <> $2 AND membership IN ('join', 'invite')
		ORDER BY position LIMIT $3`, roomNum, string(user), maxHeroes)
	if err != nil || len(present) > 0 {
		return present, err
	}
	return storage.Collect[matrix.UserID](ctx, q, `
		SELECT user_id FROM memberships
		WHERE room_num = $1 AND user_id <> $2 AND membership IN ('leave', 'ban')
		ORDER BY position LIMIT $3`, roomNum, string(user), maxHeroes)
}
