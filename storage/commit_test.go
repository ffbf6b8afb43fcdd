package storage_test

import (
	"context"
	"errors"
	"testing"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// write makes a Write of a function.
type write func(*storage.Item)

func (w write) Rows(it *storage.Item) { w(it) }

var (
	// things fail on a duplicate; notes are replaced; marks are ignored.
	things = storage.NewTable("test_things", storage.Fail, `
		id TEXT KEY, position BIGINT, flag BOOLEAN, data BYTEA, note TEXT`)
	notes = storage.NewTable("test_notes", storage.Replace, "id TEXT KEY, body TEXT, position BIGINT")
	marks = storage.NewTable("test_marks", storage.Ignore, "id BIGINT KEY, body TEXT")
)

const testSchema = `
CREATE TABLE test_things (id TEXT PRIMARY KEY, position BIGINT, flag BOOLEAN, data BYTEA, note TEXT);
CREATE TABLE test_notes (id TEXT PRIMARY KEY, body TEXT NOT NULL, position BIGINT);
CREATE TABLE test_marks (id BIGINT PRIMARY KEY, body TEXT NOT NULL);`

// each is storagetest.Each with the tables of these tests.
func each(t *testing.T, f func(t *testing.T, db *storage.DB)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		makeTables(t, db)
		f(t, db)
	})
}

func makeTables(t testing.TB, db *storage.DB) {
	t.Helper()
	if err := storage.Script(db, testSchema); err != nil {
		t.Fatal(err)
	}
}

// insertThing stores a thing with one piece of news.
func insertThing(id string) storage.Write {
	return write(func(it *storage.Item) {
		p := it.News(storage.News{Kind: storage.NewsEvent, Value: id})
		it.Insert(things, id, p, true, []byte(id), nil)
	})
}

func thingIDs(t *testing.T, q storage.Querier) []string {
	t.Helper()
	ids, err := storage.Collect[string](context.Background(), q, `SELECT id FROM test_things ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func mustCommit(t testing.TB, db *storage.DB, w storage.Write) storage.Position {
	t.Helper()
	p, err := db.Commit(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCommitGivesPositions(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for i, want := range []storage.Position{1, 2} {
			if got := mustCommit(t, db, insertThing(string(rune('a'+i)))); got != want {
				t.Errorf("position %d, want %d", got, want)
			}
		}
		got := mustCommit(t, db, write(func(it *storage.Item) { it.Insert(marks, 1, "x") }))
		if got != 0 {
			t.Errorf("a write without news got position %d, want 0", got)
		}
		got = mustCommit(t, db, write(func(it *storage.Item) {
			it.News(storage.News{Kind: storage.NewsEvent})
			second := it.News(storage.News{Kind: storage.NewsReceipt})
			it.Insert(things, "c", second, nil, nil, nil)
			it.Exec(`UPDATE test_things SET position = $1 WHERE id = $2`, second, "a")
		}))
		if got != 3 || db.Position() != 4 {
			t.Errorf("positions %d and last %d, want 3 and 4", got, db.Position())
		}
		ps, err := storage.Collect[storage.Position](context.Background(), db, `SELECT position FROM test_things ORDER BY id`)
		if err != nil || len(ps) != 3 || ps[0] != 4 || ps[1] != 2 || ps[2] != 4 {
			t.Errorf("stored positions %v, %v, want [4 2 4]", ps, err)
		}
	})
}

func TestConflicts(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		mustCommit(t, db, insertThing("a"))
		if _, err := db.Commit(context.Background(), insertThing("a")); !errors.Is(err, storage.ErrDuplicate) {
			t.Errorf("a second row of the key: got %v, want ErrDuplicate", err)
		}
		mustCommit(t, db, write(func(it *storage.Item) {
			it.Insert(notes, "n", "first", it.News(storage.News{}))
			it.Insert(notes, "n", "second", it.News(storage.News{}))
			it.Insert(marks, 1, "first")
			it.Insert(marks, 1, "second")
		}))
		mustCommit(t, db, write(func(it *storage.Item) { it.Insert(marks, 1, "third") }))
		body, _, err := storage.One[string](context.Background(), db, `SELECT body FROM test_notes WHERE id = $1 AND position = $2`, "n", 3)
		if body != "second" || err != nil {
			t.Errorf("replaced row is %q, %v, want second", body, err)
		}
		if body, _, _ := storage.One[string](context.Background(), db, `SELECT body FROM test_marks`); body != "first" {
			t.Errorf("ignored conflict left %q, want first", body)
		}
	})
}

func TestRequire(t *testing.T) {
	errTaken := errors.New("taken")
	claim := func(id string) storage.Write {
		return write(func(it *storage.Item) {
			it.Require(errTaken, `UPDATE test_things SET flag = $2 WHERE id = $1 AND flag`, id, false)
			it.Insert(things, "claimed-"+id, it.News(storage.News{}), false, nil, nil)
		})
	}
	each(t, func(t *testing.T, db *storage.DB) {
		mustCommit(t, db, insertThing("k"))
		mustCommit(t, db, claim("k"))
		before := db.Position()
		if _, err := db.Commit(context.Background(), claim("k")); err != errTaken {
			t.Errorf("second claim: got %v, want %v", err, errTaken)
		}
		if db.Position() != before {
			t.Errorf("a failed condition moved the position from %d to %d", before, db.Position())
		}
		_, err := db.Commit(context.Background(), write(func(it *storage.Item) {
			it.Require(errTaken, `SELECT 1 FROM test_things WHERE id = $1`, "nobody")
		}))
		if err != errTaken {
			t.Errorf("a SELECT that finds nothing: got %v, want %v", err, errTaken)
		}
	})
}

func TestMistakesFailAlone(t *testing.T) {
	for name, w := range map[string]write{
		"too few values": func(it *storage.Item) { it.Insert(marks, 1) },
		"wrong type":     func(it *storage.Item) { it.Insert(marks, "one", "x") },
		"no such type":   func(it *storage.Item) { it.Exec(`DELETE FROM test_marks WHERE id = $1`, struct{}{}) },
		"bad SQL":        func(it *storage.Item) { it.Exec(`DELETE FROM nowhere`) },
		"null":           func(it *storage.Item) { it.Insert(notes, "a", nil, nil) },
		"condition":      func(it *storage.Item) { it.Require(nil, `WITH a AS (SELECT 1) SELECT * FROM a`) },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, db *storage.DB) {
				if _, err := db.Commit(context.Background(), w); err == nil {
					t.Error("got no error")
				}
				mustCommit(t, db, insertThing("after"))
			})
		})
	}
}
