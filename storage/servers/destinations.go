package servers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// DebtKind says what sort of thing is owed to a server. The numbers are stored.
type DebtKind int64

// The kinds of debts.
const (
	DebtEvents   DebtKind = 0 // events of a room
	DebtReceipts DebtKind = 1 // read receipts of our users in a room
	DebtEDUs     DebtKind = 2 // rows of outbox_edus; of no room
)

// A Debt is one thing that is owed: the event or the EDU at a position, or a room's receipts of a span.
type Debt struct {
	Kind  DebtKind
	Room  int64            // row number; 0: of no room
	After storage.Position // of receipts: the span's beginning, not in it
	At    storage.Position
}

// MarshalJSON writes a Debt as an array, since there are many.
func (d Debt) MarshalJSON() ([]byte, error) {
	return json.Marshal([4]int64{int64(d.Kind), d.Room, int64(d.After), int64(d.At)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Debt) UnmarshalJSON(text []byte) error {
	var a [4]int64
	err := json.Unmarshal(text, &a)
	*d = Debt{Kind: DebtKind(a[0]), Room: a[1], After: storage.Position(a[2]), At: storage.Position(a[3])}
	return err
}

// A Destination is a server that is owed something, or cannot be reached.
type Destination struct {
	Server    matrix.ServerName
	Plan      []Debt // the transaction that is under way, or to be repeated
	Items     []Debt // to be sent after it, before what its lags say
	Failures  int64  // in a row
	FailingMS int64  // since when; 0: it is not
	RetryMS   int64
}

// A Lag says that what came after Acked may be owed to a server.
type Lag struct {
	Server matrix.ServerName
	Kind   DebtKind
	Room   int64
	Acked  storage.Position
}

// OutboxPosition returns up to where the log was read for others; 0 if never.
func OutboxPosition(ctx context.Context, q storage.Querier) (storage.Position, error) {
	p, _, err := storage.One[storage.Position](ctx, q, `SELECT position FROM outbox WHERE id = 1`)
	return p, err
}

// Destinations returns all that are stored, by name.
func Destinations(ctx context.Context, q storage.Querier) ([]Destination, error) {
	scan := func(d *Destination, rows storage.Rows) error {
		var plan, items []byte
		if err := rows.Scan(&d.Server, &plan, &items, &d.Failures, &d.FailingMS, &d.RetryMS); err != nil {
			return err
		}
		if err := errors.Join(json.Unmarshal(plan, &d.Plan), json.Unmarshal(items, &d.Items)); err != nil {
			return fmt.Errorf("what is owed to %s: %w", d.Server, err)
		}
		return nil
	}
	return storage.List(ctx, q, scan, `
		SELECT server, plan, items, failures, failing_ms, retry_ms FROM destinations ORDER BY server`)
}

// Lags returns all that are stored, in the order of their keys.
func Lags(ctx context.Context, q storage.Querier) ([]Lag, error) {
	scan := func(l *Lag, rows storage.Rows) error {
		return rows.Scan(&l.Server, &l.Kind, &l.Room, &l.Acked)
	}
	return storage.List(ctx, q, scan, `
		SELECT server, kind, room_num, acked FROM destination_rooms ORDER BY server, kind, room_num`)
}

var (
	outboxTable       = storage.NewTable("outbox", storage.Replace, "id BIGINT KEY, position BIGINT")
	destinationsTable = storage.NewTable("destinations", storage.Replace, `
		server TEXT KEY, plan TEXT, items TEXT, failures BIGINT, failing_ms BIGINT, retry_ms BIGINT`)
	lagsTable = storage.NewTable("destination_rooms", storage.Replace, `
		server TEXT KEY, kind BIGINT KEY, room_num BIGINT KEY, acked BIGINT`)
)

// SaveOutbox stores what has changed since it was stored last, all of one moment: had the log been read up to a
// position without what follows from it, something would be lost.
type SaveOutbox struct {
	Position     storage.Position
	Destinations []Destination
	Lags         []Lag
	Settled      []matrix.ServerName // destinations whose rows are needed no more
	Caught       []Lag               // lags that are none any more; Acked means nothing
	Delivered    []Delivered
}

// Delivered names EDUs that a server has, or refuses to take.
type Delivered struct {
	Server matrix.ServerName
	EDUs   []storage.Position
}

// Rows implements storage.Write.
func (w SaveOutbox) Rows(it *storage.Item) {
	it.Insert(outboxTable, 1, w.Position)
	for _, d := range w.Destinations {
		it.Insert(destinationsTable, d.Server, debts(d.Plan), debts(d.Items), d.Failures, d.FailingMS, d.RetryMS)
	}
	for _, l := range w.Lags {
		it.Insert(lagsTable, l.Server, int64(l.Kind), l.Room, l.Acked)
	}
	if len(w.Settled) > 0 {
		it.Exec(`DELETE FROM destinations WHERE server IN (SELECT key FROM json_each($1))`, storage.Set(w.Settled...))
	}
	for _, l := range w.Caught {
		it.Exec(`DELETE FROM destination_rooms WHERE server = $1 AND kind = $2 AND room_num = $3`,
			l.Server, int64(l.Kind), l.Room)
	}
	for _, d := range w.Delivered {
		it.Exec(`
			DELETE FROM outbox_edus
			WHERE server = $1 AND position IN (SELECT CAST(key AS BIGINT) FROM json_each($2))`,
			d.Server, storage.Numbers(d.EDUs...))
	}
}

func debts(list []Debt) string {
	if len(list) == 0 {
		return `[]`
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // numbers can be written
	}
	return string(text)
}
