package storage

import (
	"context"
	"log/slog"
)

// Settings say which database to open.
type Settings struct {
	URL     string // "sqlite", or a postgres:// URL
	DataDir string // made if absent; locked as long as the database is open
	Waker   Waker  // may be nil
	Log     *slog.Logger
}

// Waker is told of news. Wake is called after each group that has news, in commit order, with the last position; it must not block.
type Waker interface {
	Wake(p Position)
}

// DB is an open database.
type DB struct{}

// Open opens the database, makes it if it is not there, and brings its schema up to date.
func Open(ctx context.Context, s Settings) (*DB, error) { panic("not yet") }

// Query reads what is committed.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (Rows, error) { panic("not yet") }

// Snapshot runs several reads of one moment.
func (db *DB) Snapshot(ctx context.Context, f func(Querier) error) error { panic("not yet") }

// Run is the committer.
func (db *DB) Run(ctx context.Context) error { panic("not yet") }

// Close closes the database.
func (db *DB) Close() error { panic("not yet") }

// Commit stores w and returns its first position, 0 if it asked for none.
func (db *DB) Commit(ctx context.Context, w Write) (Position, error) { panic("not yet") }

// Submit stores w and calls done on the committer, in commit order; done must not block.
func (db *DB) Submit(w Write, done func(first Position, err error)) { panic("not yet") }

// Position is the last committed position.
func (db *DB) Position() Position { panic("not yet") }

// NextNumber returns a row number that was never returned before.
func (db *DB) NextNumber() int64 { panic("not yet") }

// Incarnation is a short random text made with the database, renewed when a backup is restored.
func (db *DB) Incarnation() string { panic("not yet") }

// Secret is random, made with the database.
func (db *DB) Secret() [16]byte { panic("not yet") }

// Since returns up to max news after from, oldest first, from the in-memory tail of the log.
// If complete is false the tail does not reach back to from: read the database instead.
func (db *DB) Since(from Position, max int) (news []News, complete bool) { panic("not yet") }
