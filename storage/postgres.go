package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// advisoryLock is held by the connection that writes: one process, one database. It is "myelin" in ASCII.
	advisoryLock = 0x6d79656c696e

	lockWait      = 3 * time.Second  // for the lock of a connection that is just being closed
	connectWait   = 5 * time.Second  // for one attempt to connect
	groupWait     = 60 * time.Second // for one group; then the connection is given up
	cancelledWait = 2 * time.Second  // for the server to end a query whose context has ended
)

// postgresEngine is PostgreSQL: a pool that reads, and one connection that holds the advisory lock and
// writes. When that connection is lost, a new one gets the lock only after the server has ended the old
// one and with it the transaction: from then on the log row tells for certain what was stored.
type postgresEngine struct {
	config *pgx.ConnConfig // of the writer
	log    *slog.Logger
	seam   seam

	pool    *postgresPool
	writer  *pgx.Conn
	pid     uint32 // of the writer's server process, the last one that held the lock
	inserts map[*Table]string
	grown   *statistics
}

// openPostgres connects at once, as a server that cannot write should not begin to answer.
func openPostgres(ctx context.Context, s Settings) (_ engine, err error) {
	config, err := pgx.ParseConfig(s.URL)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = connectWait
	e := &postgresEngine{config: config.Copy(), log: s.Log, seam: s.seam, inserts: map[*Table]string{}, grown: newStatistics()}
	e.config.RuntimeParams["application_name"] = "myelin"
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := e.connect(ctx); err != nil {
		return nil, err
	}
	if err := e.advise(ctx); err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "myelin reads"
	config.RuntimeParams["default_transaction_read_only"] = "on"
	// A context that ends cancels the query at the server and keeps the connection.
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelledWait}
	}
	e.pool = &postgresPool{config: config, slots: make(chan struct{}, max(4, 2*runtime.GOMAXPROCS(0)))}
	return e, nil
}

// advise logs settings of the server that break a promise or cost speed.
func (e *postgresEngine) advise(ctx context.Context) error {
	var collation, encoding, fsync, commit string
	err := e.writer.QueryRow(ctx, `
		SELECT datcollate, pg_encoding_to_char(encoding), current_setting('fsync'), current_setting('synchronous_commit')
		FROM pg_database WHERE datname = current_database()`).Scan(&collation, &encoding, &fsync, &commit)
	if err != nil {
		return err
	}
	// Another encoding would change or refuse what is stored; the rest is for the operator to weigh.
	if encoding != "UTF8" {
		return fmt.Errorf("the encoding of the database is %s, want UTF8: CREATE DATABASE ... ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", encoding)
	}
	if collation != "C" && collation != "POSIX" {
		e.log.Warn("the collation of the database is not C: indexes on text are slower, and break when the operating system's locales change", "collation", collation)
	}
	if fsync == "off" || commit == "off" {
		e.log.Warn("the database is set to lose what it has acknowledged when the machine stops", "fsync", fsync, "synchronous_commit", commit)
	}
	return nil
}

// connect opens the connection that writes, and takes the lock.
func (e *postgresEngine) connect(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, e.config)
	if err != nil {
		return err
	}
	err = compressFast(ctx, conn)
	if err == nil {
		err = e.takeLock(ctx, conn)
	}
	if err != nil {
		conn.Close(ctx)
		return err
	}
	e.writer, e.pid = conn, conn.PgConn().PID()
	return nil
}

// compressFast has the server compress long values with LZ4, if it can. What servers do by themselves takes 1.3 ms for a
// transaction of 50 events on its way into the rooms, LZ4 0.1 ms, and the result is as short.
// https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-DEFAULT-TOAST-COMPRESSION
func compressFast(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `
		SELECT set_config(name, 'lz4', FALSE) FROM pg_settings
		WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)`)
	return err
}

// takeLock takes the advisory lock; if our own last connection still holds it, that one is ended.
func (e *postgresEngine) takeLock(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for wait := firstDelay; ; wait *= 2 {
		// Tried and not waited for: the wait would be of unknown length, and hold a connection.
		var taken bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(advisoryLock)).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return nil
		}
		// Our own last connection may live on at the server after the network has broken. It is known by its process,
		// so nobody else's is ended.
		if e.pid != 0 {
			if _, err := conn.Exec(ctx, `
				SELECT pg_terminate_backend(pid) FROM pg_locks
				WHERE locktype = 'advisory' AND granted AND pid = $1
				  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				  AND (classid::bigint << 32) + objid::bigint = $2`, int64(e.pid), int64(advisoryLock)); err != nil {
				return err
			}
		}
		if !pause(ctx, wait) {
			return e.lockHolder(conn)
		}
	}
}

// lockHolder says who holds the lock.
func (e *postgresEngine) lockHolder(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectWait)
	defer cancel()
	var who string
	err := conn.QueryRow(ctx, `
		SELECT concat('server process ', l.pid, ', client ', coalesce(host(a.client_addr), 'on this machine'))
		FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND (l.classid::bigint << 32) + l.objid::bigint = $1`, int64(advisoryLock)).Scan(&who)
	if err != nil {
		who = "unknown"
	}
	return fmt.Errorf("the database is used by another process (%s)", who)
}

func (e *postgresEngine) dialect() dialect { return postgresDialect }

