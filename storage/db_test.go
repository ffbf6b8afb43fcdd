package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func eachKind(t *testing.T, f func(t *testing.T, s storage.Settings)) {
	for _, kind := range storagetest.Kinds {
		t.Run(kind, func(t *testing.T) { f(t, storagetest.Settings(t, kind)) })
	}
}

func TestOpenTwice(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		open(t, s)
		_, err := storage.Open(context.Background(), s)
		if err == nil || !strings.Contains(err.Error(), "used by another process") {
			t.Errorf("the data directory is locked: got %v", err)
		}
		if s.URL == "sqlite" {
			return
		}
		s.DataDir = t.TempDir()
		_, err = storage.Open(context.Background(), s)
		if err == nil || !strings.Contains(err.Error(), "used by another process") {
			t.Errorf("the database is locked: got %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "mysql://x", "postgres://nobody@127.0.0.1:1/none"} {
		dir := t.TempDir()
		if _, err := storage.Open(context.Background(), storage.Settings{URL: url, DataDir: dir}); err == nil {
			t.Errorf("%q: got no error", url)
		}
		open(t, storage.Settings{URL: "sqlite", DataDir: dir}) // the lock was released
	}
}

func TestReopenKeepsAll(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		db := open(t, s)
		makeTables(t, db)
		run(t, db)
		mustCommit(t, db, insertThing("a"))
		number, incarnation, secret := db.NextNumber(), db.Incarnation(), db.Secret()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		again := open(t, s)
		if again.Position() != 1 || again.Incarnation() != incarnation || again.Secret() != secret {
			t.Errorf("got %d, %s, %x, want 1, %s, %x", again.Position(), again.Incarnation(), again.Secret(), incarnation, secret)
		}
		if n := again.NextNumber(); n <= number {
			t.Errorf("number %d was given after %d", n, number)
		}
		if incarnation == "" || strings.ContainsAny(incarnation, "_-") || secret == [16]byte{} {
			t.Errorf("incarnation %q, secret %x", incarnation, secret)
		}
	})
}

func TestDatabaseOfAnotherServerIsRefused(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		for _, c := range []struct {
			name matrix.ServerName
			want string // of the error; empty: opens
		}{
			{"", ""},
			{"example.con", ""},
			{"example.org", ""}, // nothing is stored yet that has the old name in it
			{"", ""},
			{"example.com", "belongs to the server example.org"},
			{"", ""},
			{"example.org", ""},
		} {
			s.ServerName = c.name
			db, err := storage.Open(t.Context(), s)
			if err == nil && c.name == "example.org" {
				run(t, db)
				mustCommit(t, db, write(func(*storage.Item) {}))
			}
			if err == nil {
				err = db.Close()
			}
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("opened as %q: got %v, want %q", c.name, err, c.want)
			}
		}
	})
}

// Who has given up before it reads takes no connection with it.
func TestReadersThatGaveUp(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		for range 100 {
			if _, _, err := storage.One[int64](gone, db, `SELECT 1`); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want %v", err, context.Canceled)
			}
			if err := db.Snapshot(gone, func(q storage.Querier) error {
				_, _, err := storage.One[int64](gone, q, `SELECT 1`)
				return err
			}); !errors.Is(err, context.Canceled) {
				t.Fatalf("snapshot: got %v, want %v", err, context.Canceled)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if n, _, err := storage.One[int64](ctx, db, `SELECT 7`); n != 7 || err != nil {
			t.Errorf("a reader after them got %d and %v, want 7", n, err)
		}
	})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		db := open(t, s)
		if err := storage.Script(db, `INSERT INTO migrations (version, name) VALUES (9999, '9999_future')`); err != nil {
			t.Fatal(err)
		}
		db.Close()
		_, err := storage.Open(context.Background(), s)
		if err == nil || !strings.Contains(err.Error(), "newer version") || !strings.Contains(err.Error(), "9999_future") {
			t.Errorf("got %v", err)
		}
	})
}

func TestClosed(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		if _, err := db.Commit(context.Background(), insertThing("first")); err != nil { // so the committer has begun
			t.Fatal(err)
		}
		if err := db.Run(context.Background()); err == nil {
			t.Error("a second Run got no error")
		}
		db.Close()
		if _, err := db.Commit(context.Background(), insertThing("a")); err != storage.ErrClosed {
			t.Errorf("Commit got %v, want ErrClosed", err)
		}
		done := make(chan error, 1)
		db.Submit(insertThing("b"), func(_ storage.Position, err error) { done <- err })
		if err := <-done; err != storage.ErrClosed {
			t.Errorf("Submit got %v, want ErrClosed", err)
		}
		if _, err := db.Query(context.Background(), `SELECT 1`); err == nil {
			t.Error("Query got no error")
		}
	})
}

// TestStopCommitsTheQueue: what was queued when Run is told to end is stored.
func TestStopCommitsTheQueue(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		db := open(t, s)
		makeTables(t, db)
		answers := make(chan error, len(tenNames))
		for _, n := range tenNames {
			db.Submit(insertThing(n), func(_ storage.Position, err error) { answers <- err })
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := db.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for range tenNames {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if got := thingIDs(t, db); !slices.Equal(got, tenNames) {
			t.Errorf("stored %v, want %v", got, tenNames)
		}
	})
}

