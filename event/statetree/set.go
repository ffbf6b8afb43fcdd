package statetree

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

// Set returns the tree with the changes made, the last one of each key if
// there are several, and the new nodes, children before their parents. If
// nothing changes it returns t itself and no nodes.
//
// The new tree can be used at once. The caller stores the nodes, in one
// transaction with whatever names the tree and not before the nodes of the
// tree it was built on, and then calls exactly one of [Store.Stored] and
// [Store.Dropped] with them; a tree that is not wanted needs neither.
func (s *Store) Set(ctx context.Context, t Tree, changes []Change) (Tree, []NewNode, error) {
	sorted, err := normal(changes)
	if err != nil || len(sorted) == 0 {
		return t, nil, err
	}
	w, err := s.newWriter(t)
	if err != nil {
		return Tree{}, nil, err
	}
	if err := w.warm(ctx, t, sorted); err != nil {
		return Tree{}, nil, err
	}
	old, err := w.root(ctx, t)
	if err != nil {
		return Tree{}, nil, err
	}
	root, err := w.update(ctx, old, 0, sorted)
	if err != nil {
		return Tree{}, nil, err
	}
	if root == old {
		return t, nil, nil
	}
	w.nodes = make([]NewNode, 0, 5+len(sorted)/4) // usually enough
	w.number(root)
	return Tree{ref{root.id, root}}, w.nodes, nil
}

