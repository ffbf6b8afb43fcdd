package storage

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/myelin-chat/myelin/matrix"
)

// Settings say which database to open.
type Settings struct {
	URL     string // "sqlite", or a postgres:// URL
	DataDir string // made if absent; locked as long as the database is open
	// ServerName is whose database this is. The name stays once something is stored: a database full of one server's
	// users and rooms is not opened for another. Empty: who opens it does not say, and is not asked.
	ServerName matrix.ServerName
	Waker      Waker // may be nil
	Log        *slog.Logger
	Rand       io.Reader // for the incarnation and the secret; nil: crypto/rand

	seam seam // faults for tests
}

// Waker is told of news. Wake is called after each group that has some, in commit order, with the
// last position; it must not block.
type Waker interface {
	Wake(p Position)
}

// engine is one of the two databases.
type engine interface {
	Querier
	dialect() dialect
	snapshot(ctx context.Context, f func(Querier) error) error
	// script runs statements in one transaction. One without arguments may hold several.
	script(ctx context.Context, all ...statement) error
	// apply stores a group in one transaction, or nothing of it.
	apply(a *attempt) outcome
	// settle makes sure that no transaction of ours is under way any more, and reads the log row.
	settle(ctx context.Context) (logRow, error)
	// maintain does what is not done in commits, until ctx ends.
	maintain(ctx context.Context)
	close() error
}

// seam, if not nil, is asked for an error at each step of storing a group.
type seam func(step string) error

func (s seam) at(step string) error {
	if s == nil {
		return nil
	}
	return s(step)
}

// DB is an open database. All methods may be called from any goroutine.
type DB struct {
	engine engine
	log    *slog.Logger
	waker  Waker
	lock   *os.File

	queue    chan *Item
	intake   sync.RWMutex // held for reading while an item is put into the queue
	refusing bool         // guarded by intake
	closed   chan struct{}
	shutOnce sync.Once

	closeOnce sync.Once
	closeErr  error

	jobs    chan func() // to be run between two groups
	running atomic.Bool
	ended   chan struct{} // closed by Run

	core       committer  // Run's
	lastErr    error      // Run's: of the last attempt
	complaints complaints // Run's
	tail       tail
	numbers    numbers

	incarnation string
	secret      [16]byte
}

// Open opens the database, makes it if it is not there, and brings its schema up to date. It fails if
// another process uses the data directory or the database.
func Open(ctx context.Context, s Settings) (*DB, error) {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(s.DataDir)
	if err != nil {
		return nil, err
	}
	e, err := openEngine(ctx, s)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	db := &DB{
		engine: e, log: s.Log, waker: s.Waker, lock: lock,
		queue:  make(chan *Item, maxQueue),
		jobs:   make(chan func()),
		closed: make(chan struct{}),
		ended:  make(chan struct{}),

		complaints: complaints{log: s.Log},
	}
	if err := db.load(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), e.close(), lock.Close())
	}
	return db, nil
}

// openEngine is the one place that tells the engines apart by name.
func openEngine(ctx context.Context, s Settings) (engine, error) {
	switch {
	case s.URL == "sqlite":
		return openSQLite(ctx, s)
	case strings.HasPrefix(s.URL, "postgres://"), strings.HasPrefix(s.URL, "postgresql://"):
		return openPostgres(ctx, s)
	}
	return nil, errors.New(`the database is neither "sqlite" nor a postgres:// URL`)
}

// load migrates the schema and reads the log row.
func (db *DB) load(ctx context.Context, s Settings) error {
	steps, err := migrations(migrationFiles)
	if err != nil {
		return err
	}
	if err := migrate(ctx, db.engine, steps); err != nil {
		return err
	}
	if err := beginLog(ctx, db.engine, s); err != nil {
		return err
	}
	var kept []byte
	var owner matrix.ServerName
	err = Each(ctx, db.engine, func(r Rows) error {
		l := &db.core.log
		return r.Scan(&l.position, &l.group, &l.next, &db.incarnation, &kept, &owner)
	}, `SELECT position, group_number, next_number, incarnation, secret, server_name FROM log WHERE id = 1`)
	if err != nil {
		return err
	}
	if len(kept) != len(db.secret) {
		return fmt.Errorf("the log row is damaged: its secret has %d bytes, want %d", len(kept), len(db.secret))
	}
	if s.ServerName != "" && s.ServerName != owner {
		return fmt.Errorf("it belongs to the server %s, and a server cannot be renamed: its users and rooms have the name in them. "+
			"Set the server name to %[1]s, or begin a new database as %[2]s", owner, s.ServerName)
	}
	db.secret = [16]byte(kept)
	db.tail.last = db.core.log.position
	db.numbers.next.Store(db.core.log.next)
	db.numbers.reserved.Store(db.core.log.next)
	db.numbers.low = make(chan struct{}, 1)
	db.core.reserve = db.numbers.reserve
	return nil
}

