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

// conflict is what the states hold at a key where not all hold the same: the
// candidates have different numbers, the first is of the first state.
type conflict []candidate

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
		r.conflicts.append(k, r.conflict(first))
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
		*c = r.conflict(first)
	}
	return c
}

// conflict returns one with what the first state holds, as if all did, and room
// for another candidate.
func (r *resolution) conflict(first statetree.Value) conflict {
	const few, many = 16, 1024
	if len(r.spare) == 0 {
		r.spare = make([]candidate, 2*min(max(len(r.conflicts.items), few), many))
	}
	c := append(conflict(r.spare[:0:2]), candidate{num: first, in: r.full})
	r.spare = r.spare[2:]
	return c
}

// move says that one of the states holds another event than the first.
func (c *conflict) move(num statetree.Value, state mask) {
	(*c)[0].in &^= state
	for i := range *c {
		if (*c)[i].num == num {
			(*c)[i].in |= state
			return
		}
	}
	*c = append(*c, candidate{num: num, in: state})
}

// dispute finds the events in conflict, drops what the graph does not have, and
// settles what that decides.
func (r *resolution) dispute(ctx context.Context) error {
	items := make([]item[statetree.Value, disputed], 0, 2*len(r.conflicts.items))
	for i := range r.conflicts.items {
		for _, o := range r.conflicts.items[i].value {
			if o.num != 0 {
				items = append(items, item[statetree.Value, disputed]{disputed{o.in, int32(i)}, o.num})
			}
		}
	}
	// About as the events came, and lie in memory.
	sortByNum(items, func(i item[statetree.Value, disputed]) statetree.Value { return i.key })
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

// settle begins the partial state with what is in conflict for no algorithm. In
// v1 that is an event that some states have and others have nothing in the place
// of; in v2 that is in conflict, too.
func (r *resolution) settle() {
	r.partial = make([]statetree.Value, len(r.conflicts.items))
	if r.room.Version.StateResolution != event.StateResolutionV1 {
		return
	}
	for i := range r.conflicts.items {
		var buf [2]statetree.Value
		if nums := r.conflicts.items[i].value.accepted(buf[:0]); len(nums) == 1 {
			r.partial[i] = nums[0]
		}
	}
}

// accepted appends the candidates that are events of the graph.
func (c conflict) accepted(nums []statetree.Value) []statetree.Value {
	for _, o := range c {
		if o.num > 0 {
			nums = append(nums, o.num)
		}
	}
	return nums
}

// drop says that the graph does not have an event.
func (c conflict) drop(num statetree.Value) {
	for i := range c {
		if c[i].num == num {
			c[i].num = -num
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

// result says how the state that was found, which is now whole, differs from the
// nearest of those given.
func (r *resolution) result() Result {
	changes := make([]int, len(r.states))
	for i := range r.conflicts.items {
		for _, o := range r.conflicts.items[i].value {
			if o.num == r.partial[i] {
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
		if c := &r.conflicts.items[i]; c.value.at(nearest) != r.partial[i] {
			res.Changes = append(res.Changes, statetree.Change{Key: c.key, Value: r.partial[i]})
		}
	}
	res.Changes = append(res.Changes, r.added...)
	slices.SortFunc(res.Changes, func(a, b statetree.Change) int { return cmp.Compare(a.Key, b.Key) })
	return res
}

// at returns what one of the states holds.
func (c conflict) at(state int) statetree.Value {
	for _, o := range c {
		if o.in&(1<<state) != 0 {
			return o.num
		}
	}
	return 0
}
