package stateres

import (
	"container/heap"
	"context"
	"math"
	"slices"

	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
)

// powerOrder marks and returns the events of step 1, in reverse topological
// power ordering.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) powerOrder(ctx context.Context, set *conflictedSet) ([]*entry, error) {
	chosen := set.markFirst()
	if err := r.senderLevels(ctx, chosen); err != nil {
		return nil, err
	}
	var ready byPower
	for _, e := range chosen {
		if e.waits = len(set.auth(e)); e.waits == 0 {
			ready = append(ready, e)
		}
	}
	// Kahn's algorithm: of what waits for nothing, always the smallest.
	citing := set.citing(chosen)
	heap.Init(&ready)
	order := make([]*entry, 0, len(chosen))
	for len(ready) > 0 {
		e := heap.Pop(&ready).(*entry)
		order = append(order, e)
		for _, c := range citing.of(e) {
			if c.waits--; c.waits == 0 {
				heap.Push(&ready, c)
			}
		}
	}
	return order, nil
}

// markFirst marks and returns the power events and what their auth chains have
// of the set. All that an event of step 1 cites in the set is of step 1 too.
func (s *conflictedSet) markFirst() []*entry {
	var chosen []*entry
	mark := func(e *entry) {
		if !e.first {
			e.first = true
			chosen = append(chosen, e)
		}
	}
	for i := range s.entries {
		if s.entries[i].power {
			mark(&s.entries[i])
		}
	}
	for i := 0; i < len(chosen); i++ {
		for _, at := range s.auth(chosen[i]) {
			mark(&s.entries[at])
		}
	}
	return chosen
}

// citations are, for each entry, the entries that cite it: a run of all.
type citations struct {
	ends []int32 // of each entry's run; the next begins there
	all  []*entry
}

// citing returns what the chosen entries cite, turned round.
func (s *conflictedSet) citing(chosen []*entry) citations {
	c := citations{ends: make([]int32, len(s.entries)+1)}
	for _, e := range chosen {
		for _, at := range s.auth(e) {
			c.ends[at+1]++
		}
	}
	for i := 1; i < len(c.ends); i++ {
		c.ends[i] += c.ends[i-1]
	}
	// ends[i] is now where the run of i begins, and moves to its end as the
	// run is filled.
	c.all = make([]*entry, c.ends[len(s.entries)])
	for _, e := range chosen {
		for _, at := range s.auth(e) {
			c.all[c.ends[at]] = e
			c.ends[at]++
		}
	}
	return c
}

func (c *citations) of(e *entry) []*entry {
	from := int32(0)
	if e.at > 0 {
		from = c.ends[e.at-1]
	}
	return c.all[from:c.ends[e.at]]
}

// senderLevels fills in the power levels of the events' senders by their auth
// events. It goes through those with the same power levels in a row: so each of
// these is parsed once, however many there are, and whoever cites which.
func (r *resolution) senderLevels(ctx context.Context, entries []*entry) error {
	entries = slices.Clone(entries)
	sortByNum(entries, func(e *entry) statetree.Value { return e.levels })
	var levels auth.PowerLevels
	var of *entry // whose levels these are
	for some := range slices.Chunk(entries, MaxLoad/3) {
		r.nums = r.nums[:0]
		for _, e := range some {
			r.nums = append(r.nums, e.num, e.create, e.levels)
		}
		if err := r.events.load(ctx, r.nums); err != nil {
			return err
		}
		for _, e := range some {
			var err error
			if r.loaded, err = r.events.get(ctx, append(r.nums[:0], e.num, e.create, e.levels), r.loaded); err != nil {
				return err
			}
			if of == nil || of.levels != e.levels || of.create != e.create {
				levels, of = auth.Levels(r.room.Version, r.loaded[1], r.loaded[2]), e
			}
			e.level = levels.User(r.loaded[0].Sender)
		}
	}
	return nil
}

// byPower is a heap of events, the one whose sender has most power on top,
// then the older, then that of the lower ID.
type byPower []*entry

// Len is for package heap.
func (h byPower) Len() int { return len(h) }

// Swap is for package heap.
func (h byPower) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Less is for package heap.
func (h byPower) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.level != b.level {
		return a.level > b.level
	}
	return a.older(b)
}

// Push is for package heap.
func (h *byPower) Push(e any) { *h = append(*h, e.(*entry)) }

// Pop is for package heap.
func (h *byPower) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}

// mainline knows the mainline of a power levels event, and where the power
// levels of events join it.
type mainline struct {
	r *resolution
	// met are power levels events, in the mainline or not, each with the
	// position of the first in its own line which is in the mainline.
	met table[statetree.Value, int]
}

// offMainline is the position of what never joins the mainline.
const offMainline = math.MaxInt

// begin goes along the mainline of a power levels event; 0 has none.
func (m *mainline) begin(ctx context.Context, levels statetree.Value) error {
	for i := 0; levels != 0; i++ {
		id, added := m.met.add(levels)
		if !added {
			return nil
		}
		*m.met.value(id) = i
		var err error
		if levels, err = m.below(ctx, levels); err != nil {
			return err
		}
	}
	return nil
}

// of returns the mainline position of what has at as its power levels event; 0
// is none.
func (m *mainline) of(ctx context.Context, at statetree.Value) (int, error) {
	position, passed := offMainline, len(m.met.items)
	var err error
	for err == nil && at != 0 {
		id, added := m.met.add(at)
		if !added {
			position = *m.met.value(id)
			break
		}
		at, err = m.below(ctx, at)
	}
	for id := passed; id < len(m.met.items); id++ {
		*m.met.value(id) = position
	}
	return position, err
}

// below returns the power levels event among an event's auth events, or 0.
func (m *mainline) below(ctx context.Context, num statetree.Value) (statetree.Value, error) {
	n, _, err := m.r.node(ctx, num)
	for _, a := range n.Auth {
		if a.Key == m.r.keys.powerLevels {
			return a.Num, err
		}
	}
	return 0, err
}