// normal returns the changes sorted by key, the last of each key only.
func normal(changes []Change) ([]entry, error) {
	sorted := make([]entry, len(changes))
	for i, c := range changes {
		if c.Value < 0 {
			return nil, fmt.Errorf("%w: %d", ErrValue, c.Value)
		}
		sorted[i] = entry{c.Key, c.Value}
	}
	sortEntries(sorted)
	kept := sorted[:0]
	for i, e := range sorted {
		if i+1 == len(sorted) || sorted[i+1].key != e.key {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

func sortEntries(entries []entry) {
	slices.SortStableFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
}

// writer makes the nodes of one Set. They get their numbers and bytes at the
// end, when it is known which of them last.
type writer struct {
	store *Store
	batch *batch
	held  map[NodeID]*node // loaded in advance
	nodes []NewNode
}

// newWriter begins a change of a tree.
func (s *Store) newWriter(t Tree) (*writer, error) {
	w := &writer{store: s, batch: &batch{}}
	if n := t.root.node; n != nil && n.batch != nil {
		if n.batch.dropped() {
			return nil, ErrDropped
		}
		w.batch.base.Store(n.batch)
	}
	return w, nil
}

// warm loads the nodes on the way to all changes, level by level.
func (w *writer) warm(ctx context.Context, t Tree, changes []entry) error {
	if len(changes) == 1 {
		return nil // going down the path is already level by level
	}
	keys := make([]Key, len(changes))
	for i, c := range changes {
		keys[i] = c.key
	}
	w.held = make(map[NodeID]*node)
	return w.store.descend(ctx, t, keys, func(n *node, _, _ int) {
		if n.id != 0 {
			w.held[n.id] = n
		}
	})
}

// root returns the root to begin with. One of which the hole is filled is made
// anew, without it, for its nodes to be stored with those of the changes.
func (w *writer) root(ctx context.Context, t Tree) (*node, error) {
	refs := [1]ref{t.root}
	if err := w.store.loadStored(ctx, refs[:]); err != nil || refs[0].node.hole == 0 {
		return refs[0].node, err
	}
	return w.fill(ctx, refs[0].node)
}

func (w *writer) at(ctx context.Context, r ref) (*node, error) {
	if r.node != nil {
		return r.node, nil
	}
	if n := w.held[r.id]; n != nil {
		return n, nil
	}
	return w.store.at(ctx, r)
}

// update returns n with the changes made, or n itself if nothing changes.
func (w *writer) update(ctx context.Context, n *node, depth int, changes []entry) (*node, error) {
	if n.children != nil {
		return w.updateInner(ctx, n, depth, changes)
	}
	merged := merge(n.entries, changes)
	if slices.Equal(merged, n.entries) {
		return n, nil
	}
	return w.build(merged, depth), nil
}

// merge returns the entries with the changes made. Both are sorted.
func merge(entries, changes []entry) []entry {
	merged := make([]entry, 0, len(entries)+len(changes))
	for _, c := range changes {
		for len(entries) > 0 && entries[0].key < c.key {
			merged, entries = append(merged, entries[0]), entries[1:]
		}
		if len(entries) > 0 && entries[0].key == c.key {
			entries = entries[1:]
		}
		if c.value != 0 {
			merged = append(merged, c)
		}
	}
	return append(merged, entries...)
}

// build returns a new subtree of the entries, which are sorted.
func (w *writer) build(entries []entry, depth int) *node {
	if len(entries) == 0 {
		return empty
	}
	if len(entries) <= leafMax {
		own := slices.Clone(entries) // of the right size, and not a part of a larger array
		return &node{count: len(own), hash: w.store.hasher.hashOf(own), entries: own, batch: w.batch}
	}
	d := draft{fresh: new([fanOut]*node)}
	for len(entries) > 0 {
		i, run := entries[0].key.nibble(depth), runOf(entries, depth)
		d.replace(i, empty, w.build(entries[:run], depth+1))
		entries = entries[run:]
	}
	return d.node(w.batch)
}

// runOf returns how many of the entries share the nibble of the first.
func runOf(entries []entry, depth int) int {
	n := 1
	for n < len(entries) && entries[n].key.nibble(depth) == entries[0].key.nibble(depth) {
		n++
	}
	return n
}

func (w *writer) updateInner(ctx context.Context, n *node, depth int, changes []entry) (*node, error) {
	if depth == maxDepth {
		return nil, tooDeep(ref{id: n.id})
	}
	d := draftOf(n)
	changed := false
	for len(changes) > 0 {
		i, run := changes[0].key.nibble(depth), runOf(changes, depth)
		old, err := w.at(ctx, n.child(i))
		if err != nil {
			return nil, err
		}
		now, err := w.update(ctx, old, depth+1, changes[:run])
		if err != nil {
			return nil, err
		}
		if now != old {
			d.replace(i, old, now)
			changed = true
		}
		changes = changes[run:]
	}
	switch {
	case !changed:
		return n, nil
	case d.count <= leafMax && d.hole == 0:
		return w.collapse(ctx, &d, depth)
	}
	return d.node(w.batch), nil
}

// collapse makes a leaf of what has become too small for an inner node. Its
// children are leaves, since none has more entries than all together.
func (w *writer) collapse(ctx context.Context, d *draft, depth int) (*node, error) {
	refs := make([]ref, 0, fanOut)
	for i, id := range d.children {
		if d.fresh[i] != nil {
			refs = append(refs, ref{node: d.fresh[i]})
		} else if id != 0 {
			refs = append(refs, ref{id: id})
		}
	}
	if err := w.store.load(ctx, refs); err != nil {
		return nil, err
	}
	var entries []entry
	for _, r := range refs {
		if r.node.children != nil {
			return nil, fmt.Errorf("%w: %d: counts more than its parent", ErrCorrupt, r.id)
		}
		entries = append(entries, r.node.entries...)
	}
	return w.build(entries, depth), nil
}

// draft is an inner node in the making.
type draft struct {
	count    int
	hash     Hash
	children [fanOut]NodeID
	fresh    *[fanOut]*node
	hole     Hole
}

func draftOf(n *node) draft {
	d := draft{n.count, n.hash, *n.children, new([fanOut]*node), n.hole}
	if fresh := n.fresh.Load(); fresh != nil {
		for i, c := range fresh {
			if c != nil && !c.stored() {
				d.fresh[i] = c
			}
		}
	}
	return d
}

// replace puts another child, or the empty tree, at i.
func (d *draft) replace(i int, old, now *node) {
	d.count += now.count - old.count
	d.hash = d.hash.minus(old.hash).plus(now.hash)
	d.children[i], d.fresh[i] = now.id, nil
	if now != empty && (now.id == 0 || !now.stored()) {
		d.fresh[i] = now
	}
}

func (d *draft) node(b *batch) *node {
	n := newInner()
	n.count, n.hash, *n.children, n.hole, n.batch = d.count, d.hash, d.children, d.hole, b
	n.fresh.Store(d.fresh)
	return n
}

// number gives n and all that was made below it their numbers and bytes.
func (w *writer) number(n *node) {
	if n == empty || n.batch != w.batch {
		return
	}
	if fresh := n.fresh.Load(); fresh != nil {
		for i, c := range fresh {
			if c != nil {
				w.number(c)
				n.children[i] = c.id
			}
		}
	}
	n.id = w.store.nextID()
	if n.id <= 0 {
		panic(fmt.Sprintf("statetree: NextID returned %d", n.id))
	}
	w.nodes = append(w.nodes, NewNode{n.id, w.store.hasher.encode(n), n})
}

// batch is the fate of the nodes that one Set made. All nodes of a tree that
// are not stored yet are of its root's batch or of those that it rests on.
type batch struct {
	state atomic.Int32
	base  atomic.Pointer[batch] // what it rests on; nil if all that is stored
}

// The states of a batch.
const (
	pending = iota
	stored
	dropped
)

// dropped says whether the batch, or one that it rests on, was dropped.
func (b *batch) dropped() bool {
	for ; b != nil; b = b.base.Load() {
		if b.state.Load() == dropped {
			return true
		}
	}
	return false
}

// stored says whether a node is in the database.
func (n *node) stored() bool { return n.batch == nil || n.batch.state.Load() == stored }

// Stored tells that nodes, all that one or more calls of [Store.Set]
// returned, have been committed, and with them all that they rest on. From
// now on they are kept as the cache sees fit.
func (s *Store) Stored(nodes []NewNode) {
	for _, n := range nodes {
		s.cache.add(n.node)
		for b := n.node.batch; b != nil; b = b.base.Swap(nil) {
			b.state.Store(stored)
		}
	}
	for _, n := range nodes {
		n.node.fresh.Store(nil)
	}
}

// Dropped tells that nodes which [Store.Set] returned will never be stored.
// Trees that have them can still be read, but not be built on.
func (s *Store) Dropped(nodes []NewNode) {
	for _, n := range nodes {
		n.node.batch.state.Store(dropped)
	}
}
