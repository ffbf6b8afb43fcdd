package history

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// wide is a graph in memory of n events, each of which names twenty of those before it.
func wide(n int) *graph {
	r := rand.New(rand.NewPCG(1, 2))
	g := new(API).newGraph(rooms.Room{})
	id := func(i int) matrix.EventID { return matrix.EventID(fmt.Sprint("$", i)) }
	for i := range n {
		e := &rooms.Event{Event: &event.Event{ID: id(i), Depth: int64(i)}, Num: int64(i)}
		for range min(i, event.MaxPrevEvents) {
			e.PrevEvents = append(e.PrevEvents, id(r.IntN(i)))
		}
		g.events[e.ID] = e
	}
	g.queue(id(n - 1))
	return g
}

func TestNewestFirst(t *testing.T) {
	g := wide(3000)
	last, met := int64(3000), 0
	for {
		e, err := g.newest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			break
		}
		if e.Depth >= last {
			t.Fatalf("got depth %d after %d, want them in order, each once", e.Depth, last)
		}
		last = e.Depth
		met++
		g.queue(e.PrevEvents...)
	}
	if met != maxVisited {
		t.Errorf("met %d events, want no more than %d looked at", met, maxVisited)
	}
}

// BenchmarkNewest: what costs most of a room that somebody has made to be walked through.
func BenchmarkNewest(b *testing.B) {
	g := wide(40_000)
	first := g.waiting
	b.ReportAllocs()
	for b.Loop() {
		g = &graph{events: g.events, queued: map[matrix.EventID]bool{}}
		g.queue(first...)
		for {
			e, err := g.newest(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if e == nil {
				break
			}
			g.queue(e.PrevEvents...)
		}
	}
}
