package storage

import (
	"reflect"
	"testing"
)

func TestNewTable(t *testing.T) {
	got := NewTable("things", Replace, `
		id TEXT KEY, part BIGINT KEY,
		flag BOOLEAN, data BYTEA`)
	want := &Table{
		name:       "things",
		columns:    []column{{"id", textColumn}, {"part", bigintColumn}, {"flag", booleanColumn}, {"data", bytesColumn}},
		key:        []string{"id", "part"},
		onConflict: Replace,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if other := got.On(Ignore); other == got || other.onConflict != Ignore || got.onConflict != Replace {
		t.Errorf("On(Ignore): got %+v, and %+v of the first", other, got)
	}
}

func TestNewTablePanics(t *testing.T) {
	for name, make := range map[string]func(){
		"no type":              func() { NewTable("t", Fail, "id KEY") },
		"an unknown type":      func() { NewTable("t", Fail, "id INTEGER KEY") },
		"a word too much":      func() { NewTable("t", Fail, "id TEXT PRIMARY KEY") },
		"a comma too much":     func() { NewTable("t", Fail, "id TEXT KEY,") },
		"replaced without key": func() { NewTable("t", Replace, "id TEXT") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("got a table, want a panic")
				}
			}()
			make()
		})
	}
}
