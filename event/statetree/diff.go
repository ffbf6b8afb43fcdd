package statetree

import (
	"context"
	"slices"
)

// Diff yields every key whose value is not the same in a and b, with both
// values, 0 for none, in an order without meaning that depends on the trees
// alone. What it reads and costs grows with the number of differences, not
// with the trees; equal subtrees are passed over even if they were built
// independently. It stops at the first error of yield, and returns it.
//
// Of two trees with the same hole, a member that only one of them knows has
// changed to or from an unknown value, told as 0. Else a member that either does
// not know is passed over: nothing says that it differs.
func (s *Store) Diff(ctx context.Context, a, b Tree, yield func(k Key, old, new Value) error) error {
	// Two refs after each other are the same place in a and in b.
	todo := levels{{a.root, b.root}}
	for len(todo) > 0 {
		pairs, depth := todo.pop(MaxLoad)
		if err := s.load(ctx, pairs); err != nil {
			return err
		}
		var below []ref
		for pair := range slices.Chunk(pairs, 2) {
			x, y := pair[0].node, pair[1].node
			if x.same(y) {
				continue
			}
			if x.hole != y.hole { // roots
				yield = knownInBoth(x, y, yield)
			}
			if x.children != nil || y.children != nil {
				below = s.appendPairs(below, x, y, depth)
			} else if err := diffLeaves(x.entries, y.entries, yield); err != nil {
				return err
			}
		}
		clear(pairs) // the rest of the level need not hold these nodes
		if err := todo.push(below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// knownInBoth leaves out the members that one of two roots does not know.
func knownInBoth(x, y *node, yield func(k Key, old, new Value) error) func(k Key, old, new Value) error {
	return func(k Key, old, new Value) error {
		if Members.Has(k) && (x.hole != 0 && old == 0 || y.hole != 0 && new == 0) {
			return nil
		}
		return yield(k, old, new)
	}
}

// appendPairs appends those children of x and y that may differ.
func (s *Store) appendPairs(refs []ref, x, y *node, depth int) []ref {
	for i := range fanOut {
		a, b := s.part(x, i, depth), s.part(y, i, depth)
		if a != b && (a.id == 0 || a.id != b.id) {
			refs = append(refs, a, b)
		}
	}
	return refs
}

// part returns the i-th child of a node. If that is a leaf it makes one that
// holds what would be there.
func (s *Store) part(n *node, i, depth int) ref {
	if n.children != nil {
		return n.child(i)
	}
	from, _ := slices.BinarySearchFunc(n.entries, i, func(e entry, i int) int { return e.key.nibble(depth) - i })
	to, _ := slices.BinarySearchFunc(n.entries, i+1, func(e entry, i int) int { return e.key.nibble(depth) - i })
	if from == to {
		return ref{}
	}
	own := n.entries[from:to]
	return ref{node: &node{count: len(own), hash: s.hasher.hashOf(own), entries: own}}
}

// diffLeaves yields what differs between two sorted lists of entries.
func diffLeaves(a, b []entry, yield func(k Key, old, new Value) error) error {
	for len(a) > 0 || len(b) > 0 {
		var d struct {
			key      Key
			old, new Value
		}
		if len(b) == 0 || len(a) > 0 && a[0].key <= b[0].key {
			d.key, d.old = a[0].key, a[0].value
		} else {
			d.key = b[0].key
		}
		if len(b) > 0 && b[0].key == d.key {
			d.new, b = b[0].value, b[1:]
		}
		if d.old != 0 {
			a = a[1:]
		}
		if d.old == d.new {
			continue
		}
		if err := yield(d.key, d.old, d.new); err != nil {
			return err
		}
	}
	return nil
}
