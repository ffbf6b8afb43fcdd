package statetree

import (
	"errors"
	"slices"
	"testing"
)

// The children that stored bytes name are those by which a tree is read.
func TestChildren(t *testing.T) {
	d, tree, _ := storedRoom(t)
	seen := make(map[NodeID]bool)
	for todo := []NodeID{tree.Root()}; len(todo) > 0; {
		id := todo[0]
		todo = todo[1:]
		seen[id] = true
		children, err := testHasher.Children(id, d.nodes[id])
		if err != nil {
			t.Fatal(err)
		}
		todo = append(todo, children...)
	}
	if len(seen) != len(d.nodes) || len(seen) < 50 {
		t.Errorf("got %d nodes, want all %d", len(seen), len(d.nodes))
	}
	if _, err := testHasher.Children(tree.Root(), d.nodes[tree.Root()][1:]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("broken bytes: got %v, want ErrCorrupt", err)
	}
}

// New nodes name the same as their bytes do, those that are not stored yet among them.
func TestChildrenOfNewNodes(t *testing.T) {
	d, tree, content := storedRoom(t)
	s := d.store(1 << 20)
	changed, first, err := s.Set(t.Context(), tree, []Change{{content[0].Key, 98}})
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := s.Set(t.Context(), changed, []Change{{content[1].Key, 99}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range append(first, second...) {
		want, err := testHasher.Children(n.ID, n.Data)
		if got := n.Children(); err != nil || !slices.Equal(got, want) {
			t.Errorf("node %d: got %v, want %v, %v", n.ID, got, want, err)
		}
	}
}

// A node that was forgotten is read from the database again, where it is not.
func TestForget(t *testing.T) {
	d, tree, content := storedRoom(t)
	s := d.store(1 << 20)
	if _, err := s.Get(t.Context(), tree, content[0].Key); err != nil {
		t.Fatal(err)
	}
	before, nodes := s.CacheSize()
	delete(d.nodes, tree.Root())
	s.Forget([]NodeID{tree.Root(), 1 << 40})
	if after, left := s.CacheSize(); left != nodes-1 || after >= before {
		t.Errorf("the cache holds %d nodes in %d bytes, before it was %d in %d", left, after, nodes, before)
	}
	if _, err := s.Get(t.Context(), tree, content[0].Key); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}
