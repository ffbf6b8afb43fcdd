package storage_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// TestArgumentsOfAllKinds hands each kind of Go value to the database as a parameter, and reads it back as it would be
// read from a column.
func TestArgumentsOfAllKinds(t *testing.T) {
	seven, text := int64(7), "x\x00y"
	var nothing *int64
	each(t, func(t *testing.T, db *storage.DB) {
		for _, c := range []struct {
			typ   string
			value any
			want  string
		}{
			{"TEXT", matrix.RoomID("!a:b"), "!a:b"},
			{"TEXT", name("n"), "n"},
			{"TEXT", text, text},
			{"TEXT", &text, text},
			{"BIGINT", 7, "7"},
			{"BIGINT", int32(-7), "-7"},
			{"BIGINT", level(-8), "-8"},
			{"BIGINT", count(math.MaxUint16), "65535"},
			{"BIGINT", uint32(math.MaxUint32), "4294967295"},
			{"BIGINT", storage.Position(math.MaxInt64), "9223372036854775807"},
			{"BIGINT", int64(math.MinInt64), "-9223372036854775808"},
			{"BIGINT", &seven, "7"},
		} {
			got, found, err := storage.One[any](context.Background(), db, `SELECT CAST($1 AS `+c.typ+`)`, c.value)
			if fmt.Sprint(got) != c.want || !found || err != nil {
				t.Errorf("%T %v: got %v, %v, %v, want %s", c.value, c.value, got, found, err, c.want)
			}
		}
		for _, absent := range []any{nil, nothing, (*string)(nil)} {
			got, _, err := storage.One[*string](context.Background(), db, `SELECT CAST($1 AS TEXT)`, absent)
			if got != nil || err != nil {
				t.Errorf("%T: got %v, %v, want nil", absent, got, err)
			}
		}
		for _, flag := range []bool{true, false} {
			got, _, err := storage.One[bool](context.Background(), db, `SELECT flag FROM test_things WHERE flag = $1
				UNION ALL SELECT CAST($1 AS BOOLEAN)`, flag)
			if got != flag || err != nil {
				t.Errorf("%v: got %v, %v", flag, got, err)
			}
		}
		half, _, err := storage.One[float64](context.Background(), db, `SELECT CAST($1 AS DOUBLE PRECISION)`, 0.5)
		whole, _, err2 := storage.One[float64](context.Background(), db, `SELECT CAST($1 AS DOUBLE PRECISION)`, float32(2))
		if half != 0.5 || whole != 2 || err != nil || err2 != nil {
			t.Errorf("got %v and %v, %v and %v, want 0.5 and 2", half, whole, err, err2)
		}
	})
}

// TestArgumentsThatAreNone: a value that no column can hold is the mistake of its caller alone.
func TestArgumentsThatAreNone(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for _, value := range []any{make(chan int), struct{ A int }{1}, []int{1}, map[string]int{}, complex(1, 1), uint64(math.MaxUint64), func() {}} {
			if _, _, err := storage.One[string](context.Background(), db, `SELECT CAST($1 AS TEXT)`, value); err == nil {
				t.Errorf("query with %T: got no error", value)
			}
			for what, w := range map[string]storage.Write{
				"insert":  write(func(it *storage.Item) { it.Insert(things, value, 1, nil, nil, nil) }),
				"exec":    write(func(it *storage.Item) { it.Exec(`DELETE FROM test_things WHERE id = $1`, value) }),
				"require": write(func(it *storage.Item) { it.Require(storage.ErrChain, `DELETE FROM test_things WHERE id = $1`, value) }),
			} {
				if _, err := db.Commit(context.Background(), w); err == nil || !strings.Contains(err.Error(), "storage:") {
					t.Errorf("%s of %T: got %v, want an error of storage", what, value, err)
				}
			}
		}
		mustCommit(t, db, insertThing("still works"))
	})
}

// TestWriteThatDoesNotFitItsTable: too few values, and values of another type than their column.
func TestWriteThatDoesNotFitItsTable(t *testing.T) {
	each(t, func(t *testing.T, db *storage.DB) {
		for what, w := range map[string]storage.Write{
			"too few":        write(func(it *storage.Item) { it.Insert(things, "a") }),
			"too many":       write(func(it *storage.Item) { it.Insert(things, "a", 1, nil, nil, nil, nil) }),
			"text as number": write(func(it *storage.Item) { it.Insert(things, "a", "one", nil, nil, nil) }),
			"number as text": write(func(it *storage.Item) { it.Insert(things, 1, 1, nil, nil, nil) }),
			"no statement":   write(func(it *storage.Item) { it.Require(storage.ErrChain, `DROP TABLE test_things`) }),
		} {
			if _, err := db.Commit(context.Background(), w); err == nil {
				t.Errorf("%s: got no error", what)
			}
		}
		if n, _, err := storage.One[int64](context.Background(), db, `SELECT count(*) FROM test_things`); n != 0 || err != nil {
			t.Errorf("got %d rows and %v, want none", n, err)
		}
	})
}
