package stateres

import (
	"context"
	"math"

	"github.com/myelin-chat/myelin/event/statetree"
)

// subgraph returns the conflicted state subgraph of v2.1, without the events
// of the conflicted state set themselves: what lies on a path of auth events
// from one event in conflict to another.
// https://spec.matrix.org/v1.19/rooms/v12/#definitions
func (r *resolution) subgraph(ctx context.Context) ([]statetree.Value, error) {
	w := &pathWalk{r: r, marks: newTable[statetree.Value, pathMark](len(r.disputed.items)), lowest: math.MaxInt64}
	for _, e := range r.disputed.items {
		*w.marks.of(e.key) = isEnd
		n, _, err := r.node(ctx, e.key)
		if err != nil {
			return nil, err
		}
		w.lowest = min(w.lowest, n.Order)
	}
	for _, e := range r.disputed.items {
		if err := w.down(ctx, e.key); err != nil {
			return nil, err
		}
	}
	return w.found, nil
}

// pathWalk goes down from the events in conflict and finds what leads to
// another of them. Below the lowest of these nothing does.
type pathWalk struct {
	r      *resolution
	marks  table[statetree.Value, pathMark]
	lowest int64 // order of the oldest event of the conflicted state set
	found  []statetree.Value
	frames []pathFrame
	refs   []statetree.Value // auth events to be visited, those of the last frame at the end
}

// pathMark is what is known of an event.
type pathMark uint8

const (
	isEnd   pathMark = 1 << iota // is of the conflicted state set
	visited                      // was, or is being
	leads                        // was visited, and is an end or leads to one
)

type pathFrame struct {
	num    statetree.Value
	onPath bool
	from   int // its part of refs begins here
}

// down visits x and all that it leads to, with a stack of its own.
func (w *pathWalk) down(ctx context.Context, x statetree.Value) error {
	if *w.marks.of(x)&visited != 0 {
		return nil
	}
	if err := w.push(ctx, x); err != nil {
		return err
	}
	for len(w.frames) > 0 {
		f := &w.frames[len(w.frames)-1]
		if len(w.refs) == f.from {
			w.pop()
			continue
		}
		below := w.refs[len(w.refs)-1]
		if m := *w.marks.of(below); m&visited != 0 {
			f.onPath = f.onPath || m&leads != 0
			w.refs = w.refs[:len(w.refs)-1]
			continue
		}
		// It stays in refs, and is found settled when this is its turn again.
		if err := w.push(ctx, below); err != nil {
			return err
		}
	}
	return nil
}

func (w *pathWalk) push(ctx context.Context, x statetree.Value) error {
	n, found, err := w.r.node(ctx, x)
	if err != nil {
		return err
	}
	*w.marks.of(x) |= visited
	w.frames = push(w.frames, pathFrame{num: x, from: len(w.refs)})
	if !found || n.Order != 0 && n.Order < w.lowest {
		return nil
	}
	for _, a := range n.Auth {
		w.refs = push(w.refs, a.Num)
	}
	return nil
}

func (w *pathWalk) pop() {
	f := w.frames[len(w.frames)-1]
	w.frames = w.frames[:len(w.frames)-1]
	mark := w.marks.of(f.num)
	end := *mark&isEnd != 0
	if f.onPath && !end {
		w.found = push(w.found, f.num)
	}
	if f.onPath || end {
		*mark |= leads
	}
}
