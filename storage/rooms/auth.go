package rooms

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// An AuthNode is an accepted state event of a room, with its auth events.
type AuthNode struct {
	Num  int64
	Key  event.Key
	Auth []int64
}

// EachAuthNode calls f with every accepted state event of a room, in the order of their numbers.
func EachAuthNode(ctx context.Context, q storage.Querier, roomNum int64, f func(AuthNode) error) error {
	return storage.Each(ctx, q, func(rows storage.Rows) error {
		var n AuthNode
		var auth string
		if err := rows.Scan(&n.Num, &n.Key.Type, &n.Key.StateKey, &auth); err != nil {
			return err
		}
		var err error
		if n.Auth, err = numbersIn(auth); err != nil {
			return fmt.Errorf("auth events of event %d: %w", n.Num, err)
		}
		return f(n)
	}, `
		SELECT event_num, type, state_key, auth FROM events
		WHERE room_num = $1 AND auth IS NOT NULL ORDER BY event_num`, roomNum)
}

// ElsewhereByID returns those of the IDs that are of events of other rooms.
func ElsewhereByID(ctx context.Context, q storage.Querier, room Room, ids []matrix.EventID) ([]matrix.EventID, error) {
	set := storage.Set(ids...)
	return storage.Collect[matrix.EventID](ctx, q, `
		SELECT DISTINCT event_id FROM events
		WHERE event_id IN (SELECT key FROM json_each($1)) AND room_num <> $2`, set, room.Num)
}

// WaitingFor returns the redactions of a room that wait for a target.
func WaitingFor(ctx context.Context, q storage.Querier, roomNum int64, target matrix.EventID) ([]int64, error) {
	return storage.Collect[int64](ctx, q, `
		SELECT event_num FROM pending_redactions WHERE room_num = $1 AND redacts = $2 ORDER BY event_num`, roomNum, string(target))
}

// A StateRow is what a state is made of: an event by number, and its place in the state.
type StateRow struct {
	ID       matrix.EventID
	Num      int64
	Key      event.Key
	Accepted bool
}

// StateRowsByID returns those of the events that are stored, in no order. What is not state is not accepted; what was set
// aside nobody has judged yet, and is left out.
func StateRowsByID(ctx context.Context, q storage.Querier, roomNum int64, ids []matrix.EventID) ([]StateRow, error) {
	scan := func(r *StateRow, rows storage.Rows) error {
		var key, auth *string
		err := rows.Scan(&r.ID, &r.Num, &r.Key.Type, &key, &auth)
		r.Key.StateKey, r.Accepted = orZero(key), auth != nil
		return err
	}
	return storage.List(ctx, q, scan, `
		SELECT event_id, event_num, type, state_key, auth FROM events
		WHERE event_id IN (SELECT key FROM json_each($1)) AND room_num = $2 AND kind <> $3`,
		storage.Set(ids...), roomNum, int64(Aside))
}
