package storage_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// The tables of the benchmarks have the shape of a room's: an event with two indexes, its nodes of
// state, a row that is replaced and one that is added.
var (
	benchEvents = storage.NewTable("bench_events", storage.Fail, `
		num BIGINT KEY, room BIGINT, event_id TEXT, position BIGINT, sub BIGINT, type TEXT, state_before BIGINT,
		json TEXT`)
	benchHeads = storage.NewTable("bench_heads", storage.Replace, "room BIGINT KEY, position BIGINT, extremities TEXT")
)

const benchSchema = `
CREATE TABLE bench_events (num BIGINT PRIMARY KEY, room BIGINT NOT NULL, event_id TEXT NOT NULL, position BIGINT, sub BIGINT NOT NULL,
	type TEXT NOT NULL, state_before BIGINT, json TEXT NOT NULL);
CREATE UNIQUE INDEX bench_events_id ON bench_events (event_id, room);
CREATE INDEX bench_events_order ON bench_events (room, position, sub);
CREATE TABLE bench_heads (room BIGINT PRIMARY KEY, position BIGINT NOT NULL, extremities TEXT NOT NULL);`

var benchJSON = `{"content":{"body":"` + strings.Repeat("x", 680) + `"}}`

func benchEvent(db *storage.DB) storage.Write {
	return write(func(it *storage.Item) {
		num := db.NextNumber()
		room := num % 1000
		p := it.News(storage.News{Kind: storage.NewsEvent})
		it.Insert(benchEvents, num, room, fmt.Sprintf("$%043d", num*7919%1000003*1000003+num), p, 0, "m.room.message", num/3, benchJSON)
		it.Insert(benchHeads, room, p, "[1]")
	})
}

func BenchmarkCommit(b *testing.B) {
	b.Setenv(storagetest.EnvSync, "1")
	for _, kind := range storagetest.Kinds {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("%s/%d", kind, writers), func(b *testing.B) {
				db := storagetest.Open(b, kind)
				if err := storage.Script(db, benchSchema); err != nil {
					b.Fatal(err)
				}
				before, written, start := cpu(), bytesWritten(), time.Now()
				b.ResetTimer()
				commitWith(b, db, writers)
				b.StopTimer()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "events/s")
				b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/event")
				b.ReportMetric(float64(bytesWritten()-written)/float64(b.N), "B-written/event")
			})
		}
	}
}

// commitWith commits b.N events from a number of goroutines.
func commitWith(b *testing.B, db *storage.DB, writers int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for left.Add(-1) >= 0 {
				if _, err := db.Commit(context.Background(), benchEvent(db)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
}

// cpu is the time this process has used; a server of its own is not in it.
func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bytesWritten is what this process has written to files, 0 where that is not known.
func bytesWritten() (n int64) {
	text, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "write_bytes: %d", &n)
	}
	return n
}

func BenchmarkPointRead(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) {
			db := storagetest.Open(b, kind)
			if err := storage.Script(db, benchSchema); err != nil {
				b.Fatal(err)
			}
			var last int64
			for range 200 {
				last = db.NextNumber() + 1
				mustCommit(b, db, benchEvent(db))
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				_, found, err := storage.One[string](ctx, db, `SELECT json FROM bench_events WHERE num = $1`, last)
				if !found || err != nil {
					b.Fatal(found, err)
				}
			}
		})
	}
}
