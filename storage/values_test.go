package storage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/storage"
)

var hostile = []string{
	"", "plain", "\x00", "\x01", "\x010", "\x01x00", "a\x00b", "\x00\x01\x00", "\xff", "a\xc3", "\xed\xa0\x80", "\ufffd", "\u2028", `\u0000`, `"`, `'; DROP TABLE log`,
	"2020-01-01T00:00:00Z", "1", "1.0", "null", strings.Repeat("x", 1<<16),
}

// TestTextIsKept stores strings that the engines take badly, reads them back, and finds them.
func TestTextIsKept(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		ctx := context.Background()
		for _, s := range hostile {
			mustCommit(t, db, write(func(it *storage.Item) { it.Insert(things, s, 1, nil, []byte(s), s) }))
		}
		got, err := storage.Collect[string](ctx, db, `SELECT id FROM test_things`)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(hostile))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		for _, s := range hostile {
			data, found, err := storage.One[[]byte](ctx, db, `SELECT data FROM test_things WHERE id = $1 AND note = $1`, s)
			if !found || err != nil || !bytes.Equal(data, []byte(s)) {
				t.Errorf("%q: found %v, %q, %v", s, found, data, err)
			}
			set := storage.Set("nobody", s)
			id, found, err := storage.One[string](ctx, db, `SELECT coalesce(id, '') FROM test_things WHERE id IN (SELECT key FROM json_each($1))`, set)
			if !found || err != nil || id != s {
				t.Errorf("set of %q: found %v, %q, %v", s, found, id, err)
			}
		}
	})
}

type (
	name   string
	level  int8
	count  uint16
	digest []byte
)

func TestScan(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for _, c := range []struct {
			sql  string
			dest any
			want any
		}{
			{`SELECT 'a'`, new(string), "a"},
			{`SELECT CAST('a' AS TEXT)`, new(name), name("a")},
			{`SELECT CAST('a' AS TEXT)`, new([]byte), []byte("a")},
			{`SELECT CAST('{}' AS TEXT)`, new(json.RawMessage), json.RawMessage("{}")},
			{`SELECT CAST(7 AS BIGINT)`, new(int64), int64(7)},
			{`SELECT 7`, new(int), 7},
			{`SELECT -7`, new(level), level(-7)},
			{`SELECT 65535`, new(count), count(65535)},
			{`SELECT CAST(9223372036854775807 AS BIGINT)`, new(storage.Position), storage.Position(math.MaxInt64)},
			{`SELECT count(*) FROM log`, new(int), 1},
			{`SELECT sum(id) FROM log`, new(int64), int64(1)},
			{`SELECT id = 1 FROM log`, new(bool), true},
			{`SELECT EXISTS (SELECT 1 FROM log WHERE id = 2)`, new(bool), false},
			{`SELECT CAST(NULL AS TEXT)`, new(*string), (*string)(nil)},
			{`SELECT CAST(NULL AS BIGINT)`, new(*int64), (*int64)(nil)},
			{`SELECT CAST(NULL AS TEXT)`, new([]byte), []byte(nil)},
			{`SELECT secret FROM log WHERE 1 = 0 UNION ALL SELECT data FROM test_things`, new(digest), digest("x")},
			{`SELECT flag FROM test_things`, new(bool), true},
			{`SELECT flag FROM test_things`, new(any), true},
			{`SELECT data FROM test_things`, new(any), []byte("x")},
			{`SELECT id FROM test_things`, new(any), "x"},
			{`SELECT CAST(1.5 AS DOUBLE PRECISION)`, new(float64), 1.5},
		} {
			if db.Position() == 0 {
				mustCommit(t, db, insertThing("x"))
			}
			rows, err := db.Query(context.Background(), c.sql)
			if err != nil || !rows.Next() {
				t.Fatalf("%s: %v", c.sql, err)
			}
			err = rows.Scan(c.dest)
			rows.Close()
			if got := reflect.ValueOf(c.dest).Elem().Interface(); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: got %#v, %v, want %#v", c.sql, got, err, c.want)
			}
		}
	})
}

func TestScanRefuses(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for _, c := range []struct {
			sql  string
			dest any
		}{
			{`SELECT CAST(NULL AS TEXT)`, new(string)},
			{`SELECT 300`, new(level)},
			{`SELECT -1`, new(count)},
			{`SELECT 7`, new(string)},
			{`SELECT CAST('a' AS TEXT)`, new(int64)},
			{`SELECT 7`, new(bool)},
			{`SELECT 7`, new([]byte)},
			{`SELECT 7`, 7},
			{`SELECT 7`, nil},
		} {
			rows, err := db.Query(context.Background(), c.sql)
			if err != nil || !rows.Next() {
				t.Fatalf("%s: %v", c.sql, err)
			}
			if err := rows.Scan(c.dest); err == nil {
				t.Errorf("%s into %T: got no error", c.sql, c.dest)
			}
			rows.Close()
		}
	})
}

// TestParameterOrder guards against engines that count parameters by their appearance.
func TestParameterOrder(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		got, _, err := storage.One[string](context.Background(), db, `SELECT CAST($2 AS TEXT) || '$1' || CAST($1 AS TEXT)`, "a", "b")
		if got != "b$1a" || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, "b$1a")
		}
	})
}

func TestNumbersSet(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for _, n := range []int64{-5, 0, math.MaxInt64} {
			mustCommit(t, db, write(func(it *storage.Item) { it.Insert(marks, n, "x") }))
		}
		got, err := storage.Collect[int64](context.Background(), db,
			`SELECT id FROM test_marks WHERE id IN (SELECT CAST(key AS BIGINT) FROM json_each($1)) ORDER BY id`,
			storage.Numbers[int64](math.MaxInt64, -5, 7))
		if err != nil || !slices.Equal(got, []int64{-5, math.MaxInt64}) {
			t.Errorf("got %v, %v", got, err)
		}
		if got, err := storage.Collect[int64](context.Background(), db,
			`SELECT id FROM test_marks WHERE id IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers[int64]()); err != nil || got != nil {
			t.Errorf("the empty set found %v, %v", got, err)
		}
	})
}
