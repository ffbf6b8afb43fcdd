package statetree

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// What is not stored hangs on the trees, not in the cache; what is stored
// hangs in the cache only.
func TestFreshNodes(t *testing.T) {
	d := newDisk()
	s := d.store(0) // keeps nothing: what can be read is held by the tree
	content := members(500)
	first, nodes1, err1 := s.Set(t.Context(), Tree{}, content[:400])
	second, nodes2, err2 := s.Set(t.Context(), first, content[400:450])
	third, nodes3, err3 := s.Set(t.Context(), second, content[450:])
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	read := func(tree Tree, want, wantLoaded int) {
		t.Helper()
		d.loaded = 0
		if got := len(walked(t, s, tree, All)); got != want {
			t.Errorf("got %d entries, want %d", got, want)
		}
		if (d.loaded > 0) != (wantLoaded > 0) {
			t.Errorf("loaded %d nodes, want about %d", d.loaded, wantLoaded)
		}
	}
	read(third, 500, 0)
	if err := s.Walk(t.Context(), At(third.Root()), All, nil); !errors.Is(err, ErrMissing) {
		t.Errorf("by number, before it is stored: got %v, want ErrMissing", err)
	}
	d.put(nodes1)
	s.Stored(nodes1)
	read(first, 400, 1)
	read(third, 500, 0)
	d.put(nodes2)
	d.put(nodes3)
	s.Stored(append(nodes2, nodes3...))
	read(second, 450, 1)
	read(third, 500, 1)
	read(At(third.Root()), 500, 1)
}

// Telling of the last of several commits is enough for all that it rests on.
func TestStoredIncludesWhatItRestsOn(t *testing.T) {
	d := newDisk()
	s := d.store(1 << 20)
	first, nodes1, err1 := s.Set(t.Context(), Tree{}, members(400))
	second, nodes2, err2 := s.Set(t.Context(), first, []Change{{1, 1}})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	d.put(nodes1)
	d.put(nodes2)
	s.Stored(nodes2)
	if got := len(walked(t, s, second, All)); got != 401 {
		t.Errorf("got %d entries, want 401", got)
	}
	if !nodes1[0].node.stored() {
		t.Error("the base is not known as stored: what is built on it would hold its nodes")
	}
}

func TestStoredNodesAreInTheCache(t *testing.T) {
	d := newDisk()
	s := d.store(1 << 20)
	tree := d.commit(t, s, Tree{}, members(400))
	if got := len(walked(t, s, At(tree.Root()), All)); got != 400 || d.calls > 0 {
		t.Errorf("got %d entries with %d loads, want 400 with none", got, d.calls)
	}
}

func TestDropped(t *testing.T) {
	d := newDisk()
	s := d.store(1 << 20)
	base := d.commit(t, s, Tree{}, members(400))
	failed, nodes, err := s.Set(t.Context(), base, []Change{{1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	onFailed, _, err := s.Set(t.Context(), failed, []Change{{2, 1}})
	if err != nil {
		t.Fatal(err)
	}
	s.Dropped(nodes)
	for name, tree := range map[string]Tree{"the tree": failed, "a tree on it": onFailed} {
		if _, _, err := s.Set(t.Context(), tree, []Change{{3, 1}}); !errors.Is(err, ErrDropped) {
			t.Errorf("%s: got %v, want ErrDropped", name, err)
		}
		if v, err := s.Get(t.Context(), tree, 1); v != 1 || err != nil {
			t.Errorf("reading %s: got %d, %v, want 1", name, v, err)
		}
	}
	if _, _, err := s.Set(t.Context(), base, []Change{{3, 1}}); err != nil {
		t.Errorf("the base of the failed one: %v", err)
	}
}

// Rooms' owners change their trees, readers read what is committed and what is
// not, and the cache is too small for all.
func TestConcurrency(t *testing.T) {
	d := newDisk()
	s := d.store(50_000)
	content := members(1000)
	base := d.commit(t, s, Tree{}, content)
	trees := make(chan Tree, 64)
	var owners, readers sync.WaitGroup
	fail := make(chan error, 16)
	for owner := range 3 {
		owners.Go(func() { fail <- own(t.Context(), d, s, ownRun{owner, base, content, trees}) })
	}
	for range 3 {
		readers.Go(func() {
			for tree := range trees {
				err := s.Diff(t.Context(), base, tree, func(_ Key, old, new Value) error {
					if new < 10_000 || old == 0 {
						return fmt.Errorf("changed from %d to %d", old, new)
					}
					return nil
				})
				if n, errLen := s.Len(t.Context(), tree); n != 1000 || err != nil {
					fail <- fmt.Errorf("%d entries, %w, %w", n, errLen, err)
				}
			}
		})
	}
	owners.Wait()
	close(trees)
	readers.Wait()
	close(fail)
	for err := range fail {
		if err != nil {
			t.Error(err)
		}
	}
}

type ownRun struct {
	owner   int
	base    Tree
	content []Change
	trees   chan<- Tree
}

// own makes 100 changes, commits every second two steps late, and drops the
// last ones.
func own(ctx context.Context, d *disk, s *Store, r ownRun) error {
	tree := r.base
	var queue [][]NewNode
	for i := range 100 {
		c := r.content[(i*37+r.owner*11)%len(r.content)]
		next, nodes, err := s.Set(ctx, tree, []Change{{c.Key, Value(10_000 + i)}})
		if err != nil {
			return err
		}
		tree, queue = next, append(queue, nodes)
		r.trees <- tree
		if i%2 == 1 && i > 4 {
			for _, n := range queue[:2] {
				d.put(n)
				s.Stored(n)
			}
			queue = queue[2:]
		}
	}
	s.Dropped(queue[0])
	if _, _, err := s.Set(ctx, tree, r.content[:1]); !errors.Is(err, ErrDropped) {
		return fmt.Errorf("got %v, want ErrDropped", err)
	}
	return nil
}
