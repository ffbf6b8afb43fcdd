package storage_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

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
