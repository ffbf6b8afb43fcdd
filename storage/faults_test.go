package storage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// eachWithSeam opens a database of each kind whose faults come from fault; its committer does
// not run yet, so that what is submitted makes one group.
func eachWithSeam(t *testing.T, fault func(step string) error, f func(t *testing.T, db *storage.DB)) {
	for _, kind := range storagetest.Kinds {
		t.Run(kind, func(t *testing.T) {
			db := open(t, storage.WithSeam(storagetest.Settings(t, kind), fault))
			makeTables(t, db)
			f(t, db)
		})
	}
}

func open(t testing.TB, s storage.Settings) *storage.DB {
	t.Helper()
	db, err := storage.Open(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

type result struct {
	name string
	pos  storage.Position
	err  error
}

// submitAll queues the writes, runs the committer until all are answered, and returns the answers in their order.
func submitAll(t testing.TB, db *storage.DB, names []string, of func(name string) storage.Write) []result {
	t.Helper()
	answers := make(chan result, len(names))
	for _, name := range names {
		db.Submit(of(name), func(p storage.Position, err error) { answers <- result{name, p, err} })
	}
	run(t, db)
	var all []result
	for range names {
		all = append(all, <-answers)
	}
	return all
}

// run runs the committer until the test ends.
func run(t testing.TB, db *storage.DB) {
	ended := make(chan error, 1)
	go func() { ended <- db.Run(context.Background()) }()
	t.Cleanup(func() {
		db.Close()
		<-ended
	})
}

// full is a write that has one of everything.
func full(name string) storage.Write {
	return write(func(it *storage.Item) {
		it.Require(errors.New("condition"), `SELECT 1 FROM log WHERE id = $1`, 1)
		p := it.News(storage.News{Kind: storage.NewsEvent, Value: name})
		it.Insert(things, name, p, true, nil, "x")
		it.Insert(notes, "shared", name, p)
		it.Exec(`UPDATE test_things SET note = $1 WHERE id = $2`, "y", name)
	})
}

var tenNames = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}

// TestFaultAtEachStep lets one step of a group fail once, in every way; nothing may be lost or stored twice.
func TestFaultAtEachStep(t *testing.T) {
	broken := errors.New("injected")
	for _, c := range []struct {
		step string
		err  error
	}{
		{"require", broken}, {"insert", broken}, {"exec", broken}, {"log", broken}, {"commit", broken},
		{"require", storage.ErrLost}, {"insert", storage.ErrLost}, {"exec", storage.ErrLost}, {"log", storage.ErrLost},
		{"commit", storage.ErrLost}, {"committed", storage.ErrLost},
	} {
		t.Run(fmt.Sprintf("%s/%v", c.step, c.err), func(t *testing.T) {
			var calls atomic.Int64
			fault := func(step string) error {
				if step == c.step && calls.Add(1) == 1 {
					return c.err
				}
				return nil
			}
			eachWithSeam(t, fault, func(t *testing.T, db *storage.DB) {
				calls.Store(0)
				checkStored(t, db, submitAll(t, db, tenNames, full), tenNames)
			})
		})
	}
}

// checkStored checks that all names are answered with success and stored, each at its own position.
func checkStored(t *testing.T, db *storage.DB, answers []result, want []string) {
	t.Helper()
	var stored []string
	for _, a := range answers {
		p, found, err := storage.One[storage.Position](context.Background(), db, `SELECT position FROM test_things WHERE id = $1`, a.name)
		if err != nil || found != (a.err == nil) || p != a.pos {
			t.Errorf("%s: answered %d, %v; stored %v at %d, %v", a.name, a.pos, a.err, found, p, err)
		}
		if a.err == nil {
			stored = append(stored, a.name)
		}
	}
	slices.Sort(stored)
	if !slices.Equal(stored, want) {
		t.Errorf("stored %v, want %v", stored, want)
	}
	if got := int(db.Position()); got != len(want) {
		t.Errorf("last position %d, want %d", got, len(want))
	}
}

// TestPoisonFailsAlone puts writes that cannot be stored among good ones.
func TestPoisonFailsAlone(t *testing.T) {
	errNo := errors.New("no")
	for name, poison := range map[string]write{
		"duplicate": func(it *storage.Item) { it.News(storage.News{}); it.Insert(things, "a", 1, nil, nil, nil) },
		"duplicate of two": func(it *storage.Item) {
			it.Insert(things, "p", 1, nil, nil, nil)
			it.Insert(things, "p", 1, nil, nil, nil)
		},
		"null":      func(it *storage.Item) { it.Insert(notes, "p", nil, nil) },
		"statement": func(it *storage.Item) { it.Exec(`UPDATE test_marks SET body = NULL`); it.Insert(marks, 1, "x") },
		"condition": func(it *storage.Item) { it.Require(errNo, `DELETE FROM test_marks WHERE id = $1`, -1) },
		"mistake":   func(it *storage.Item) { it.Insert(marks) },
	} {
		t.Run(name, func(t *testing.T) {
			eachWithSeam(t, nil, func(t *testing.T, db *storage.DB) {
				answers := submitAll(t, db, append([]string{"a", "b", "poison"}, tenNames[2:]...), func(name string) storage.Write {
					if name == "poison" {
						return poison
					}
					return full(name)
				})
				for i, a := range answers {
					if a.name == "poison" {
						if a.err == nil {
							t.Error("the poison was stored")
						}
						answers = slices.Delete(answers, i, i+1)
						break
					}
				}
				checkStored(t, db, answers, tenNames)
			})
		})
	}
}

// TestFull: a full disk is a clear error, and over when there is room.
func TestFull(t *testing.T) {
	var isFull atomic.Bool
	for kind, err := range map[string]error{storagetest.SQLite: sqliteFull(t), storagetest.Postgres: &pgconn.PgError{Code: "53100"}} {
		t.Run(kind, func(t *testing.T) {
			isFull.Store(true)
			db := open(t, storage.WithSeam(storagetest.Settings(t, kind), func(step string) error {
				if step == "insert" && isFull.Load() {
					return err
				}
				return nil
			}))
			makeTables(t, db)
			for _, a := range submitAll(t, db, tenNames, full) {
				if !errors.Is(a.err, storage.ErrFull) {
					t.Errorf("%s: got %v, want ErrFull", a.name, a.err)
				}
			}
			isFull.Store(false)
			if p := mustCommit(t, db, full("after")); p != 1 {
				t.Errorf("position %d, want 1", p)
			}
		})
	}
}

// sqliteFull makes SQLite say that the database is full.
func sqliteFull(t *testing.T) error {
	t.Helper()
	c, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Exec(`PRAGMA max_page_count = 2; CREATE TABLE a (b); CREATE TABLE c (d)`)
	if !errors.Is(err, sqlite3.FULL) {
		t.Fatalf("got %v, want %v", err, sqlite3.FULL)
	}
	return err
}

// TestServerEndsConnection kills the connection that writes, again and again, under load.
func TestServerEndsConnection(t *testing.T) {
	s := storagetest.Settings(t, storagetest.Postgres)
	db := open(t, s)
	makeTables(t, db)
	run(t, db)
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	const writers, each = 8, 40
	answers := make(chan result, writers*each)
	for w := range writers {
		go func() {
			for i := range each {
				name := fmt.Sprintf("%02d-%02d", w, i)
				p, err := db.Commit(ctx, full(name))
				answers <- result{name, p, err}
			}
		}()
	}
	var all []result
	var names []string
	for i := range writers * each {
		a := <-answers
		all, names = append(all, a), append(names, a.name)
		if i%40 != 20 {
			continue
		}
		if _, err := admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'myelin%'`); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	for { // the readers' connections were ended too; a read may fail once for each
		if _, _, err := storage.One[int64](ctx, db, `SELECT 1`); err == nil {
			break
		}
	}
	checkStored(t, db, all, names)
}
