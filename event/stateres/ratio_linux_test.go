package stateres_test

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// BenchmarkGrowth merges each of the expensive rooms in two sizes, by turns, so
// that what else the machine does strikes both. It reports how many times as
// much the larger one takes, by medians: of CPU, of bytes allocated, and of
// steps. All three are to stay below 5. The collector does not run meanwhile:
// it would mark the whole room of the test, which no server has in memory; what
// it costs goes with the bytes.
//
// graph-ratio says how many times as large the graph is, events and citations
// counted. It is what n means here, and is 4 for each shape: where all cite
// all, that is the ten auth events an event may have, in either room.
func BenchmarkGrowth(b *testing.B) {
	const n = 10_000
	for _, shape := range shapes {
		for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
			b.Run(fmt.Sprintf("%s/v%s", shape.name, version), func(b *testing.B) {
				small, large := newBig(b, version), newBig(b, version)
				small.ascending, large.ascending = true, true
				smallStates, largeStates := shape.make(small, n), shape.make(large, 4*n)
				var of, fourfold costs
				for b.Loop() {
					of.measure(small, smallStates)
					fourfold.measure(large, largeStates)
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(median(of.cpu))/1e6, "small-cpu-ms")
				b.ReportMetric(float64(median(fourfold.cpu))/float64(median(of.cpu)), "cpu-ratio")
				b.ReportMetric(float64(median(fourfold.bytes))/float64(median(of.bytes)), "bytes-ratio")
				b.ReportMetric(float64(fourfold.steps)/float64(of.steps), "steps-ratio")
				b.ReportMetric(float64(large.size())/float64(small.size()), "graph-ratio")
			})
		}
	}
}

// costs are what merges took, one entry each.
type costs struct {
	cpu   []time.Duration
	bytes []uint64
	steps int // the same for each
}

func (c *costs) measure(room *big, states []statetree.Tree) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	started := cpuTime(room.t)
	res := room.merge(states)
	c.cpu = append(c.cpu, cpuTime(room.t)-started)
	runtime.ReadMemStats(&after)
	c.bytes = append(c.bytes, after.TotalAlloc-before.TotalAlloc)
	c.steps = res.Visits + res.Replayed
}

// size is the number of events and citations.
func (b *big) size() int {
	n := len(b.order)
	for _, ev := range b.order {
		n += len(ev.AuthEvents)
	}
	return n
}

func median[T ~int64 | ~uint64](list []T) T {
	slices.Sort(list)
	return list[len(list)/2]
}

// cpuTime is what the process has used of all processors.
func cpuTime(t failer) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
