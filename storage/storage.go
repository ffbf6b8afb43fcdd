// Package storage keeps what the server must not forget, in SQLite or in PostgreSQL.
//
// The database is the log: everything durable that a client or another server can be told of gets a
// [Position] from one sequence, at commit and in commit order. Reads are functions over a [Querier],
// which the database and a snapshot of it both are. Writes are values (see [Write]) that the one
// committer of the process gathers, numbers, and stores as groups: one transaction and one
// synchronisation of the disk for all that came while the last group ran.
//
// One SQL text serves both engines. It uses $1 placeholders and the columns TEXT, BIGINT, BOOLEAN and
// BYTEA; what differs is in dialect.go. A string may hold any bytes, NUL and broken UTF-8 included: they
// are escaped on the way in and restored on the way out. TEXT is therefore scanned into strings or
// bytes, and given as a string; []byte given to a query is BYTEA. A set of identifiers is one
// parameter, made by [Set], of numbers by [Numbers].
//
// The package promises that an acknowledged write survives a crash, that nobody is answered before the
// outcome of the commit is known, and that two processes never write to one database. It knows nothing
// of rooms or users: their tables are in the packages below this one.
package storage

import "context"

// Position is a place in the log: the order in which durable news was committed. The first is 1.
type Position int64

// Span is the positions after one, up to and with another.
type Span struct{ After, UpTo Position }

// Querier runs queries that only read. Both [DB] and the argument of [DB.Snapshot] are Queriers.
// The caller reads the rows to the end or closes them, and does not keep them open while it waits for
// anything else: on SQLite an open read keeps the write-ahead log from being emptied.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (Rows, error)
}

// Rows is the answer to a query. Scan fills pointers to strings, integers, booleans, floats, []byte,
// types made of these, and pointers to such pointers where the column may be null. What it fills in is
// the caller's own: it stays valid after the next row.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// Each calls scan for every row of the answer, and stops at the first error.
func Each(ctx context.Context, q Querier, scan func(Rows) error, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// List returns what scan reads of every row; nil if there is none.
func List[T any](ctx context.Context, q Querier, scan func(*T, Rows) error, sql string, args ...any) ([]T, error) {
	var all []T
	err := Each(ctx, q, func(r Rows) error {
		var v T
		if err := scan(&v, r); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	}, sql, args...)
	return all, err
}

// First returns what scan reads of the first row, and whether there was a row.
func First[T any](ctx context.Context, q Querier, scan func(*T, Rows) error, sql string, args ...any) (v T, found bool, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return v, false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return v, false, rows.Err()
	}
	err = scan(&v, rows)
	return v, err == nil, err
}

// Collect returns the first column of every row.
func Collect[T any](ctx context.Context, q Querier, sql string, args ...any) ([]T, error) {
	return List(ctx, q, scanOne[T], sql, args...)
}

// One returns the first column of the first row, and whether there was a row.
func One[T any](ctx context.Context, q Querier, sql string, args ...any) (v T, found bool, err error) {
	return First(ctx, q, scanOne[T], sql, args...)
}

func scanOne[T any](v *T, r Rows) error { return r.Scan(v) }
