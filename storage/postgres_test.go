package storage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Long values are compressed in the fast way, where the server knows it.
func TestCompression(t *testing.T) {
	db := storagetest.Open(t, storagetest.Postgres)
	makeTables(t, db)
	known, _, err := storage.One[int64](t.Context(), db, `
		SELECT COUNT(*) FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)`)
	if err != nil {
		t.Fatal(err)
	}
	if known == 0 {
		t.Skip("this server has no LZ4")
	}
	_, err = db.Commit(t.Context(), write(func(it *storage.Item) {
		it.Insert(things, "long", 1, true, nil, strings.Repeat("a long text, ", 1000))
	}))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := storage.One[string](t.Context(), db, `SELECT COALESCE(pg_column_compression(note), 'none') FROM test_things`)
	if err != nil || got != "lz4" {
		t.Errorf("a long value: compressed by %q, %v, want lz4", got, err)
	}
}

// The server learns how large a table is long before it would look by itself.
func TestPlannerKnowsOfGrowth(t *testing.T) {
	db := storagetest.Open(t, storagetest.Postgres)
	makeTables(t, db)
	known := func() int64 {
		n, _, err := storage.One[int64](t.Context(), db, `SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE relname = 'test_things'`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline, group := time.Now().Add(20*time.Second), 0; known() <= 0; group++ {
		if time.Now().After(deadline) {
			t.Fatalf("the server believes that there are %d rows", known())
		}
		_, err := db.Commit(t.Context(), write(func(it *storage.Item) {
			for i := range 300 {
				it.Insert(things, fmt.Sprint(group, " ", i), 1, true, nil, nil)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
}
