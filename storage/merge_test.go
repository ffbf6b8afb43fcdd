package storage

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMerge(t *testing.T) {
	replace := NewTable("r", Replace, "a TEXT KEY, b BIGINT KEY, c BYTEA")
	plain := NewTable("p", Fail, "a TEXT, b BIGINT, c BYTEA")
	one, two := &Item{}, &Item{}
	ref := one.News(News{})
	one.Insert(replace, "k", ref, []byte("old"))
	one.Insert(plain, "x", 1, nil)
	one.Insert(plain, "x", 1, nil)
	one.Insert(replace, "k", 7, []byte("other key"))
	two.Insert(replace, "k", 5, []byte("new")) // the position that ref becomes
	got := merge(&attempt{items: []*Item{one, two}, first: []Position{5, 6}})
	var rows []string
	for _, tr := range got {
		for i := range tr.rows {
			c, _ := tr.rows[i].value(2).([]byte)
			rows = append(rows, tr.table.name+":"+string(c))
		}
	}
	if want := []string{"r:new", "r:other key", "p:", "p:"}; !reflect.DeepEqual(rows, want) {
		t.Errorf("got %v, want %v", rows, want)
	}
	if got[0].owner() != manyItems || got[1].owner() != 0 {
		t.Errorf("owners %d and %d, want %d and 0", got[0].owner(), got[1].owner(), manyItems)
	}
}

// TestKeysDiffer: no two different keys look alike to the merge.
func TestKeysDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, values := range [][]any{
		{"a", "b"}, {"ab", ""}, {"", "ab"}, {"1sa", ""}, {[]byte("a"), "b"}, {int64(1), int64(11)}, {int64(11), int64(1)},
		{nil, "n"}, {"n", nil}, {true, false}, {"true", false}, {nil, nil},
	} {
		r := row{values: values}
		key := string(r.appendKey(nil, []int{0, 1}))
		if seen[key] {
			t.Errorf("%v has the key %q of another", values, key)
		}
		seen[key] = true
	}
}

func TestMigrationFiles(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	good, err := migrations(fstest.MapFS{"migrations/0002_b.sql": file("b"), "migrations/0001_a.sql": file("a"), "migrations/x.txt": file("")})
	want := []migration{{1, "0001_a", "a"}, {2, "0002_b", "b"}}
	if err != nil || !reflect.DeepEqual(good, want) {
		t.Errorf("got %v, %v, want %v", good, err, want)
	}
	for _, names := range [][]string{{"migrations/1_a.sql"}, {"migrations/abcd_a.sql"}, {"migrations/0001_a.sql", "migrations/0001_b.sql"}} {
		files := fstest.MapFS{}
		for _, n := range names {
			files[n] = file("")
		}
		if _, err := migrations(files); err == nil {
			t.Errorf("%v: got no error", names)
		}
	}
}

// TestMigrationIsWhole: a step that fails leaves nothing, and the steps before it stay.
func TestMigrationIsWhole(t *testing.T) {
	db, err := Open(context.Background(), Settings{URL: "sqlite", DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	steps, err := migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	steps = append(steps, migration{9001, "9001_good", `CREATE TABLE good (a TEXT)`},
		migration{9002, "9002_bad", `CREATE TABLE half (a TEXT); CREATE TABLE half (a TEXT)`})
	if err := migrate(context.Background(), db.engine, steps); err == nil || !strings.Contains(err.Error(), "9002_bad") {
		t.Errorf("got %v, want an error that names 9002_bad", err)
	}
	tables, err := Collect[string](context.Background(), db, `SELECT name FROM sqlite_schema WHERE name IN ('good', 'half')`)
	if err != nil || !reflect.DeepEqual(tables, []string{"good"}) {
		t.Errorf("tables %v, %v, want [good]", tables, err)
	}
	steps[len(steps)-1].sql = `CREATE TABLE half (a TEXT)`
	if err := migrate(context.Background(), db.engine, steps); err != nil {
		t.Errorf("again, mended: %v", err)
	}
}

func TestTail(t *testing.T) {
	var tl tail
	tl.last = 100 // as read from the database
	if _, complete := tl.since(99, 10); complete {
		t.Error("an empty tail said that it knows what follows 99")
	}
	var batch []News
	for p := Position(101); p <= 100+maxTail+5; p++ {
		batch = append(batch, News{Position: p})
	}
	tl.append(batch[:3])
	if news, complete := tl.since(100, 10); !complete || len(news) != 3 {
		t.Errorf("got %d, %v, want 3, true", len(news), complete)
	}
	tl.append(batch[3:])
	for _, c := range []struct {
		from     Position
		complete bool
		first    Position
	}{{100, false, 0}, {104, false, 0}, {105, true, 106}, {100 + maxTail, true, 101 + maxTail}} {
		news, complete := tl.since(c.from, 2)
		if complete != c.complete || complete && news[0].Position != c.first {
			t.Errorf("since %d: got %v, %v, want first %d, %v", c.from, news, complete, c.first, c.complete)
		}
	}
}
