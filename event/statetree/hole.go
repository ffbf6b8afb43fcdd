package statetree

import (
	"context"
	"fmt"
	"sync"
)

// Hole names the members of a room that a state does not know yet. All are
// positive.
type Hole int64

// Partial returns a state of which nothing is known but that it has the members
// that belong in a hole. Something must be set in it before it can be stored.
func (s *Store) Partial(hole Hole) Tree {
	root := newInner()
	root.hole, root.hash = hole, s.hasher.hashOfHole(hole)
	return Tree{ref{node: root}}
}

// HoleOf returns the hole of a tree, 0 if all its members are known.
func (s *Store) HoleOf(ctx context.Context, t Tree) (Hole, error) {
	n, err := s.at(ctx, t.root)
	if err != nil {
		return 0, err
	}
	return n.hole, nil
}

// Whole returns a tree of which all members are known as one without a hole, and
// the new nodes as [Store.Set] does.
func (s *Store) Whole(ctx context.Context, t Tree) (Tree, []NewNode, error) {
	refs := [1]ref{t.root}
	if err := s.loadStored(ctx, refs[:]); err != nil || refs[0].node.hole == 0 {
		return t, nil, err
	}
	w, err := s.newWriter(t)
	if err != nil {
		return Tree{}, nil, err
	}
	root, err := w.fill(ctx, refs[0].node)
	if err != nil {
		return Tree{}, nil, err
	}
	if root.hole != 0 {
		return Tree{}, nil, ErrUnknown
	}
	w.number(root)
	return Tree{ref{root.id, root}}, w.nodes, nil
}

// fill returns a root with a hole as it is with that filled, or as it is. What
// is made for that stays in memory with the root.
func (s *Store) fill(ctx context.Context, n *node) (*node, error) {
	if whole := n.whole.Load(); whole != nil {
		return whole, nil
	}
	whole, err := (&writer{store: s}).fill(ctx, n)
	if err != nil || whole == n {
		return n, err
	}
	n.whole.Store(whole)
	return whole, nil
}

// fill makes the root that a root with a hole is when that is filled. It returns
// the same if it is not.
func (w *writer) fill(ctx context.Context, n *node) (*node, error) {
	id, known, err := w.store.holes.members(ctx, n.hole)
	if err != nil || !known {
		return n, err
	}
	base, err := w.store.at(ctx, ref{id: id})
	if err != nil {
		return nil, err
	}
	own, err := w.at(ctx, n.child(0))
	if err != nil {
		return nil, err
	}
	members, err := w.laidOver(ctx, base, own)
	if err != nil {
		return nil, err
	}
	d := draftOf(n)
	d.hole, d.hash = 0, d.hash.minus(w.store.hasher.hashOfHole(n.hole))
	d.replace(0, own, members)
	if d.count <= leafMax {
		return w.collapse(ctx, &d, 0)
	}
	return d.node(w.batch), nil
}

// laidOver returns the members of a tree with some of them in the place of what
// it has.
func (w *writer) laidOver(ctx context.Context, base, own *node) (*node, error) {
	var over []entry
	err := w.store.Walk(ctx, Tree{ref{own.id, own}}, All, func(k Key, v Value) error {
		over = append(over, entry{k, v})
		return nil
	})
	if err != nil {
		return nil, err
	}
	sortEntries(over)
	if base.children == nil {
		return w.build(merge(base.entries, over), 1), nil
	}
	members, err := w.at(ctx, base.child(0))
	if err != nil {
		return nil, err
	}
	if len(over) == 0 {
		return members, nil
	}
	return w.update(ctx, members, 1, over)
}

// holes remembers which holes are filled. That one is not is asked for again each
// time: another may fill it.
type holes struct {
	ask func(context.Context, Hole) (NodeID, bool, error)

	mu     sync.Mutex
	filled map[Hole]NodeID
}

// maxHoles bounds those that are remembered.
const maxHoles = 10_000

func (h *holes) members(ctx context.Context, hole Hole) (NodeID, bool, error) {
	h.mu.Lock()
	id, known := h.filled[hole]
	h.mu.Unlock()
	if known || h.ask == nil {
		return id, known, nil
	}
	id, known, err := h.ask(ctx, hole)
	if err != nil {
		return 0, false, fmt.Errorf("look for the members of hole %d: %w", hole, err)
	}
	if known {
		h.remember(hole, id)
	}
	return id, known, nil
}

func (h *holes) remember(hole Hole, id NodeID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.filled == nil {
		h.filled = make(map[Hole]NodeID)
	}
	if len(h.filled) >= maxHoles {
		clear(h.filled)
	}
	h.filled[hole] = id
}
