package statetree

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Get returns the value of a key, or 0. The error is [ErrUnknown] if that is not
// known.
func (s *Store) Get(ctx context.Context, t Tree, k Key) (Value, error) {
	at, holed := t.root, false
	for depth := range maxDepth {
		n, err := s.at(ctx, at)
		if err != nil {
			return 0, err
		}
		holed = holed || n.hole != 0
		if n.children == nil {
			v := n.find(k)
			if v == 0 && holed && Members.Has(k) {
				return 0, ErrUnknown
			}
			return v, nil
		}
		at = n.child(k.nibble(depth))
	}
	return 0, tooDeep(at)
}

// tooDeep is the error for an inner node where keys have no bits left. Only a
// mistake of ours can store one; without the check it might be a circle.
func tooDeep(r ref) error { return fmt.Errorf("%w: %d: too deep", ErrCorrupt, r.id) }

// GetMany returns the values of keys, in the order of keys, 0 for those that
// the tree does not have. It loads what it needs level by level. The error is
// [ErrUnknown] if any of them is not known.
func (s *Store) GetMany(ctx context.Context, t Tree, keys []Key) ([]Value, error) {
	values, holed, err := s.GetKnown(ctx, t, keys)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if v == 0 && holed && Members.Has(keys[i]) {
			return nil, ErrUnknown
		}
	}
	return values, nil
}

// GetKnown is [Store.GetMany], but for what is not known, which is 0 here. It
// says whether any members of the tree are unknown.
func (s *Store) GetKnown(ctx context.Context, t Tree, keys []Key) (values []Value, holed bool, err error) {
	type wanted struct {
		key Key
		at  int
	}
	order := make([]wanted, len(keys))
	sorted := make([]Key, len(keys))
	for i, k := range keys {
		order[i] = wanted{k, i}
	}
	slices.SortFunc(order, func(a, b wanted) int { return cmp.Compare(a.key, b.key) })
	for i, w := range order {
		sorted[i] = w.key
	}
	values = make([]Value, len(keys))
	err = s.descend(ctx, t, sorted, func(n *node, from, to int) {
		holed = holed || n.hole != 0
		for _, w := range order[from:to] {
			values[w.at] = n.find(w.key)
		}
	})
	return values, holed, err
}

// descend visits, level by level, every node on the way to the sorted keys,
// with the range of keys that lie below it.
func (s *Store) descend(ctx context.Context, t Tree, keys []Key, visit func(n *node, from, to int)) error {
	type span struct{ from, to int }
	if len(keys) == 0 {
		return nil
	}
	refs, spans := []ref{t.root}, []span{{0, len(keys)}}
	for depth := 0; len(refs) > 0; depth++ {
		if depth == maxDepth {
			return tooDeep(refs[0])
		}
		if err := s.load(ctx, refs); err != nil {
			return err
		}
		var below []ref
		var belowSpans []span
		for i, r := range refs {
			from, to := spans[i].from, spans[i].to
			visit(r.node, from, to)
			for r.node.children != nil && from < to {
				nibble := keys[from].nibble(depth)
				end := from + runLength(keys[from:to], depth)
				below = append(below, r.node.child(nibble))
				belowSpans = append(belowSpans, span{from, end})
				from = end
			}
		}
		refs, spans = below, belowSpans
	}
	return nil
}

// runLength returns how many of the keys share the nibble of the first.
func runLength(keys []Key, depth int) int {
	n := 1
	for n < len(keys) && keys[n].nibble(depth) == keys[0].nibble(depth) {
		n++
	}
	return n
}

// Walk yields every entry of the classes, in an order without meaning that
// depends on the tree alone. It does not load what lies in other classes. It
// stops at the first error of yield, and returns it. It is [ErrUnknown] if members
// are wanted of which not all are known.
func (s *Store) Walk(ctx context.Context, t Tree, c Classes, yield func(Key, Value) error) error {
	if c&Members != 0 {
		if hole, err := s.HoleOf(ctx, t); err != nil || hole != 0 {
			return cmp.Or(err, ErrUnknown)
		}
	}
	return s.WalkKnown(ctx, t, c, yield)
}

// WalkKnown is [Store.Walk], but passes over the members that are not known.
func (s *Store) WalkKnown(ctx context.Context, t Tree, c Classes, yield func(Key, Value) error) error {
	todo := levels{{t.root}}
	for len(todo) > 0 {
		refs, depth := todo.pop(MaxLoad)
		if err := s.load(ctx, refs); err != nil {
			return err
		}
		var below []ref
		for _, r := range refs {
			if r.node.children != nil {
				below = r.node.appendChildren(below, depth, c)
			} else if err := r.node.yieldEntries(c, yield); err != nil {
				return err
			}
		}
		clear(refs) // the rest of the level need not hold these nodes
		if err := todo.push(below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// yieldEntries yields a leaf's entries of the classes.
func (n *node) yieldEntries(c Classes, yield func(Key, Value) error) error {
	for _, e := range n.entries {
		if !c.Has(e.key) {
			continue
		}
		if err := yield(e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// appendChildren appends the children of an inner node that hold anything of
// the classes.
func (n *node) appendChildren(refs []ref, depth int, c Classes) []ref {
	for i := range n.children {
		if r := n.child(i); r != (ref{}) && (depth > 0 || c&(1<<i) != 0) {
			refs = append(refs, r)
		}
	}
	return refs
}

// levels is what a walk has still to visit, by depth. Taking a bounded number
// of the deepest bounds what it holds: MaxLoad nodes, and their children's
// numbers once for each level.
type levels [][]ref

// pop takes up to max refs of the deepest level.
func (l *levels) pop(max int) (refs []ref, depth int) {
	depth = len(*l) - 1
	deepest := (*l)[depth]
	rest := len(deepest) - min(max, len(deepest))
	(*l)[depth] = deepest[:rest]
	refs = deepest[rest:]
	for len(*l) > 0 && len((*l)[len(*l)-1]) == 0 {
		*l = (*l)[:len(*l)-1]
	}
	return refs, depth
}

// push adds refs at a depth at least one above the deepest.
func (l *levels) push(refs []ref, depth int) error {
	if len(refs) == 0 {
		return nil
	}
	if depth >= maxDepth {
		return tooDeep(refs[0])
	}
	for len(*l) < depth {
		*l = append(*l, nil)
	}
	*l = append(*l, refs)
	return nil
}

// Len returns the number of entries, those that are not known left out.
func (s *Store) Len(ctx context.Context, t Tree) (int, error) {
	n, err := s.at(ctx, t.root)
	if err != nil {
		return 0, err
	}
	return n.count, nil
}

// Hash returns the hash of all entries. Trees of equal content have equal
// hashes, however they came about.
func (s *Store) Hash(ctx context.Context, t Tree) (Hash, error) {
	n, err := s.at(ctx, t.root)
	if err != nil {
		return Hash{}, err
	}
	return n.hash, nil
}

// Equal says whether two trees have the same content. It loads the two roots
// at most.
func (s *Store) Equal(ctx context.Context, a, b Tree) (bool, error) {
	if a.root.id == b.root.id {
		return true, nil
	}
	roots := [2]ref{a.root, b.root}
	if err := s.load(ctx, roots[:]); err != nil {
		return false, err
	}
	return roots[0].node.same(roots[1].node), nil
}

// same says whether two nodes have the same content.
func (n *node) same(o *node) bool { return n == o || n.hash == o.hash && n.count == o.count }
