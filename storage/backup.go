package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

const (
	backupSlice = 64   // pages copied between two groups: about a millisecond
	backupSync  = 4096 // pages after which the copy is synchronised, beside the committer

	// restoreGap is added to the last position and the next number of a restored database, so that
	// what was given out after the backup, and is known to others, is not given again.
	restoreGap = 1 << 32
)

// BackupTo writes a copy of the database, as it is at one moment near the end, to a new file. Run must
// be running.
//
// The connection that writes copies some pages at a time, between two groups. SQLite keeps a copy up to
// date with what its own connection writes, so the copy never begins anew however busy the server is, and no
// read transaction holds up the write-ahead log, as VACUUM INTO or a copy by another connection would.
func (db *DB) BackupTo(ctx context.Context, path string) error {
	e, ok := db.engine.(*sqliteEngine)
	if !ok { // its own tools know more of its set-up than we do
		return errors.New("back up a PostgreSQL database with pg_dump or pg_basebackup")
	}
	return e.backup(ctx, path, db.between)
}

// between runs f on the committer, between two groups.
func (db *DB) between(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	select {
	case db.jobs <- func() { done <- f() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closed:
		return ErrClosed
	}
}

// betweenFunc runs a function between two groups.
type betweenFunc func(context.Context, func() error) error

func (e *sqliteEngine) backup(ctx context.Context, path string, between betweenFunc) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(path)
		}
	}()
	if err := between(ctx, func() error { return e.beginBackup(path) }); err != nil {
		return err
	}
	for pages, done := 0, false; !done; pages += backupSlice {
		err = between(ctx, func() error {
			done, err = e.stepBackup()
			return err
		})
		if err != nil {
			// Under no context: the copy must end, or it slows every commit down. After Run, close ends it.
			return errors.Join(err, between(context.Background(), e.endBackup))
		}
		if pages%backupSync == 0 || done {
			if err := f.Sync(); err != nil {
				return errors.Join(err, between(context.Background(), e.endBackup))
			}
		}
	}
	if err := between(context.Background(), e.endBackup); err != nil {
		return err
	}
	return errors.Join(f.Sync(), syncDir(filepath.Dir(path)))
}

// beginBackup copies over the connection that writes: a copy made over another one begins anew whenever somebody
// writes, and under load would never end.
func (e *sqliteEngine) beginBackup(path string) error {
	if e.copying != nil {
		return errors.New("storage: another backup is running")
	}
	if e.writer == nil {
		return ErrUnavailable
	}
	return e.writer.Raw(func(c any) (err error) {
		e.copying, err = c.(driver.Conn).Raw().BackupInit("main", sqliteName(path))
		return err
	})
}

// stepBackup copies a slice. If the connection was lost in between, what was copied before may not fit what follows.
func (e *sqliteEngine) stepBackup() (done bool, err error) {
	if e.copying == nil {
		return false, errors.New("storage: the backup was given up with its connection")
	}
	return e.copying.Step(backupSlice)
}

func (e *sqliteEngine) endBackup() error {
	b := e.copying
	e.copying = nil
	return b.Close()
}

// RestoreFrom makes the database of a data directory from a copy that BackupTo wrote, with a new incarnation. It does not
// overwrite a database.
func RestoreFrom(ctx context.Context, s Settings, path string) (err error) {
	if s.URL != "sqlite" {
		return errors.New("restore a PostgreSQL database with its own tools, then renew its incarnation")
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(s.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	target := filepath.Join(s.DataDir, sqliteFile)
	// A log without its database would be applied to the copy.
	for _, name := range []string{target, target + "-wal"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("there is a database already: move %s away first", name), err)
		}
	}
	// Under another name until it is whole: a crash in the middle leaves nothing that serve would open.
	fresh := target + ".restoring"
	if err := copyFile(fresh, path); err != nil {
		return err
	}
	if err := restart(ctx, s.random(), fresh); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return errors.Join(os.Rename(fresh, target), syncDir(s.DataDir))
}

// restart checks a copy and renews its incarnation.
func restart(ctx context.Context, random io.Reader, path string) error {
	db, err := driver.Open(sqliteName(path), func(c *sqlite3.Conn) error {
		return c.Exec(`PRAGMA journal_mode = delete; PRAGMA synchronous = full`) // one file, no log beside it
	})
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return fmt.Errorf("check the copy: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("the copy is damaged: %s", verdict)
	}
	s, err := renewal(random)
	if err != nil {
		return err
	}
	res, err := db.ExecContext(ctx, sqliteDialect.query(s.sql), s.args...)
	if err != nil {
		return fmt.Errorf("renew the incarnation: %w", err)
	}
	return oneRow(res)
}

func oneRow(res sql.Result) error {
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("the copy has no log row"), err)
	}
	return nil
}

// RenewIncarnation says that the database was restored from a copy by other means: sync tokens made after the copy
// are not taken any more, and numbers given out after it are not given again. The database must not be open.
func RenewIncarnation(ctx context.Context, s Settings) error {
	db, err := Open(ctx, s)
	if err != nil {
		return err
	}
	st, err := renewal(s.random())
	if err == nil {
		err = db.engine.script(ctx, st)
	}
	return errors.Join(err, db.Close())
}

func renewal(random io.Reader) (statement, error) {
	incarnation, err := newIncarnation(random)
	return statement{`
		UPDATE log SET incarnation = $1, position = position + $2, next_number = next_number + $2
		WHERE id = 1`, []any{incarnation, int64(restoreGap)}}, err
}

func (s *Settings) random() io.Reader {
	if s.Rand == nil {
		return rand.Reader
	}
	return s.Rand
}

// copyFile copies a file and waits until the copy is on the disk.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