// beginLog makes the log row of a new database, and writes the server name that it is opened with. The name may be
// corrected until the first group is stored: nothing has it in it before.
func beginLog(ctx context.Context, e engine, s Settings) error {
	random := s.random()
	var secret [16]byte
	if _, err := io.ReadFull(random, secret[:]); err != nil {
		return err
	}
	incarnation, err := newIncarnation(random)
	if err != nil {
		return err
	}
	return e.script(ctx,
		statement{`
			INSERT INTO log (id, position, group_number, next_number, incarnation, secret, server_name)
			VALUES (1, 0, 0, 1, $1, $2, '') ON CONFLICT DO NOTHING`, []any{incarnation, secret[:]}},
		statement{`
			UPDATE log SET server_name = $1
			WHERE id = 1 AND $1 <> '' AND (server_name = '' OR group_number = 0)`, []any{s.ServerName}})
}

// newIncarnation returns a short random text.
func newIncarnation(random io.Reader) (string, error) {
	var b [6]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	// Sync tokens separate their parts by '_'.
	return strings.NewReplacer("_", "A", "-", "B").Replace(base64.RawURLEncoding.EncodeToString(b[:])), nil
}

// Query reads what is committed.
func (db *DB) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	return db.engine.Query(ctx, sql, args...)
}

// Snapshot runs several reads that see the database at one moment. The Querier is for one
// goroutine, and ends with f. f must not wait for anything but its reads.
func (db *DB) Snapshot(ctx context.Context, f func(Querier) error) error {
	return db.engine.snapshot(ctx, f)
}

// Commit stores w and returns its first position, 0 if it asked for none. If ctx ends first, Commit
// returns at once, and the write may or may not be stored.
func (db *DB) Commit(ctx context.Context, w Write) (Position, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	answers := make(chan answer, 1) // the committer never waits for a caller who has given up
	item := newItem(w, func(first Position, err error) { answers <- answer{first: first, err: err} })
	if !db.enqueue(ctx, item) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return 0, ErrClosed
	}
	select {
	case a := <-answers:
		return a.first, a.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Submit stores w and calls done with its first position, 0 if it asked for none. It waits while the
// queue is full. done runs on the committer, in commit order; it must not block, nor call Submit or
// Commit. After the end of Run done is called at once with ErrClosed.
func (db *DB) Submit(w Write, done func(first Position, err error)) {
	if !db.enqueue(context.Background(), newItem(w, done)) {
		done(0, ErrClosed)
	}
}

// newItem fills an item in the goroutine of its caller, which leaves the committer only what has to be done in order.
func newItem(w Write, done func(Position, error)) *Item {
	item := &Item{done: done}
	w.Rows(item)
	return item
}

// enqueue tells whether the item is in the queue.
func (db *DB) enqueue(ctx context.Context, item *Item) bool {
	// Held while it waits for room, so that shut knows when nobody can queue an item any more.
	db.intake.RLock()
	defer db.intake.RUnlock()
	if db.refusing {
		return false
	}
	select {
	case db.queue <- item:
		return true
	case <-db.closed:
	case <-ctx.Done():
	}
	return false
}

// Position is the last committed position.
func (db *DB) Position() Position { return db.tail.position() }

// NextNumber returns a row number that was never returned before, not even before a crash.
func (db *DB) NextNumber() int64 { return db.numbers.take() }

// Incarnation is a short random text made with the database and renewed when a backup is restored.
// It holds letters and digits only.
func (db *DB) Incarnation() string { return db.incarnation }

// Secret is random, made with the database and never renewed.
func (db *DB) Secret() [16]byte { return db.secret }

// Since returns up to limit news after from, oldest first, from the tail of the log in memory. If
// complete is false the tail does not reach back to from: read the database instead.
func (db *DB) Since(from Position, limit int) (news []News, complete bool) {
	return db.tail.since(from, limit)
}

// Close ends Run, if it runs, waits for it, and closes the database. Closing again does nothing.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.shut()
		if db.running.CompareAndSwap(false, true) {
			db.refuseQueued()
		} else {
			<-db.ended
		}
		// The lock last: who waits for it finds a database that nobody has open.
		db.closeErr = errors.Join(db.engine.close(), db.lock.Close())
	})
	return db.closeErr
}
