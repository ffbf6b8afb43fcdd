package storage_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// TestBackupUnderLoad copies a database while it is written to, and restores the copy.
func TestBackupUnderLoad(t *testing.T) {
	s := storagetest.Settings(t, storagetest.SQLite)
	db := open(t, s)
	makeTables(t, db)
	run(t, db)
	data := make([]byte, 100_000)
	for i := range 20 {
		mustCommit(t, db, write(func(it *storage.Item) {
			it.Insert(things, fmt.Sprint("old", i), it.News(storage.News{}), true, data, nil)
		}))
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, err := db.Commit(context.Background(), insertThing(fmt.Sprint("new", i))); err != nil {
				stopped <- err
				return
			}
		}
	}()
	path := filepath.Join(t.TempDir(), "copy.db")
	err := db.BackupTo(context.Background(), path)
	close(stop)
	if writeErr := <-stopped; err != nil || writeErr != nil {
		t.Fatal(err, writeErr)
	}
	if err := db.BackupTo(context.Background(), path); err == nil {
		t.Error("a backup overwrote a file")
	}
	if err := storage.RestoreFrom(context.Background(), s, path); err == nil {
		t.Error("a restore overwrote the database in use")
	}
	last := db.Position()
	to := storage.Settings{URL: "sqlite", DataDir: t.TempDir()}
	if err := storage.RestoreFrom(context.Background(), to, path); err != nil {
		t.Fatal(err)
	}
	if err := storage.RestoreFrom(context.Background(), to, path); err == nil {
		t.Error("a restore overwrote a database")
	}
	again := open(t, to)
	if again.Incarnation() == db.Incarnation() || again.Secret() != db.Secret() {
		t.Error("the incarnation was to be renewed, and the secret kept")
	}
	if again.Position() <= last || again.NextNumber() <= db.NextNumber() {
		t.Errorf("the restored log is at %d, and %d was given out", again.Position(), last)
	}
	// One moment: as many rows as positions were given.
	n, _, err := storage.One[int64](context.Background(), again, `SELECT count(*) - max(position) FROM test_things`)
	if n != 0 || err != nil {
		t.Errorf("rows without position or positions without row: %d, %v", n, err)
	}
}

func TestBackupRefuses(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := db.BackupTo(ctx, path); err == nil {
		t.Error("a cancelled backup got no error")
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a cancelled backup left its file")
	}
	damaged := filepath.Join(t.TempDir(), "damaged.db")
	if err := os.WriteFile(damaged, []byte("not a database, but long enough to be read as the head of one"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := storage.Settings{URL: "sqlite", DataDir: t.TempDir()}
	if err := storage.RestoreFrom(context.Background(), to, damaged); err == nil {
		t.Error("a damaged copy was restored")
	}
	open(t, to) // nothing was left in the way
}

func TestRenewIncarnation(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		db := open(t, s)
		before := db.Incarnation()
		db.Close()
		if err := storage.RenewIncarnation(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if again := open(t, s); again.Incarnation() == before || again.Position() == 0 {
			t.Errorf("incarnation %s after %s, position %d", again.Incarnation(), before, again.Position())
		}
	})
}
