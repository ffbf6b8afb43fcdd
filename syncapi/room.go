package syncapi

import (
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of what is kept of one room.
const (
	ringEvents   = 256
	ringReceipts = 512
	eventBytes   = 512 // of an event in memory, beside its JSON
)

// room is the recent past of one room. The slices only ever grow at their end, or
// are replaced, so that a reader may keep what it saw under the hub's lock.
type room struct {
	num   int64
	id    matrix.RoomID
	from  storage.Position   // what happened up to here, only the database knows
	last  storage.Position   // of anything in it that clients can be told of; 0: nothing yet
	users map[*user]struct{} // joined, and with a client

	events      []*rooms.Event // ascending: all live events after eventsFrom
	eventsFrom  storage.Position
	roots       []rootMove // ascending: the moves of the current state after rootsFrom
	rootsFrom   storage.Position
	receipts    []rooms.Receipt
	receiptFrom storage.Position
	bytes       int64

	summary    *summary         // nil: not known
	stateMoved storage.Position // the latest move of the current state, as far as is known
}

// rootMove says that the current state has this root from a position on.
type rootMove struct {
	from storage.Position
	root rooms.Root
}

func newRoom(num int64, id matrix.RoomID, from storage.Position) *room {
	return &room{
		num: num, id: id, from: from, users: map[*user]struct{}{},
		eventsFrom: from, rootsFrom: from, receiptFrom: from, stateMoved: from,
	}
}

// add appends an event and returns how many bytes more the room takes.
func (r *room) add(e *rooms.Event) int64 {
	r.last = max(r.last, e.Position)
	before := r.bytes
	r.events = append(r.events, e)
	r.bytes += sizeOf(e)
	if n := len(r.roots); n == 0 || r.roots[n-1].root != e.StateAfter {
		r.move(rootMove{e.Position, e.StateAfter})
	}
	if len(r.events) > ringEvents {
		r.trim(ringEvents / 2)
	}
	return r.bytes - before
}

// move notes a move of the current state.
func (r *room) move(m rootMove) {
	r.last = max(r.last, m.from)
	r.roots = append(r.roots, m)
	r.summary, r.stateMoved = nil, m.from
	if len(r.roots) > ringEvents {
		cut := len(r.roots) - ringEvents/2
		r.rootsFrom = r.roots[cut-1].from
		r.roots = slices.Clone(r.roots[cut:])
	}
}

// trim drops all but the newest keep events.
func (r *room) trim(keep int) {
	cut := len(r.events) - keep
	for _, e := range r.events[:cut] {
		r.bytes -= sizeOf(e)
	}
	r.eventsFrom = r.events[cut-1].Position
	r.events = slices.Clone(r.events[cut:])
}

// forgetEvents drops all events and returns how many bytes that frees.
func (r *room) forgetEvents() int64 {
	freed := r.bytes
	if n := len(r.events); n > 0 {
		r.eventsFrom = r.events[n-1].Position
	}
	r.events, r.bytes = nil, 0
	return freed
}

func (r *room) addReceipt(v rooms.Receipt) {
	r.last = max(r.last, v.Position)
	r.receipts = append(r.receipts, v)
	if len(r.receipts) > ringReceipts {
		cut := len(r.receipts) - ringReceipts/2
		r.receiptFrom = r.receipts[cut-1].Position
		r.receipts = slices.Clone(r.receipts[cut:])
	}
}

// concerns notes that something at a position concerns everybody in the room.
func (r *room) concerns(at storage.Position, b *batch) {
	for u := range r.users {
		b.add(u, at)
	}
}

// put notes whether a user is in the room.
func (r *room) put(u *user, m event.Membership) {
	if m == event.Join {
		r.users[u] = struct{}{}
	} else {
		delete(r.users, u)
	}
}

func sizeOf(e *rooms.Event) int64 { return int64(len(e.JSON)) + eventBytes }

// passage is a stretch of a room's events as it was read from the database, newest first.
type passage struct {
	room   int64
	events []*rooms.Event
	span   storage.Span // what was asked for
	whole  bool         // the span has no more events than these
}

// from is the position after which the passage has all events.
func (p *passage) from() storage.Position {
	if p.whole {
		return p.span.After
	}
	return p.events[len(p.events)-1].Position - 1
}

// prepend puts a passage before the events that are kept, if it fits there, and
// returns how many bytes more the room takes.
func (r *room) prepend(p passage) int64 {
	if p.span.UpTo != r.eventsFrom || len(p.events)+len(r.events) > ringEvents {
		return 0
	}
	before := r.bytes
	events := make([]*rooms.Event, 0, len(p.events)+len(r.events))
	for _, e := range slices.Backward(p.events) {
		events = append(events, e)
		r.bytes += sizeOf(e)
	}
	r.events = append(events, r.events...)
	r.eventsFrom = p.from()
	return r.bytes - before
}

// glimpse is a room as a reader found it: what of it is in memory.
type glimpse struct {
	from        storage.Position
	last        storage.Position
	events      []*rooms.Event
	eventsFrom  storage.Position
	roots       []rootMove
	rootsFrom   storage.Position
	receipts    []rooms.Receipt
	receiptFrom storage.Position
	summary     *summary
}

// unknown is a room of which nothing up to a position is in memory.
func unknown(at storage.Position) glimpse {
	return glimpse{from: at, eventsFrom: at, rootsFrom: at, receiptFrom: at}
}

func (r *room) glimpse() glimpse {
	return glimpse{
		from: r.from, last: r.last, events: r.events, eventsFrom: r.eventsFrom,
		roots: r.roots, rootsFrom: r.rootsFrom, receipts: r.receipts, receiptFrom: r.receiptFrom,
		summary: r.summary,
	}
}

// eventsIn returns the events of a span that are in memory: all, if eventsFrom is
// not beyond its start.
func (g *glimpse) eventsIn(span storage.Span) []*rooms.Event {
	from := after(g.events, span.After, func(e *rooms.Event) storage.Position { return e.Position })
	to := after(g.events, span.UpTo, func(e *rooms.Event) storage.Position { return e.Position })
	return g.events[from:to]
}

// receiptsIn returns the receipts of a span, if the memory has all of them.
func (g *glimpse) receiptsIn(span storage.Span) ([]rooms.Receipt, bool) {
	if span.After < g.receiptFrom {
		return nil, false
	}
	from := after(g.receipts, span.After, func(v rooms.Receipt) storage.Position { return v.Position })
	to := after(g.receipts, span.UpTo, func(v rooms.Receipt) storage.Position { return v.Position })
	return g.receipts[from:to], true
}

// rootAt returns the root of the current state at a position, if the memory knows it.
func (g *glimpse) rootAt(p storage.Position) (rooms.Root, bool) {
	if p < g.rootsFrom {
		return 0, false
	}
	i := after(g.roots, p, func(m rootMove) storage.Position { return m.from })
	if i == 0 {
		return 0, false
	}
	return g.roots[i-1].root, true
}

// after returns the index of the first item behind position p.
func after[T any](items []T, p storage.Position, at func(T) storage.Position) int {
	i, _ := slices.BinarySearchFunc(items, p, func(item T, p storage.Position) int {
		if at(item) <= p {
			return -1
		}
		return 1
	})
	return i
}
