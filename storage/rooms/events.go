package rooms

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// eventColumns is what scanEvent reads.
const eventColumns = `event_num, room_num, event_id, kind, position, anchor, sub, state_before, state_with, redacted_by, relayed, after_gap, txn_device, txn_id, json`

// EventsByNumber returns events of a room in the order of nums, without those that are not there.
func EventsByNumber(ctx context.Context, q storage.Querier, room Room, nums []int64) ([]*Event, error) {
	found, err := selectEvents(ctx, q, room, `
		SELECT `+eventColumns+` FROM events
		WHERE event_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers(nums...))
	if err != nil {
		return nil, err
	}
	return inOrder(found, nums, func(e *Event) int64 { return e.Num }), nil
}

// EventsByID returns events of a room in the order of ids, without those that are not there.
func EventsByID(ctx context.Context, q storage.Querier, room Room, ids []matrix.EventID) ([]*Event, error) {
	set := storage.Set(ids...)
	found, err := selectEvents(ctx, q, room, `
		SELECT `+eventColumns+` FROM events
		WHERE event_id IN (SELECT key FROM json_each($1)) AND room_num = $2`, set, room.Num)
	if err != nil {
		return nil, err
	}
	return inOrder(found, ids, func(e *Event) matrix.EventID { return e.ID }), nil
}

// EventByID returns one event of a room.
func EventByID(ctx context.Context, q storage.Querier, room Room, id matrix.EventID) (*Event, bool, error) {
	found, err := selectEvents(ctx, q, room, `
		SELECT `+eventColumns+` FROM events WHERE event_id = $1 AND room_num = $2`, string(id), room.Num)
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	return found[0], true, nil
}

// Timeline returns the live events of a room with after < position <= upTo, newest first.
func Timeline(ctx context.Context, q storage.Querier, room Room, span storage.Span, limit int) ([]*Event, error) {
	return selectEvents(ctx, q, room, `
		SELECT `+eventColumns+` FROM events
		WHERE room_num = $1 AND anchor > $2 AND anchor <= $3 AND position IS NOT NULL
		ORDER BY anchor DESC, sub DESC LIMIT $4`, room.Num, int64(span.After), int64(span.UpTo), int64(limit))
}

// A PageQuery asks for events of a room's timeline from one place on, which is itself left out when
// going forward and included when going backward: a token stands *behind* the event it names.
type PageQuery struct {
	From     Order
	To       Order // where to stop; zero: at the end
	Backward bool
	Limit    int
}

// Page returns a stretch of a room's timeline, backfilled history included, in the direction asked.
func Page(ctx context.Context, q storage.Querier, room Room, p PageQuery) ([]*Event, error) {
	const forward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND anchor IS NOT NULL AND (anchor, sub) > ($2, $3) AND (anchor, sub) <= ($4, $5)
		ORDER BY anchor, sub LIMIT $6`
	const backward = `
		SELECT ` + eventColumns + ` FROM events
		WHERE room_num = $1 AND anchor IS NOT NULL AND (anchor, sub) <= ($2, $3) AND (anchor, sub) > ($4, $5)
		ORDER BY anchor DESC, sub DESC LIMIT $6`
	text, to := forward, p.To
	switch {
	case p.Backward:
		text = backward
	case to == Order{}:
		to = Order{Anchor: storage.Position(1<<63 - 1)}
	}
	return selectEvents(ctx, q, room, text,
		room.Num, int64(p.From.Anchor), p.From.Sub, int64(to.Anchor), to.Sub, int64(p.Limit))
}

// LogAfter returns the live events of all rooms after a position, oldest first: for readers of the log.
func LogAfter(ctx context.Context, q storage.Querier, after storage.Position, limit int) ([]*Event, error) {
	rooms := make(map[int64]Room)
	var found []*Event
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var id, version string
		row := eventRow{}
		if err := rows.Scan(append(row.dest(), &id, &version)...); err != nil {
			return err
		}
		room, known := rooms[row.room]
		if !known {
			var err error
			if room, err = makeRoom(row.room, id, version); err != nil {
				return err
			}
			rooms[row.room] = room
		}
		ev, err := row.event(room)
		found = append(found, ev)
		return err
	}, `
		SELECT `+eventColumns+`, room_id, version FROM events JOIN rooms USING (room_num)
		WHERE position > $1 AND position IS NOT NULL
		ORDER BY position LIMIT $2`, int64(after), int64(limit))
	return found, err
}