func TestCloseWithoutRun(t *testing.T) {
	db := open(t, storagetest.Settings(t, storagetest.SQLite))
	done := make(chan error, 1)
	db.Submit(insertThing("a"), func(_ storage.Position, err error) { done <- err })
	db.Close()
	if err := <-done; err != storage.ErrClosed {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// wakes records the positions it is woken with, and what the log holds at that moment.
type wakes struct {
	mu   sync.Mutex
	db   *storage.DB
	seen []storage.Position
	bad  []string
}

func (w *wakes) Wake(p storage.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.db != nil && w.db.Position() != p {
		w.bad = append(w.bad, fmt.Sprintf("woken with %d at %d", p, w.db.Position()))
	}
	w.seen = append(w.seen, p)
}

func TestWakeAndTail(t *testing.T) {
	eachKind(t, func(t *testing.T, s storage.Settings) {
		w := &wakes{}
		s.Waker = w
		db := open(t, s)
		w.db = db
		makeTables(t, db)
		run(t, db)
		for _, n := range tenNames {
			mustCommit(t, db, insertThing(n))
		}
		mustCommit(t, db, write(func(it *storage.Item) { it.Insert(marks, 1, "no news") }))
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []storage.Position{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(w.seen, want) || w.bad != nil {
			t.Errorf("woken with %v, want %v; %v", w.seen, want, w.bad)
		}
		news, complete := db.Since(7, 2)
		if !complete || len(news) != 2 || news[0].Position != 8 || news[0].Value != "h" || news[1].Position != 9 {
			t.Errorf("got %v, %v", news, complete)
		}
		if news, complete := db.Since(10, 5); news != nil || !complete {
			t.Errorf("after the end: got %v, %v", news, complete)
		}
		if news, complete := db.Since(0, 100); len(news) != 10 || !complete {
			t.Errorf("all: got %v, %v", news, complete)
		}
	})
}

func TestCancelledContexts(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := db.Commit(ctx, insertThing("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit got %v", err)
		}
		if err := db.Snapshot(ctx, func(storage.Querier) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Snapshot got %v", err)
		}
		// A query that would run for a very long time ends soon after its context.
		const endless = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n`
		for range 20 { // more than there are connections: none may be lost or spoilt
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
			_, _, err := storage.One[int64](ctx, db, endless)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("endless query got %v", err)
			}
			cancel()
		}
		for range 20 {
			if n, _, err := storage.One[int64](context.Background(), db, `SELECT count(*) FROM log`); n != 1 || err != nil {
				t.Errorf("afterwards: got %d, %v", n, err)
			}
		}
		mustCommit(t, db, insertThing("b"))
		// Rows that are read no further leave their connection usable.
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			rows, err := db.Query(ctx, `SELECT id FROM test_things UNION ALL SELECT 'x' UNION ALL SELECT 'y'`)
			if err != nil || !rows.Next() {
				t.Fatal(err)
			}
			cancel()
			rows.Close()
		}
		if got := thingIDs(t, db); !slices.Equal(got, []string{"b"}) {
			t.Errorf("got %v, want [b]", got)
		}
	})
}

func TestSnapshot(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		mustCommit(t, db, insertThing("a"))
		err := db.Snapshot(context.Background(), func(q storage.Querier) error {
			before := thingIDs(t, q)
			mustCommit(t, db, insertThing("b"))
			if after := thingIDs(t, q); !slices.Equal(before, after) {
				t.Errorf("the snapshot moved from %v to %v", before, after)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := thingIDs(t, db); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("afterwards: got %v", got)
		}
		failed := errors.New("failed")
		if err := db.Snapshot(context.Background(), func(storage.Querier) error { return failed }); err != failed {
			t.Errorf("got %v, want %v", err, failed)
		}
	})
}

// TestReadersDoNotWrite: a Querier cannot change anything.
func TestReadersDoNotWrite(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		if _, _, err := storage.One[string](context.Background(), db, `INSERT INTO test_things (id) VALUES ('a') RETURNING id`); err == nil {
			t.Error("an INSERT by a reader got no error")
		}
		if got := thingIDs(t, db); got != nil {
			t.Errorf("stored %v", got)
		}
	})
}

func TestNextNumber(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		const goroutines, numbers = 4, 50_000 // several blocks
		var wg sync.WaitGroup
		seen := make([][]int64, goroutines)
		for g := range goroutines {
			wg.Go(func() {
				for range numbers {
					seen[g] = append(seen[g], db.NextNumber())
				}
			})
		}
		wg.Wait()
		all := slices.Concat(seen...)
		slices.Sort(all)
		if n := len(slices.Compact(all)); n != goroutines*numbers {
			t.Errorf("%d different numbers, want %d", n, goroutines*numbers)
		}
		last := all[len(all)-1]
		mustCommit(t, db, insertThing("a"))
		next, _, err := storage.One[int64](context.Background(), db, `SELECT next_number FROM log`)
		if err != nil || next <= last {
			t.Errorf("the log row says %d, %v, and %d was given out", next, err, last)
		}
	})
}
