package stateres

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
)

// difference returns the auth difference: the events that are in the auth
// chain of some states, and not of all. The package comment says how.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) difference(ctx context.Context) ([]statetree.Value, error) {
	w := &chainWalk{r: r, met: newTable[statetree.Value, met](0)}
	var todo, difference []statetree.Value
	below := func(num statetree.Value) error {
		n, _, err := r.node(ctx, num)
		for _, a := range n.Auth {
			if m := w.met.of(a.Num); !m.asked {
				m.asked = true
				todo = push(todo, a.Num)
			}
		}
		return err
	}
	for i := range r.disputed.items {
		if err := below(r.disputed.items[i].key); err != nil {
			return nil, err
		}
	}
	for len(todo) > 0 {
		x := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		in, err := w.chains(ctx, x)
		if err != nil {
			return nil, err
		}
		if in == r.full || in == 0 {
			continue // all that x cites is in every chain, too
		}
		difference = push(difference, x)
		if err := below(x); err != nil {
			return nil, err
		}
	}
	return difference, nil
}

// pageSize is how many citations are looked at before any of them is followed.
const pageSize = 32

// chainWalk finds out which states have an event in their auth chains.
type chainWalk struct {
	r      *resolution
	met    table[statetree.Value, met]
	frames []frame
	open   []statetree.Value // citing events to be settled, those of the last frame at the end
	page   [pageSize]Ref
}

// met is what is known of an event that the walk met.
type met struct {
	in    mask // the states that have it in their chains; while it is being settled, 0
	known bool // is settled, or being settled
	asked bool // is to be settled for its own sake, or was
}

// frame is an event that is being settled.
type frame struct {
	num   statetree.Value
	in    mask // states known to have it in their chains
	next  Cursor
	begun bool
	from  int // its part of open begins here
}

// chains returns the states that have x in their auth chains: those that hold
// an event that cites it, or have such an event in their chains. It goes into
// depth with a stack of its own, since others decide how deep that is.
func (w *chainWalk) chains(ctx context.Context, x statetree.Value) (mask, error) {
	if m := w.met.of(x); m.known {
		return m.in, nil
	}
	w.push(x)
	for {
		above, err := w.step(ctx, &w.frames[len(w.frames)-1])
		if err != nil {
			return 0, err
		}
		if above != 0 {
			w.push(above)
			continue
		}
		done := w.frames[len(w.frames)-1]
		w.frames = w.frames[:len(w.frames)-1]
		w.met.of(done.num).in = done.in
		if len(w.frames) == 0 {
			return done.in, nil
		}
		w.frames[len(w.frames)-1].in |= done.in
	}
}

func (w *chainWalk) push(x statetree.Value) {
	w.met.of(x).known = true
	w.frames = push(w.frames, frame{num: x, from: len(w.open)})
}

// step goes on settling an event: it returns one that must be settled first,
// or 0 if f is settled.
func (w *chainWalk) step(ctx context.Context, f *frame) (statetree.Value, error) {
	for f.in != w.r.full {
		if len(w.open) > f.from {
			above := w.open[len(w.open)-1]
			w.open = w.open[:len(w.open)-1]
			m := w.met.of(above)
			if !m.known {
				return above, nil
			}
			f.in |= m.in
			continue
		}
		if f.begun && f.next == 0 {
			break
		}
		if err := w.read(ctx, f); err != nil {
			return 0, err
		}
	}
	w.open = w.open[:f.from]
	return 0, nil
}

// read looks at some more events that cite f's. Who holds them is asked of all
// before any is followed: mostly that is the answer.
func (w *chainWalk) read(ctx context.Context, f *frame) error {
	n, next, err := w.r.room.Graph.Citing(ctx, f.num, f.next, w.page[:])
	if err != nil {
		return fmt.Errorf("read what cites event %d: %w", f.num, err)
	}
	f.next, f.begun = next, true
	if err := w.r.visit(ctx, n+1); err != nil {
		return err
	}
	for _, above := range w.page[:n] {
		in, err := w.r.holders(ctx, above)
		if err != nil {
			return err
		}
		f.in |= in
		if f.in == w.r.full {
			return nil
		}
		if id, met := w.met.find(above.Num); met && w.met.value(id).known {
			f.in |= w.met.value(id).in
		} else {
			w.open = push(w.open, above.Num)
		}
	}
	slices.Reverse(w.open[f.from:]) // the newest is followed first
	return nil
}
