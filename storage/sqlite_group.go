package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
)

// bg is the context of all that is written: no request can end it.
var bg = context.Background()

// apply stores a group.
func (e *sqliteEngine) apply(a *attempt) outcome {
	if e.writer == nil {
		if err := e.connectWriter(bg); err != nil {
			return outcome{verdict: unreachable, err: &storedError{ErrUnavailable, err}}
		}
	}
	if e.overdue.CompareAndSwap(true, false) {
		// Whatever the checkpoint beside us could not reach. If it fails, or that is at work just now, nothing is lost, and
		// it is tried again.
		_, err := checkpoint(e.writer, sqlite3.CHECKPOINT_PASSIVE)
		if err != nil && !errors.Is(err, sqlite3.BUSY) {
			e.log.Warn("the write-ahead log could not be copied", "err", err)
		}
	}
	// IMMEDIATE takes the lock of the writer at once; a read that becomes a write later could fail in the middle.
	if err := e.exec(`BEGIN IMMEDIATE`); err != nil {
		return judge(err)
	}
	o := e.store(a)
	if o.verdict != committed {
		e.rollback()
		return o
	}
	err := e.seam.at("commit")
	if err == nil {
		err = e.exec(`COMMIT`)
	}
	if err == nil {
		err = e.seam.at("committed")
	}
	if err != nil {
		return e.afterCommit(a, err)
	}
	return o
}

// afterCommit finds out whether a commit that reported an error took place.
func (e *sqliteEngine) afterCommit(a *attempt, err error) outcome {
	e.rollback()
	row, readErr := e.readLog(bg)
	switch {
	case readErr != nil:
		return outcome{verdict: unknown, err: err}
	case row.group == a.after.group:
		return outcome{verdict: committed}
	}
	return judge(err)
}

// store runs the statements of a group.
func (e *sqliteEngine) store(a *attempt) outcome {
	if o := e.check(a); o.verdict != committed {
		return o
	}
	// By table, as in one statement of many rows: the pages of an index are touched once, not once for each item.
	for _, t := range merge(a) {
		for i := range t.rows {
			if err := e.insert(t.table, &t.rows[i]); err != nil {
				return blame(err, t.rows[i].item)
			}
		}
	}
	for i, it := range a.items {
		for _, s := range it.execs {
			if _, err := e.run("exec", s.sql, resolveAll(s.args, a.first[i])); err != nil {
				return blame(err, i)
			}
		}
	}
	// Last, so that what fails before it leaves the row of the log alone.
	n, err := e.run("log", moveLog, a.moveLogArgs())
	if err != nil {
		return judge(err)
	}
	if n != 1 {
		return outcome{verdict: unknown, err: errFenced}
	}
	return outcome{verdict: committed}
}

// check runs the conditions of a group, all of them, so that all that fail are found at once.
func (e *sqliteEngine) check(a *attempt) outcome {
	culprits := map[int]error{}
	for i, it := range a.items {
		for _, r := range it.require {
			n, err := e.run("require", r.sql, resolveAll(r.args, a.first[i]))
			if err != nil {
				return blame(err, i)
			}
			if n == 0 {
				culprits[i] = r.orElse
				break
			}
		}
	}
	if len(culprits) > 0 {
		return outcome{verdict: refused, culprits: culprits}
	}
	return outcome{verdict: committed}
}

// blame is judge for a statement that belongs to one item.
func blame(err error, item int) outcome {
	o := judge(err)
	if o.verdict == failed {
		return outcome{verdict: refused, culprits: map[int]error{item: o.err}}
	}
	return o
}

// insert writes row by row: within one process that costs less than to build and parse statements of many rows.
func (e *sqliteEngine) insert(t *Table, r *row) error {
	text, ok := e.inserts[t]
	if !ok {
		text = sqliteDialect.insert(t)
		e.inserts[t] = text
	}
	_, err := e.run("insert", text, resolveAll(r.values, r.first))
	return err
}

// run executes one prepared statement and returns how many rows it touched or, for a query, found.
func (e *sqliteEngine) run(step, text string, args []any) (int64, error) {
	if err := e.seam.at(step); err != nil {
		return 0, err
	}
	s, err := e.prepare(text)
	if err != nil {
		return 0, e.reason(err)
	}
	if isQuery(text) {
		n, err := count(s, args)
		return n, e.reason(err)
	}
	res, err := s.ExecContext(bg, args...)
	if err != nil {
		return 0, e.reason(err)
	}
	return res.RowsAffected()
}

// count tells whether the query finds a row.
func count(s *sql.Stmt, args []any) (int64, error) {
	rows, err := s.QueryContext(bg, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	if rows.Next() {
		return 1, nil
	}
	return 0, rows.Err()
}

// prepare keeps every statement that ever wrote; there are as many as the code has, and a limit finds those with
// values in their text.
func (e *sqliteEngine) prepare(text string) (*sql.Stmt, error) {
	if s, ok := e.writes[text]; ok {
		return s, nil
	}
	if len(e.writes) >= maxStatements {
		return nil, fmt.Errorf("storage: more than %d different statements: values belong into parameters", maxStatements)
	}
	s, err := e.writer.PrepareContext(bg, sqliteDialect.query(text))
	if err == nil {
		e.writes[text] = s
	}
	return s, err
}

// exec runs a statement without parameters.
func (e *sqliteEngine) exec(text string) error {
	_, err := e.writer.ExecContext(bg, text)
	return e.reason(err)
}

// reason adds to an I/O error that the disk is full, if it is: the driver seldom says so.
func (e *sqliteEngine) reason(err error) error {
	var code sqlite3.ErrorCode
	if !errors.As(err, &code) || code != sqlite3.IOERR && code != sqlite3.CANTOPEN || diskIsFull(err) {
		return err
	}
	if full := tryRoom(filepath.Dir(e.path)); full != nil {
		return fmt.Errorf("%w: %w", err, full)
	}
	return err
}

// rollback ends the transaction, if SQLite has not ended it by itself.
func (e *sqliteEngine) rollback() {
	_ = e.exec(`ROLLBACK`)
}

// readLog reads over the connection that writes, which sees its own transaction if that is still open.
func (e *sqliteEngine) readLog(ctx context.Context) (row logRow, err error) {
	err = e.writer.QueryRowContext(ctx, readLog).Scan(&row.position, &row.group, &row.next)
	return row, err
}

// settle reads the log row, if need be over a new connection.
func (e *sqliteEngine) settle(ctx context.Context) (logRow, error) {
	if e.writer == nil {
		if err := e.connectWriter(ctx); err != nil {
			return logRow{}, err
		}
	}
	e.rollback()
	row, err := e.readLog(bg)
	if err != nil {
		e.discardWriter()
	}
	return row, err
}

// script runs statements in one transaction.
func (e *sqliteEngine) script(ctx context.Context, all ...statement) error {
	tx, err := e.writer.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}) // BEGIN IMMEDIATE
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range all {
		if _, err := tx.ExecContext(ctx, sqliteDialect.query(s.sql), s.args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
