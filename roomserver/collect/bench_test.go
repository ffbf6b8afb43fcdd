package collect

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Of BenchmarkLook.
const (
	benchMembers = 50_000
	benchPartial = 5_000   // events of the time in which the room was partial, each with two states
	benchOthers  = 200_000 // events since, a half of this room
)

// BenchmarkLook collects the garbage of a large room that was partial for a while, an hour of other events later. It tells
// the CPU time of this process and the longest slice.
func BenchmarkLook(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) {
			w := newWorld(b, storagetest.Open(b, kind))
			for b.Loop() {
				b.StopTimer()
				w.liveLarge()
				all := len(w.stored())
				b.StartTimer()
				first, longest := w.timed()
				w.now = w.now.Add(Wait)
				second, longer := w.timed()
				b.ReportMetric(float64(first.Milliseconds()), "first-ms")
				b.ReportMetric(float64(second.Milliseconds()), "second-ms")
				b.ReportMetric(float64(max(longest, longer).Milliseconds()), "slice-ms")
				b.ReportMetric(float64(all-len(w.stored())), "nodes")
			}
		})
	}
}

// liveLarge stores what such a room has.
func (w *world) liveLarge() {
	members := make([]statetree.Change, benchMembers)
	for i := range members {
		members[i] = statetree.Change{Key: w.member(i), Value: 1}
	}
	base := w.grow(statetree.Tree{}, members...)
	w.doubt(int64(base.Root()) - benchMembers)
	for _, named := range []bool{false, true} {
		tree, a := base, rooms.Append{Room: w.room, Generation: w.db.NextNumber()}
		var roots []statetree.NodeID
		for i := range benchPartial {
			next, nodes, err := w.trees.Set(ctx, tree, []statetree.Change{{Key: w.member(i * 7), Value: 2}})
			if err != nil {
				w.t.Fatal(err)
			}
			tree, a.Nodes, roots = next, append(a.Nodes, nodes...), append(roots, next.Root())
		}
		w.commit(a)
		w.trees.Stored(a.Nodes)
		if named {
			base = statetree.At(tree.Root())
			w.moves(roots)
		}
	}
	for _, room := range []int64{w.room.Num, w.room.Num + 1} {
		w.chat(room, base.Root())
	}
}

// moves stores state events with these states.
func (w *world) moves(roots []statetree.NodeID) {
	w.commit(exec{fmt.Sprintf(`
		INSERT INTO events (event_num, room_num, event_id, kind, anchor, sub, type, sender, json, state_before, state_with)
		SELECT CAST(key AS BIGINT), %[1]d, '$' || key, 1, CAST(key AS BIGINT), 0, 'm.room.member', '@alice:example.org', '%[2]s', 0, CAST(key AS BIGINT)
		FROM json_each($1)`, w.room.Num, strings.Repeat("x", 700)), []any{storage.Numbers(roots...)}})
}

// chat stores messages in a room.
func (w *world) chat(room int64, root statetree.NodeID) {
	from := w.db.NextNumber()
	for range benchOthers / 2 {
		w.db.NextNumber()
	}
	w.commit(exec{fmt.Sprintf(`
		INSERT INTO events (event_num, room_num, event_id, kind, anchor, sub, type, sender, json, state_before)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT %d + i, %d, '$' || (%[2]d + i), 1, 1000000 + i, 0, 'm.room.message', '@alice:example.org', '%[4]s', %[5]d FROM n`,
		benchOthers/2, from, room, strings.Repeat("x", 700), root), nil})
}

// timed looks, and returns the CPU time that it took, and the longest time between two looks at the clock.
func (w *world) timed() (cpu, longest time.Duration) {
	runtime.GC()
	last := time.Now()
	w.collector.Now = func() time.Time {
		longest, last = max(longest, time.Since(last)), time.Now()
		return w.now
	}
	before := cpuTime(w.t)
	w.look()
	return cpuTime(w.t) - before, longest
}

func cpuTime(t testing.TB) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
