package servers

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A StagedTransaction is a transaction of another server, on its way into the rooms. As a write it is stored, and with it
// that others are done; that fails with storage.ErrDuplicate if the transaction is here already.
type StagedTransaction struct {
	Num        int64 // a row number of the database
	Origin     matrix.ServerName
	ID         string
	ReceivedMS int64
	Answer     []byte // JSON; not read back with the rest
	Work       []byte // JSON; nil: nothing is to be done
	WorkBytes  int64  // how long Work is, where it was not read
	Starts     int64  // so often the server has started with the work not done

	Finished FinishTransactions // not read
}

var stagedTable = storage.NewTable("staged_transactions", storage.Fail, `
	txn_num BIGINT KEY, origin TEXT, txn_id TEXT, received_ms BIGINT, starts BIGINT, answer TEXT, work TEXT`)

// Rows implements storage.Write.
func (w StagedTransaction) Rows(it *storage.Item) {
	var work any
	if w.Work != nil {
		work = w.Work
	}
	it.Insert(stagedTable, w.Num, w.Origin, w.ID, w.ReceivedMS, w.Starts, w.Answer, work)
	w.Finished.Rows(it)
}

// AnswerTo returns what a transaction was answered with, if it is known.
func AnswerTo(ctx context.Context, q storage.Querier, origin matrix.ServerName, id string) ([]byte, bool, error) {
	return storage.One[[]byte](ctx, q, `
		SELECT answer FROM staged_transactions WHERE origin = $1 AND txn_id = $2`, origin, id)
}

// Staged returns the transactions after a number of which the work is not done, in the order in which they came,
// without answer and work.
func Staged(ctx context.Context, q storage.Querier, after int64, limit int) ([]StagedTransaction, error) {
	scan := func(s *StagedTransaction, rows storage.Rows) error {
		return rows.Scan(&s.Num, &s.Origin, &s.ID, &s.ReceivedMS, &s.Starts, &s.WorkBytes)
	}
	return storage.List(ctx, q, scan, `
		SELECT txn_num, origin, txn_id, received_ms, starts, length(work) FROM staged_transactions
		WHERE txn_num > $1 AND work IS NOT NULL ORDER BY txn_num LIMIT $2`, after, int64(limit))
}

// StagedWork returns the work of a transaction; nil if it is done.
func StagedWork(ctx context.Context, q storage.Querier, num int64) ([]byte, error) {
	work, _, err := storage.One[[]byte](ctx, q, `
		SELECT work FROM staged_transactions WHERE txn_num = $1 AND work IS NOT NULL`, num)
	return work, err
}

// CountStart notes that the server starts with what work there is.
type CountStart struct{}

// Rows implements storage.Write.
func (CountStart) Rows(it *storage.Item) {
	it.Exec(`UPDATE staged_transactions SET starts = starts + 1 WHERE work IS NOT NULL`)
}

// FinishTransactions notes of transactions, by their numbers, that the work is done.
type FinishTransactions []int64

// Rows implements storage.Write.
func (w FinishTransactions) Rows(it *storage.Item) {
	if len(w) > 0 {
		it.Exec(`
			UPDATE staged_transactions SET work = NULL
			WHERE txn_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers(w...))
	}
}

// HasOldTransactions says whether any came before a time and is done.
func HasOldTransactions(ctx context.Context, q storage.Querier, beforeMS int64) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `
		SELECT txn_num FROM staged_transactions
		WHERE received_ms < $1 AND work IS NULL ORDER BY received_ms LIMIT 1`, beforeMS)
	return found, err
}

// ForgetTransactions forgets the oldest of the transactions that came before a time and are done.
type ForgetTransactions struct {
	BeforeMS int64
	Limit    int
}

// Rows implements storage.Write.
func (w ForgetTransactions) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM staged_transactions WHERE txn_num IN (
			SELECT txn_num FROM staged_transactions
			WHERE received_ms < $1 AND work IS NULL ORDER BY received_ms LIMIT $2)`, w.BeforeMS, int64(w.Limit))
}

// A SuspectEvent was being worked on when something panicked. As a write it is stored in place of what was noted.
type SuspectEvent struct {
	Room   matrix.RoomID
	Event  matrix.EventID
	Panics int64
	SeenMS int64
}

var suspectsTable = storage.NewTable("suspect_events", storage.Replace, `
	room_id TEXT KEY, event_id TEXT KEY, panics BIGINT, seen_ms BIGINT`)

// Rows implements storage.Write.
func (w SuspectEvent) Rows(it *storage.Item) {
	it.Insert(suspectsTable, w.Room, w.Event, w.Panics, w.SeenMS)
}

// SuspectEvents returns the suspects that were seen last.
func SuspectEvents(ctx context.Context, q storage.Querier, limit int) ([]SuspectEvent, error) {
	scan := func(s *SuspectEvent, rows storage.Rows) error {
		return rows.Scan(&s.Room, &s.Event, &s.Panics, &s.SeenMS)
	}
	return storage.List(ctx, q, scan, `
		SELECT room_id, event_id, panics, seen_ms FROM suspect_events ORDER BY seen_ms DESC LIMIT $1`, int64(limit))
}

// ClearSuspect notes that an event did no harm.
type ClearSuspect struct {
	Room  matrix.RoomID
	Event matrix.EventID
}

// Rows implements storage.Write.
func (w ClearSuspect) Rows(it *storage.Item) {
	it.Exec(`DELETE FROM suspect_events WHERE room_id = $1 AND event_id = $2`, w.Room, w.Event)
}
