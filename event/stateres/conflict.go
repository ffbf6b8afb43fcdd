package stateres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
)

// mask is a set of states, a bit for each. MaxStates fit.
type mask uint64

// candidate is what some of the states hold at one key.
type candidate struct {
	num     statetree.Value // 0: nothing
	in      mask
	dropped bool // the graph does not have it: counts as nothing
}

// conflict is a key at which not all states hold the same.
type conflict struct {
	key statetree.Key
	// candidates have different numbers; the first is of the first state.
	candidates []candidate
	// settled says that there is no conflict in the sense of the algorithm:
	// the outcome was known before it began, and is part of the state that
	// it begins with.
	settled bool
	outcome statetree.Value
	partial statetree.Value // resolved so far, 0: nothing
}

// findConflicts compares the first state with each of the others.
func (r *resolution) findConflicts(ctx context.Context) error {
	for i := 1; i < len(r.states); i++ {
		at := mask(1) << i
		err := r.room.Trees.Diff(ctx, r.states[0], r.states[i], func(k statetree.Key, first, other statetree.Value) error {
			r.conflictAt(k, first).move(other, at)
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.sortConflicts()
	for i := range r.conflicts {
		if err := r.settle(ctx, &r.conflicts[i]); err != nil {
			return err
		}
	}
	return nil
}

// sortConflicts puts the conflicts in the order of their keys. Those of two
// states come so.
func (r *resolution) sortConflicts() {
	byKey := func(a, b conflict) int { return cmp.Compare(a.key, b.key) }
	if slices.IsSortedFunc(r.conflicts, byKey) {
		return
	}
	slices.SortFunc(r.conflicts, byKey)
	r.index.clear()
	for i := range r.conflicts {
		r.index.add(r.conflicts[i].key)
	}
}

// conflictAt returns the conflict at a key, for whose value the first state
// speaks until others are heard.
func (r *resolution) conflictAt(k statetree.Key, first statetree.Value) *conflict {
	i, added := r.index.add(k)
	if added {
		const block = 256 // mostly two states disagree
		if len(r.spare) == 0 {
			r.spare = make([]candidate, 2*block)
		}
		c := conflict{key: k, candidates: r.spare[:1:2]}
		r.spare = r.spare[2:]
		c.candidates[0] = candidate{num: first, in: r.full}
		r.conflicts = append(r.conflicts, c)
	}
	return &r.conflicts[i]
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

// settle drops what the graph does not have, and looks whether that leaves a
// conflict. In v1 an event that some states have and others have nothing in
// the place of is none; in v2 it is.
func (r *resolution) settle(ctx context.Context, c *conflict) error {
	events := 0
	for i := range c.candidates {
		o := &c.candidates[i]
		if o.num == 0 {
			continue
		}
		n, found, err := r.node(ctx, o.num)
		switch {
		case err != nil:
			return err
		case !found:
			o.dropped = true
			r.dropped = append(r.dropped, o.num)
		case n.Key != c.key:
			return fmt.Errorf("%w: event %d has another key in the auth graph", ErrMismatch, o.num)
		default:
			c.outcome = o.num
			events++
		}
	}
	c.settled = events == 0 || events == 1 && r.room.Version.StateResolution == event.StateResolutionV1
	if !c.settled {
		c.outcome = 0
	}
	return nil
}

// accepted yields the events in conflict.
func (c *conflict) accepted(yield func(candidate) bool) {
	for _, o := range c.candidates {
		if o.num != 0 && !o.dropped && !yield(o) {
			return
		}
	}
}

// conflicting yields every event of the conflicted state set.
func (r *resolution) conflicting(yield func(candidate) bool) {
	for i := range r.conflicts {
		c := &r.conflicts[i]
		if c.settled {
			continue
		}
		for o := range c.accepted {
			if !yield(o) {
				return
			}
		}
	}
}

// holders returns the states that hold an event.
func (r *resolution) holders(ctx context.Context, e Ref) (mask, error) {
	if i, ok := r.index.find(e.Key); ok {
		for _, o := range r.conflicts[i].candidates {
			if o.num == e.Num {
				return o.in, nil
			}
		}
		return 0, nil
	}
	v, err := r.base.value(ctx, e.Key)
	if v == e.Num {
		return r.full, err
	}
	return 0, err
}

// agreed returns what all states hold at the key, 0 if they do not agree.
func (c *conflict) agreed() statetree.Value {
	if c.settled {
		return c.outcome
	}
	return 0
}

// result says how the outcome differs from the nearest of the states.
func (r *resolution) result() Result {
	changes := make([]int, len(r.states))
	for i := range r.conflicts {
		for _, o := range r.conflicts[i].candidates {
			if o.num == r.conflicts[i].outcome {
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
		Conflicts: len(r.conflicts), Replayed: r.replayed, Visits: r.visits,
	}
	for i := range r.conflicts {
		if c := &r.conflicts[i]; c.at(nearest) != c.outcome {
			res.Changes = append(res.Changes, statetree.Change{Key: c.key, Value: c.outcome})
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

// base reads one tree, key by key at first and whole when that is cheaper. What
// the tree does not know counts as not there.
type base struct {
	trees *statetree.Store
	tree  statetree.Tree
	known map[statetree.Key]statetree.Value
	whole bool
	reads int
	limit int // of reads, then it is read whole; 0: not known yet
}

const (
	minReads     = 256
	readsPerWalk = 8 // walking over so many entries costs as much as looking up one
)

func newBase(trees *statetree.Store, tree statetree.Tree) base {
	return base{trees: trees, tree: tree, known: make(map[statetree.Key]statetree.Value)}
}

func (b *base) value(ctx context.Context, k statetree.Key) (statetree.Value, error) {
	if v, ok := b.known[k]; ok || b.whole {
		return v, nil
	}
	if b.reads >= b.limit {
		if err := b.grow(ctx); err != nil || b.whole {
			return b.known[k], err
		}
	}
	b.reads++
	v, err := b.trees.Get(ctx, b.tree, k)
	if errors.Is(err, statetree.ErrUnknown) {
		err = nil
	}
	if err == nil {
		b.known[k] = v
	}
	return v, err
}

// grow sets the limit, or reads the whole tree if it is reached.
func (b *base) grow(ctx context.Context) error {
	if b.limit == 0 {
		n, err := b.trees.Len(ctx, b.tree)
		b.limit = max(minReads, n/readsPerWalk)
		return err
	}
	known := make(map[statetree.Key]statetree.Value, b.limit*readsPerWalk)
	err := b.trees.Walk(ctx, b.tree, statetree.All, func(k statetree.Key, v statetree.Value) error {
		known[k] = v
		return nil
	})
	if errors.Is(err, statetree.ErrUnknown) {
		b.limit = math.MaxInt
		return nil
	}
	b.known, b.whole = known, true
	return err
}

// warm reads the values of many keys at once.
func (b *base) warm(ctx context.Context, keys []statetree.Key) error {
	if b.whole {
		return nil
	}
	keys = slices.DeleteFunc(keys, func(k statetree.Key) bool { _, ok := b.known[k]; return ok })
	values, _, err := b.trees.GetKnown(ctx, b.tree, keys)
	for i := range values {
		b.known[keys[i]] = values[i]
	}
	return err
}
