package rooms

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// maxHeroes is how many users a room's summary names.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync
const maxHeroes = 5

// Heroes are the users after whom a room without a name is called: enough of them to leave any one out, who is asking.
type Heroes struct {
	present []matrix.UserID // the first who joined or were invited
	gone    []matrix.UserID // the first who left or were banned; nil if whoever asks has others that are present
}

// HeroesOf returns the heroes of a room as its members are now.
func HeroesOf(ctx context.Context, q storage.Querier, roomNum int64) (h Heroes, err error) {
	const first = `
		SELECT user_id FROM memberships
		WHERE room_num = $1 AND membership IN (SELECT key FROM json_each($2))
		ORDER BY position, user_id LIMIT $3`
	h.present, err = storage.Collect[matrix.UserID](ctx, q, first, roomNum, storage.Set("join", "invite"), maxHeroes+1)
	if err != nil || len(h.present) > 1 {
		return h, err
	}
	h.gone, err = storage.Collect[matrix.UserID](ctx, q, first, roomNum, storage.Set("leave", "ban"), maxHeroes+1)
	return h, err
}

// For returns the heroes as a user sees them: others who are in the room; if there is none, others who were.
func (h Heroes) For(user matrix.UserID) []matrix.UserID {
	for _, list := range [][]matrix.UserID{h.present, h.gone} {
		others := slices.DeleteFunc(slices.Clone(list), func(u matrix.UserID) bool { return u == user })
		if len(others) > 0 {
			return others[:min(len(others), maxHeroes)]
		}
	}
	return nil
}
