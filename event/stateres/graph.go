package stateres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/myelin-chat/myelin/event/statetree"
)

// Graph is an [AuthGraph] in memory: about 60 bytes an event. Events are
// appended after their auth events. It is used by one goroutine at a time.
//
// Events and citations are numbered from 0 as they come. The citations of one
// event are a run of them; those that cite one event are a list, linked from
// the newest to the oldest.
type Graph struct {
	events  []graphEvent
	cited   []uint32 // of each citation: the event cited
	older   []uint32 // of each citation: the next older one of the same event, plus 1
	sources []uint32 // of every sourceStep-th citation: the event that makes it

	slots []uint32 // hash table of events by number: event plus 1
}

// graphEvent is what a step in the graph asks of an event, in one place.
type graphEvent struct {
	Ref
	first  uint32 // its first citation
	newest uint32 // the newest citation of it, plus 1
}

const (
	sourceStep = 16
	minSlots   = 16
	maxIndex   = math.MaxUint32 - 1
)

var (
	// ErrUnknownAuthEvent says that an event was appended before one of its
	// auth events.
	ErrUnknownAuthEvent = errors.New("stateres: the auth graph does not have an auth event")
	// ErrGraphFull says that an auth graph has no more room for an event.
	ErrGraphFull = errors.New("stateres: the auth graph is full")
)

// NewGraph returns an empty graph.
func NewGraph() *Graph { return &Graph{slots: make([]uint32, minSlots)} }

// Len returns the number of events.
func (g *Graph) Len() int { return len(g.events) }

// Bytes returns the memory that the graph takes.
func (g *Graph) Bytes() int64 {
	const event = 24
	return event*int64(cap(g.events)) + 4*int64(cap(g.cited)+cap(g.older)+cap(g.sources)+cap(g.slots))
}

// Has says whether the graph has an event.
func (g *Graph) Has(num statetree.Value) bool {
	_, ok := g.find(num)
	return ok
}

// Append adds an accepted state event, whose auth events it must have. An
// event that it has already is left as it is.
func (g *Graph) Append(e Ref, auth []statetree.Value) error {
	if g.Has(e.Num) {
		return nil
	}
	if len(g.events) >= maxIndex || len(g.cited)+len(auth) >= maxIndex {
		return ErrGraphFull
	}
	edges := len(g.cited)
	for _, num := range auth {
		at, ok := g.find(num)
		if !ok {
			g.cited = g.cited[:edges]
			return fmt.Errorf("%w: %d, of event %d", ErrUnknownAuthEvent, num, e.Num)
		}
		g.cited = append(g.cited, at)
	}
	at := uint32(len(g.events))
	g.events = append(g.events, graphEvent{Ref: e, first: uint32(edges)})
	for edge := edges; edge < len(g.cited); edge++ {
		target := &g.events[g.cited[edge]]
		g.older = append(g.older, target.newest)
		target.newest = uint32(edge) + 1
		if edge%sourceStep == 0 {
			g.sources = append(g.sources, at)
		}
	}
	g.enter(at)
	return nil
}

// Truncate takes away the newest events, so that n are left: those of a commit
// that failed.
func (g *Graph) Truncate(n int) {
	for len(g.events) > n {
		at := len(g.events) - 1
		edges := int(g.events[at].first)
		for edge := len(g.cited) - 1; edge >= edges; edge-- {
			g.events[g.cited[edge]].newest = g.older[edge]
		}
		g.remove(uint32(at))
		g.events = g.events[:at]
		g.cited, g.older = g.cited[:edges], g.older[:edges]
		g.sources = g.sources[:(edges+sourceStep-1)/sourceStep]
	}
}

// Node implements [AuthGraph].
func (g *Graph) Node(_ context.Context, num statetree.Value, buf []Ref) (Node, bool, error) {
	at, ok := g.find(num)
	if !ok {
		return Node{Auth: buf}, false, nil
	}
	for _, target := range g.cited[g.events[at].first:g.end(at)] {
		buf = append(buf, g.events[target].Ref)
	}
	return Node{Key: g.events[at].Key, Order: int64(at) + 1, Auth: buf}, true, nil
}

// Citing implements [AuthGraph].
func (g *Graph) Citing(_ context.Context, num statetree.Value, from Cursor, page []Ref) (int, Cursor, error) {
	edge := uint32(from)
	if from == 0 {
		at, ok := g.find(num)
		if !ok {
			return 0, 0, nil
		}
		edge = g.events[at].newest
	}
	n := 0
	for ; n < len(page) && edge != 0; n++ {
		page[n] = g.events[g.source(edge-1)].Ref
		edge = g.older[edge-1]
	}
	return n, Cursor(edge), nil
}

// end returns the citation after the last of an event.
func (g *Graph) end(at uint32) uint32 {
	if int(at)+1 < len(g.events) {
		return g.events[at+1].first
	}
	return uint32(len(g.cited))
}

// source returns the event that makes a citation.
func (g *Graph) source(edge uint32) uint32 {
	step := int(edge / sourceStep)
	low, high := g.sources[step], uint32(len(g.events))
	if step+1 < len(g.sources) {
		high = g.sources[step+1] + 1
	}
	// The last event that begins at or before edge; those without citations
	// before it begin there as well.
	n := sort.Search(int(high-low), func(i int) bool { return g.events[low+uint32(i)].first > edge })
	return low + uint32(n) - 1
}

// home is the slot that a number belongs in.
func (g *Graph) home(num statetree.Value) int { return homeOf(uint64(num), len(g.slots)) }

func (g *Graph) find(num statetree.Value) (uint32, bool) {
	for slot := g.home(num); g.slots[slot] != 0; slot = g.after(slot) {
		if at := g.slots[slot] - 1; g.events[at].Num == num {
			return at, true
		}
	}
	return 0, false
}

func (g *Graph) after(slot int) int { return (slot + 1) & (len(g.slots) - 1) }

// enter puts an event into the hash table.
func (g *Graph) enter(at uint32) {
	if 4*len(g.events) > 3*len(g.slots) {
		g.slots = make([]uint32, 2*len(g.slots))
		for i := range at {
			g.place(i)
		}
	}
	g.place(at)
}

func (g *Graph) place(at uint32) {
	slot := g.home(g.events[at].Num)
	for g.slots[slot] != 0 {
		slot = g.after(slot)
	}
	g.slots[slot] = at + 1
}

// remove takes the newest event out of the hash table. No other was kept from
// its slot by it: events are placed in their order, also when the table grows.
func (g *Graph) remove(at uint32) {
	slot := g.home(g.events[at].Num)
	for g.slots[slot] != at+1 {
		slot = g.after(slot)
	}
	g.slots[slot] = 0
}
