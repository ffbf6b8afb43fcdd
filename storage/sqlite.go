package storage

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

const (
	sqliteFile  = "myelin.db"
	busyTimeout = 10 * time.Second
	// A statement stays prepared as long as the database is open. The texts are constants of
	// the program; the bound is for the mistake of building them from data.
	maxStatements = 2048

	// 16 MB of log: copy it into the database file, beside the commits. Pages that changed over and over are copied once, so
	// a longer log is less to write; after a crash it is read to the end, in some 50 ms.
	checkpointPages = 4000
	maxLogPages     = 16384 // 64 MB of log: finish copying between two commits, so that the log begins anew
)

// sqliteEngine is SQLite in write-ahead mode: one connection that writes, some that read, one that
// copies the log into the database file. A context that ends never touches the writer.
type sqliteEngine struct {
	path string
	log  *slog.Logger
	seam seam

	readers    *sql.DB
	statements sync.Map // SQL text -> *sql.Stmt of readers
	prepared   atomic.Int64
	slots      chan struct{} // one for each reader in use

	writerDB *sql.DB
	writer   *sql.Conn
	writes   map[string]*sql.Stmt // of writer, by SQL text
	inserts  map[*Table]string
	copying  *sqlite3.Backup // of writer

	checkpointer *sql.DB
	logPages     atomic.Int64  // length of the write-ahead log
	grown        chan struct{} // the log has grown by checkpointPages
	overdue      atomic.Bool   // the writer shall copy the rest
}

// openSQLite opens three pools on one file: one connection that writes, several that read and cannot do otherwise, and
// one that copies the write-ahead log, off the way of both.
func openSQLite(ctx context.Context, s Settings) (_ engine, err error) {
	path, err := filepath.Abs(filepath.Join(s.DataDir, sqliteFile))
	if err != nil {
		return nil, err
	}
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	e := &sqliteEngine{
		path: path, log: s.Log, seam: s.seam,
		inserts: map[*Table]string{},
		slots:   make(chan struct{}, readers),
		grown:   make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if e.writerDB, err = e.open(1, e.prepareWriter); err != nil {
		return nil, err
	}
	if err := e.connectWriter(ctx); err != nil {
		return nil, err
	}
	if e.readers, err = e.open(readers, func(c *sqlite3.Conn) error { return c.Exec(`PRAGMA query_only = on`) }); err != nil {
		return nil, err
	}
	if e.checkpointer, err = e.open(1, func(*sqlite3.Conn) error { return nil }); err != nil {
		return nil, err
	}
	return e, nil
}

// sqliteName is the name of a file for the driver. The times that the driver would make of text
// that looks like one are switched off by _timefmt.
func sqliteName(path string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_timefmt=sqlite"}).String()
}

// open makes a pool of connections that stay open.
func (e *sqliteEngine) open(connections int, prepare func(*sqlite3.Conn) error) (*sql.DB, error) {
	db, err := driver.Open(sqliteName(e.path), func(c *sqlite3.Conn) error {
		// A callback of our own, not _pragma in the name, which would switch off the busy timeout.
		if err := c.BusyTimeout(busyTimeout); err != nil {
			return err
		}
		if err := c.Exec(`PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA temp_store = memory; PRAGMA cache_size = -8000`); err != nil {
			return err
		}
		return prepare(c)
	})
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// prepareWriter gives the writer a larger cache, as all changed pages go through it, and takes the checkpoints away
// from it.
func (e *sqliteEngine) prepareWriter(c *sqlite3.Conn) error {
	if err := c.Exec(fmt.Sprintf(`PRAGMA journal_size_limit = %d; PRAGMA cache_size = -32000`, maxLogPages*4096)); err != nil {
		return err
	}
	// This replaces the automatic checkpoint, which would run inside a commit.
	c.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error {
		e.logPages.Store(int64(pages))
		if pages >= checkpointPages {
			select {
			case e.grown <- struct{}{}:
			default:
			}
		}
		return nil
	})
	return nil
}

// connectWriter opens the one connection that writes.
func (e *sqliteEngine) connectWriter(ctx context.Context) (err error) {
	e.writes = map[string]*sql.Stmt{}
	e.writer, err = e.writerDB.Conn(ctx)
	return err
}

func (e *sqliteEngine) dialect() dialect { return sqliteDialect }

// pollContext is ctx for a query: SQLite asks Err from time to time, and database/sql, without a Done to
// watch, starts no goroutine for each query and closes no rows behind the back of who reads them.
type pollContext struct{ context.Context }

func (pollContext) Done() <-chan struct{} { return nil }

// Query runs sql on one of the readers.
func (e *sqliteEngine) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	if err := e.acquire(ctx); err != nil {
		return nil, err
	}
	rows, err := e.query(ctx, nil, sql, args)
	if err != nil {
		e.release()
		return nil, err
	}
	rows.release = e.release
	return rows, nil
}

// acquire takes one of the places of readers. Whoever has given up takes none, since nobody would give it back.
func (e *sqliteEngine) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case e.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *sqliteEngine) release() { <-e.slots }