// Query runs sql on one connection of the pool.
func (e *postgresEngine) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	conn, err := e.pool.acquire(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := pgReader{conn}.query(ctx, sql, args)
	if err != nil {
		e.pool.release(conn)
		return nil, err
	}
	rows.release = func() { e.pool.release(conn) }
	return rows, nil
}

// pgReader is a Querier on one connection.
type pgReader struct{ conn *pgx.Conn }

// Query reads on the connection.
func (r pgReader) Query(ctx context.Context, sql string, args ...any) (Rows, error) {
	rows, err := r.query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func (r pgReader) query(ctx context.Context, sql string, args []any) (*postgresRows, error) {
	args, err := arguments(args)
	if err != nil {
		return nil, err
	}
	rows, err := r.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, readError(ctx, r.conn, err)
	}
	return &postgresRows{ctx: ctx, rows: rows}, nil
}

// snapshot reads under REPEATABLE READ, which sees one moment from its first statement on and locks nothing.
func (e *postgresEngine) snapshot(ctx context.Context, f func(Querier) error) error {
	conn, err := e.pool.acquire(ctx)
	if err != nil {
		return err
	}
	defer e.pool.release(conn)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return readError(ctx, conn, err)
	}
	defer func() {
		// Not under ctx: it may have ended, and the connection shall live.
		end, cancel := context.WithTimeout(context.Background(), cancelledWait)
		defer cancel()
		_ = tx.Rollback(end) // of reads: a connection that fails here is not used again
	}()
	return f(pgReader{conn})
}

// postgresRows decodes the values itself, since they need to be converted as on SQLite.
type postgresRows struct {
	ctx     context.Context // of the query, for the error only
	rows    pgx.Rows
	release func()
}

func (r *postgresRows) Next() bool {
	if r.rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close gives the connection back, once; what was not read is thrown away first.
func (r *postgresRows) Close() {
	r.rows.Close()
	if r.release != nil {
		r.release()
		r.release = nil
	}
}

func (r *postgresRows) Err() error { return readError(r.ctx, r.rows.Conn(), r.rows.Err()) }

func (r *postgresRows) Scan(dest ...any) error {
	raw, fields := r.rows.RawValues(), r.rows.FieldDescriptions()
	if len(raw) != len(dest) {
		return fmt.Errorf("storage: scan %d columns into %d values", len(raw), len(dest))
	}
	for i := range dest {
		c, err := r.decode(&fields[i], raw[i])
		if err == nil {
			err = assign(dest[i], c)
		}
		if err != nil {
			return fmt.Errorf("column %s: %w", fields[i].Name, err)
		}
	}
	return nil
}

// decode returns a value of one of the types that SQLite has too. Sums of BIGINT are numeric here.
func (r *postgresRows) decode(f *pgconn.FieldDescription, raw []byte) (cell, error) {
	if raw == nil {
		return nil, nil
	}
	if f.Format != pgx.BinaryFormatCode {
		return r.decodeOther(f, raw)
	}
	switch f.DataTypeOID {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.JSONOID, pgtype.UnknownOID:
		return string(raw), nil
	case pgtype.Int8OID:
		return int64(binary.BigEndian.Uint64(raw)), nil
	case pgtype.Int4OID:
		return int64(int32(binary.BigEndian.Uint32(raw))), nil
	case pgtype.Int2OID:
		return int64(int16(binary.BigEndian.Uint16(raw))), nil
	case pgtype.BoolOID:
		return raw[0] == 1, nil
	case pgtype.ByteaOID:
		return raw, nil
	case pgtype.Float8OID:
		return math.Float64frombits(binary.BigEndian.Uint64(raw)), nil
	}
	return r.decodeOther(f, raw)
}

func (r *postgresRows) decodeOther(f *pgconn.FieldDescription, raw []byte) (cell, error) {
	types := r.rows.Conn().TypeMap()
	switch f.DataTypeOID {
	case pgtype.Int8OID, pgtype.Int4OID, pgtype.Int2OID, pgtype.NumericOID:
		var n int64
		err := types.Scan(f.DataTypeOID, f.Format, raw, &n)
		return n, err
	case pgtype.BoolOID:
		var b bool
		err := types.Scan(f.DataTypeOID, f.Format, raw, &b)
		return b, err
	case pgtype.ByteaOID:
		var b []byte
		err := types.Scan(f.DataTypeOID, f.Format, raw, &b)
		return b, err
	}
	var s string
	err := types.Scan(f.DataTypeOID, f.Format, raw, &s)
	return s, err
}

func (e *postgresEngine) close() error {
	if e.pool != nil {
		e.pool.close()
	}
	if e.writer == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelledWait)
	defer cancel()
	return e.writer.Close(ctx)
}

// readError is why a read failed: its context has ended, the server is away or has no room, or else what it says itself.
func readError(ctx context.Context, conn *pgx.Conn, err error) error {
	if err == nil || ctx.Err() != nil {
		return contextError(ctx, err)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if o := judgePostgres(pg); o.verdict != failed {
			return o.err
		}
	}
	if lost(conn, err) {
		return &storedError{ErrUnavailable, err}
	}
	return err
}

// lost tells whether an error means that the connection to the server is gone.
func lost(conn *pgx.Conn, err error) bool {
	var netErr net.Error
	return conn.IsClosed() || errors.As(err, &netErr)
}
