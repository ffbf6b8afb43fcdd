package stateres

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
)

// mask is a set of states, a bit for each. MaxStates fit.
type mask uint64

// candidate is what some of the states hold at one key.
type candidate struct {
	// num is 0 for nothing, and negative for an event that the graph does not
	// have, which counts as nothing.
	num statetree.Value
	in  mask
}

// conflict is a key at which not all states hold the same.
type conflict struct {
	// candidates have different numbers; the first is of the first state.
	candidates []candidate
	// settled says that there is no conflict in the sense of the algorithm:
	// the outcome was known before it began, and is part of the state that
	// it begins with.
	settled bool
	outcome statetree.Value
}

// disputed is an event at whose place the states do not agree: in v2, of the
// conflicted state set.
type disputed struct {
	in       mask  // the states that hold it
	conflict int32 // in resolution.conflicts
}

// findConflicts compares the first state with each of the others.
func (r *resolution) findConflicts(ctx context.Context) error {
	at := mask(2)
	one := func(k statetree.Key, first, other statetree.Value) error {
		r.conflicts.append(k, conflict{candidates: r.candidates(first)})
		r.conflicts.value(len(r.conflicts.items)-1).move(other, at)
		return nil
	}
	if err := r.room.Trees.Diff(ctx, r.states[0], r.states[1], one); err != nil {
		return err
	}
	r.conflicts.index()
	for _, state := range r.states[2:] {
		at <<= 1
		err := r.room.Trees.Diff(ctx, r.states[0], state, func(k statetree.Key, first, other statetree.Value) error {
			r.conflictAt(k, first).move(other, at)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.dispute(ctx)
}

// conflictAt returns the conflict at a key, for whose value the first state
// speaks until others are heard.
func (r *resolution) conflictAt(k statetree.Key, first statetree.Value) *conflict {
	i, added := r.conflicts.add(k)
	c := r.conflicts.value(i)
	if added {
		c.candidates = r.candidates(first)
	}
	return c
}

// candidates returns a list with what the first state holds, as if all did, and
// room for another.
func (r *resolution) candidates(first statetree.Value) []candidate {
	const few, many = 16, 1024
	if len(r.spare) == 0 {
		r.spare = make([]candidate, 2*min(max(len(r.conflicts.items), few), many))
	}
	list := append(r.spare[:0:2], candidate{num: first, in: r.full})
	r.spare = r.spare[2:]
	return list
}

// move says that one of the states holds another event than the first.
func (c *conflict) move(num statetree.Value, state mask) {
	c.candidates[0].in &^= state
	for i := range c.candidates {
		if c.candidates[i].num == num {
			c.candidates[i].in |= state
			return
		}
	}
	c.candidates = append(c.candidates, candidate{num: num, in: state})
}

// dispute finds the events in conflict, drops what the graph does not have, and
// settles what that decides.
func (r *resolution) dispute(ctx context.Context) error {
	items := make([]item[statetree.Value, disputed], 0, 2*len(r.conflicts.items))
	for i := range r.conflicts.items {
		for _, o := range r.conflicts.value(i).candidates {
			if o.num != 0 {
				items = append(items, item[statetree.Value, disputed]{disputed{o.in, int32(i)}, o.num})
			}
		}
	}
	// About as the events came, and lie in memory.
	sortByNum(items, func(i *item[statetree.Value, disputed]) statetree.Value { return i.key })
	kept := items[:0]
	for _, e := range items {
		c := &r.conflicts.items[e.value.conflict]
		n, found, err := r.node(ctx, e.key)
		switch {
		case err != nil:
			return err
		case !found:
			r.dropped = append(r.dropped, e.key)
			c.value.drop(e.key)
		case n.Key != c.key:
			return fmt.Errorf("%w: event %d has another key in the auth graph", ErrMismatch, e.key)
		default:
			kept = append(kept, e)
		}
	}
	r.disputed.items = kept
	r.disputed.index()
	r.settle()
	return nil
}

// settle looks whether there is a conflict, at each place. In v1 an event that
// some states have and others have nothing in the place of is none; in v2 it is.
func (r *resolution) settle() {
	r.partial = make([]statetree.Value, len(r.conflicts.items))
	for i := range r.conflicts.items {
		c := r.conflicts.value(i)
		events, last := 0, statetree.Value(0)
		for _, o := range c.candidates {
			if o.num > 0 {
				events, last = events+1, o.num
			}
		}
		if events == 0 || events == 1 && r.room.Version.StateResolution == event.StateResolutionV1 {
			c.settled, c.outcome, r.partial[i] = true, last, last
		}
	}
}

// drop says that the graph does not have an event.
func (c *conflict) drop(num statetree.Value) {
	for i := range c.candidates {
		if c.candidates[i].num == num {
			c.candidates[i].num = -num
		}
	}
}

// holders returns the states that hold an event.
func (r *resolution) holders(ctx context.Context, e Ref) (mask, error) {
	if i, ok := r.disputed.find(e.Num); ok {
		return r.disputed.value(i).in, nil
	}
	if _, ok := r.conflicts.find(e.Key); ok {
		return 0, nil
	}
	v, err := r.base.value(ctx, e.Key)
	if v == e.Num {
		return r.full, err
	}
	return 0, err
}

// result says how the outcome differs from the nearest of the states.
func (r *resolution) result() Result {
	changes := make([]int, len(r.states))
	for i := range r.conflicts.items {
		c := &r.conflicts.items[i].value
		for _, o := range c.candidates {
			if o.num == c.outcome {
				continue
			}
			for in := o.in; in != 0; in &= in - 1 {
				changes[bits.TrailingZeros64(uint64(in))]++
			}
		}
	}
	nearest := 0
	for i, n := range changes {
		if n < changes[nearest] {
			nearest = i
		}
	}
	res := Result{
		Base: r.states[nearest], Dropped: r.dropped,
		Conflicts: len(r.conflicts.items), Replayed: r.replayed, Visits: r.visits,
	}
	if n := changes[nearest] + len(r.added); n > 0 {
		res.Changes = make([]statetree.Change, 0, n)
	}
	for i := range r.conflicts.items {
		if c := &r.conflicts.items[i]; c.value.at(nearest) != c.value.outcome {
			res.Changes = append(res.Changes, statetree.Change{Key: c.key, Value: c.value.outcome})
		}
	}
	res.Changes = append(res.Changes, r.added...)
	slices.SortFunc(res.Changes, func(a, b statetree.Change) int { return cmp.Compare(a.Key, b.Key) })
	return res
}

// at returns what one of the states holds.
func (c *conflict) at(state int) statetree.Value {
	for _, o := range c.candidates {
		if o.in&(1<<state) != 0 {
			return o.num
		}
	}
	return 0
}