// SentAs returns the ID of the event that was sent with this transaction key.
func SentAs(ctx context.Context, q storage.Querier, txnKey int64) (matrix.EventID, bool, error) {
	return storage.One[matrix.EventID](ctx, q, `SELECT event_id FROM events WHERE txn_key = $1`, txnKey)
}

// ByOthers returns those of some events that a user has not sent, by number.
func ByOthers(ctx context.Context, q storage.Querier, user matrix.UserID, nums []int64) (map[int64]bool, error) {
	found, err := storage.Collect[int64](ctx, q, `
		SELECT event_num FROM events
		WHERE event_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1)) AND sender <> $2`, storage.Numbers(nums...), string(user))
	if err != nil {
		return nil, err
	}
	others := make(map[int64]bool, len(found))
	for _, num := range found {
		others[num] = true
	}
	return others, nil
}

// PendingRedactions returns redactions of a room that wait for their targets, by target, at most limit.
func PendingRedactions(ctx context.Context, q storage.Querier, roomNum int64, limit int) (map[matrix.EventID][]int64, error) {
	pending := make(map[matrix.EventID][]int64)
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var target matrix.EventID
		var num int64
		err := rows.Scan(&target, &num)
		pending[target] = append(pending[target], num)
		return err
	}, `SELECT redacts, event_num FROM pending_redactions WHERE room_num = $1 ORDER BY event_num LIMIT $2`,
		roomNum, int64(limit))
	return pending, err
}

func selectEvents(ctx context.Context, q storage.Querier, room Room, text string, args ...any) ([]*Event, error) {
	var found []*Event
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		row := eventRow{}
		if err := rows.Scan(row.dest()...); err != nil {
			return err
		}
		if row.room != room.Num {
			return nil // an event number of another room: not ours to show
		}
		ev, err := row.event(room)
		found = append(found, ev)
		return err
	}, text, args...)
	return found, err
}

// eventRow is one row of eventColumns.
type eventRow struct {
	num, room        int64
	id               string
	kind             int64
	position, anchor *int64
	sub              int64
	before, with     *int64
	redacted         *int64
	relayed          *bool
	afterGap         *bool
	device, txn      *string
	json             string
}

func (r *eventRow) dest() []any {
	return []any{&r.num, &r.room, &r.id, &r.kind, &r.position, &r.anchor, &r.sub,
		&r.before, &r.with, &r.redacted, &r.relayed, &r.afterGap, &r.device, &r.txn, &r.json}
}

func (r *eventRow) event(room Room) (*Event, error) {
	ev, err := loadEvent(room, matrix.EventID(r.id), []byte(r.json), r.redacted != nil)
	if err != nil {
		return nil, fmt.Errorf("load event %s of %s: %w", r.id, room.ID, err)
	}
	with := r.with
	if with == nil {
		with = r.before
	}
	return &Event{
		Event: ev, Num: r.num, RoomNum: r.room, Kind: Kind(r.kind),
		Position:    storage.Position(orZero(r.position)),
		Order:       Order{Anchor: storage.Position(orZero(r.anchor)), Sub: r.sub},
		StateBefore: statetree.NodeID(orZero(r.before)), StateUnknown: r.before == nil,
		StateWith: statetree.NodeID(orZero(with)), RedactedBy: orZero(r.redacted),
		Relayed: orZero(r.relayed), AfterGap: orZero(r.afterGap),
		TxnDevice: matrix.DeviceID(orZero(r.device)), TxnID: orZero(r.txn),
	}, nil
}

// loadEvent makes the event of stored JSON; of one that was redacted, the redacted form, whether or
// not its content has been erased yet.
func loadEvent(room Room, id matrix.EventID, stored []byte, redacted bool) (*event.Event, error) {
	ev, err := event.Load(room.Version, id, stored)
	if err == nil && redacted {
		ev, err = event.Load(room.Version, id, ev.RedactedJSON())
	}
	if err == nil && ev.RoomID == "" {
		return nil, fmt.Errorf("it names no room")
	}
	return ev, err
}

func orZero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// inOrder arranges found by the keys asked for. A key asked for twice is answered twice.
func inOrder[K comparable](found []*Event, keys []K, key func(*Event) K) []*Event {
	byKey := make(map[K]*Event, len(found))
	for _, ev := range found {
		byKey[key(ev)] = ev
	}
	arranged := make([]*Event, 0, len(keys))
	for _, k := range keys {
		if ev := byKey[k]; ev != nil {
			arranged = append(arranged, ev)
		}
	}
	return arranged
}