// query runs sql in tx, or on any reader if tx is nil.
func (e *sqliteEngine) query(ctx context.Context, tx *sql.Tx, text string, args []any) (*sqliteRows, error) {
	args, err := arguments(args)
	if err != nil {
		return nil, err
	}
	poll := pollContext{ctx}
	stmt, err := e.statement(poll, text)
	if err != nil {
		return nil, err
	}
	if tx != nil {
		stmt = tx.StmtContext(poll, stmt)
	}
	rows, err := stmt.QueryContext(poll, args...)
	if err != nil {
		return nil, contextError(ctx, err)
	}
	return &sqliteRows{ctx: ctx, rows: rows}, nil
}

// statement returns the prepared statement of the readers. database/sql prepares it once on each
// connection that comes to run it.
func (e *sqliteEngine) statement(ctx context.Context, text string) (*sql.Stmt, error) {
	if s, ok := e.statements.Load(text); ok {
		return s.(*sql.Stmt), nil
	}
	if e.prepared.Add(1) > maxStatements {
		return nil, fmt.Errorf("storage: more than %d different statements: values belong into parameters", maxStatements)
	}
	s, err := e.readers.PrepareContext(ctx, sqliteDialect.query(text))
	if err != nil {
		e.prepared.Add(-1)
		return nil, contextError(ctx, err)
	}
	if other, loaded := e.statements.LoadOrStore(text, s); loaded {
		s.Close()
		e.prepared.Add(-1)
		return other.(*sql.Stmt), nil
	}
	return s, nil
}

// contextError is the error of ctx if it has ended: SQLite says "interrupted".
func contextError(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil && err != nil {
		return ctxErr
	}
	return err
}

// snapshot begins under no context of the caller: when that ends, database/sql rolls back in a goroutine of its own,
// beside whoever still reads. The queries within have the context.
func (e *sqliteEngine) snapshot(ctx context.Context, f func(Querier) error) error {
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.release()
	tx, err := e.readers.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() // of reads
	return f(sqliteSnapshot{e, tx})
}

// sqliteSnapshot is a Querier within a read transaction.
type sqliteSnapshot struct {
	engine *sqliteEngine
	tx     *sql.Tx
}

func (s sqliteSnapshot) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	rows, err := s.engine.query(ctx, s.tx, sql, args)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// sqliteRows reads values as the driver gives them, so that they are converted as on PostgreSQL.
type sqliteRows struct {
	ctx     context.Context // of the query, for the error only
	rows    *sql.Rows
	cells   []sqliteCell
	dest    []any
	release func()
}

// sqliteCell stands between database/sql, which would convert in its own way, and the target.
type sqliteCell struct {
	target any
}

// Scan takes the value from database/sql.
func (c *sqliteCell) Scan(src any) error { return assign(c.target, src) }

// Next closes the rows at their end, so that a caller who stops there holds no reader.
func (r *sqliteRows) Next() bool {
	if r.rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *sqliteRows) Scan(dest ...any) error {
	if len(r.cells) != len(dest) {
		r.cells, r.dest = make([]sqliteCell, len(dest)), make([]any, len(dest))
		for i := range r.cells {
			r.dest[i] = &r.cells[i]
		}
	}
	for i := range dest {
		r.cells[i].target = dest[i]
	}
	return r.rows.Scan(r.dest...)
}

func (r *sqliteRows) Err() error { return contextError(r.ctx, r.rows.Err()) }

func (r *sqliteRows) Close() {
	r.rows.Close()
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

// maintain copies the write-ahead log into the database file whenever it has grown, so that it can begin anew.
func (e *sqliteEngine) maintain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.grown:
		}
		conn, err := e.checkpointer.Conn(ctx)
		if err != nil {
			continue
		}
		pages, err := checkpoint(conn, sqlite3.CHECKPOINT_PASSIVE)
		conn.Close()
		switch {
		case errors.Is(err, sqlite3.BUSY): // the writer does it just now
		case err != nil:
			e.log.Warn("the write-ahead log could not be copied", "err", err)
		case pages > maxLogPages:
			e.overdue.Store(true)
		}
	}
}

// checkpoint returns the length of the log.
func checkpoint(conn *sql.Conn, mode sqlite3.CheckpointMode) (pages int, err error) {
	err = conn.Raw(func(c any) error {
		var err error
		pages, _, err = c.(driver.Conn).Raw().WALCheckpoint("main", mode)
		return err
	})
	return pages, err
}

// discardWriter closes the connection that writes, after an error that it may not survive.
func (e *sqliteEngine) discardWriter() {
	e.endBackup()
	for _, s := range e.writes {
		s.Close()
	}
	e.writer.Raw(func(any) error { return sqldriver.ErrBadConn }) // takes it out of the pool
	e.writer.Close()
	e.writer = nil
}

func (e *sqliteEngine) close() error {
	var errs []error
	if e.writer != nil {
		errs = append(errs, e.endBackup())
		for _, s := range e.writes {
			errs = append(errs, s.Close())
		}
		errs = append(errs, e.writer.Close())
	}
	for _, db := range []*sql.DB{e.readers, e.checkpointer, e.writerDB} { // the writer last: it may truncate the log
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}
