package rooms

import (
	"context"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
)

// Root names a state of a room: the same root is the same state, 0 the empty one.
type Root = statetree.NodeID

// RootAt returns the root of a room's current state as it was at a position; 0 if the room was not
// yet known to us then.
func RootAt(ctx context.Context, q storage.Querier, roomNum int64, at storage.Position) (statetree.NodeID, error) {
	root, _, err := storage.One[int64](ctx, q, `
		SELECT root FROM room_states WHERE room_num = $1 AND position <= $2
		ORDER BY position DESC LIMIT 1`, roomNum, int64(at))
	return statetree.NodeID(root), err
}

// FirstRoot returns the root of a room's state when its creator, or this server, had come in; 0 if nobody has.
func FirstRoot(ctx context.Context, q storage.Querier, roomNum int64) (statetree.NodeID, error) {
	roots, err := storage.Collect[int64](ctx, q, `
		SELECT root FROM room_states WHERE room_num = $1 ORDER BY position LIMIT 2`, roomNum)
	if err != nil || len(roots) == 0 {
		return 0, err
	}
	return statetree.NodeID(roots[len(roots)-1]), nil // the first is of the create event alone
}

// StateNodes calls found with the bytes of each stored tree node. Of those that do not exist it says nothing.
func StateNodes(ctx context.Context, q storage.Querier, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return storage.Each(ctx, q, func(rows storage.Rows) error {
		var id int64
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return err
		}
		return found(statetree.NodeID(id), data)
	}, `
		SELECT node_num, data FROM state_nodes
		WHERE node_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers(ids...))
}
