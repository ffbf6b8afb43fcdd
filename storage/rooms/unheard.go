package rooms

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// An UnheardLeave is that a user of this server has rejected an invite, or taken back a knock, and no server of the room
// has heard of it.
type UnheardLeave struct {
	Room    Room
	User    matrix.UserID
	Servers []matrix.ServerName // that may be in the room
	SinceMS int64
}

var unheardTable = storage.NewTable("unheard_leaves", storage.Replace, `
	room_num BIGINT KEY, user_id TEXT KEY, servers TEXT, since_ms BIGINT`)

func (u *UnheardLeave) rows(it *storage.Item) {
	servers, err := json.Marshal(u.Servers)
	if err != nil {
		panic(err) // they are texts
	}
	it.Insert(unheardTable, u.Room.Num, string(u.User), string(servers), u.SinceMS)
}

// UnheardLeaves returns what others are still to hear of, longest first. Where the user has come to another membership
// meanwhile there is nothing to hear any more, and Over is set.
func UnheardLeaves(ctx context.Context, q storage.Querier, limit int) (unheard []UnheardLeave, over []UnheardLeave, err error) {
	err = storage.Each(ctx, q, func(rows storage.Rows) error {
		var u UnheardLeave
		var id, version, servers string
		var membership *string
		if err := rows.Scan(&u.Room.Num, &u.User, &servers, &u.SinceMS, &id, &version, &membership); err != nil {
			return err
		}
		var err error
		if u.Room, err = makeRoom(u.Room.Num, id, version); err != nil {
			return err
		}
		if event.Membership(orZero(membership)) != event.Leave {
			over = append(over, u)
			return nil
		}
		unheard = append(unheard, u)
		return json.Unmarshal([]byte(servers), &unheard[len(unheard)-1].Servers)
	}, `
		SELECT u.room_num, u.user_id, u.servers, u.since_ms, r.room_id, r.version, m.membership
		FROM unheard_leaves u JOIN rooms r ON r.room_num = u.room_num
		LEFT JOIN memberships m ON m.room_num = u.room_num AND m.user_id = u.user_id
		ORDER BY u.since_ms, u.room_num, u.user_id LIMIT $1`, int64(limit))
	return unheard, over, err
}

// LeaveHeard notes that nobody is to hear of a leave any more.
type LeaveHeard struct {
	Leave UnheardLeave
}

// Rows implements storage.Write.
func (w LeaveHeard) Rows(it *storage.Item) {
	it.Exec(`DELETE FROM unheard_leaves WHERE room_num = $1 AND user_id = $2 AND since_ms = $3`,
		w.Leave.Room.Num, string(w.Leave.User), w.Leave.SinceMS)
}
