package statetree

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// holed is a disk on which holes can be filled.
type holed struct {
	*disk
	filled map[Hole]NodeID
}

func newHoled() *holed { return &holed{disk: newDisk(), filled: map[Hole]NodeID{}} }

func (d *holed) store(cacheBytes int64) *Store {
	return New(Settings{
		Hasher: testHasher, Loader: d, NextID: d.nextID, CacheBytes: cacheBytes,
		Filled: func(_ context.Context, hole Hole) (NodeID, bool, error) {
			root, known := d.filled[hole]
			return root, known, nil
		},
	})
}

// A tree with a hole knows what it was told and nothing else, until the hole is filled; then it is, for every
// reader, the tree that it would have been from the beginning.
func TestHole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		d := newHoled()
		s := d.store(1 << 20)
		all := append(members(rapid.SampledFrom([]int{1, 20, 33, 700}).Draw(rt, "members")), others(rapid.SampledFrom([]int{1, 9, 60}).Draw(rt, "others"))...)
		base, want := state{}, state{}
		for _, c := range all {
			base[c.Key] = c.Value
			want[c.Key] = c.Value
		}
		var told, unknown []Change
		for _, c := range all {
			if !Members.Has(c.Key) || rapid.IntRange(0, 9).Draw(rt, "told") == 0 {
				told = append(told, c)
			} else {
				unknown = append(unknown, c)
			}
		}
		tree := d.commit(t, s, s.Partial(7), told)
		first := tree
		for range rapid.IntRange(0, 5).Draw(rt, "changes") {
			c := rapid.SampledFrom(all).Draw(rt, "change")
			c.Value += 10_000
			want[c.Key] = c.Value
			tree = d.commit(t, s, tree, []Change{c})
		}
		if rapid.Bool().Draw(rt, "restart") {
			s = d.store(1 << 20)
			tree, first = At(tree.Root()), At(first.Root())
		}
		unread(t, s, first, unknown)
		seen := changedBetween(t, s, first, tree)

		d.filled[7] = d.commit(t, s, Tree{}, membersOf(all)).Root()
		if got := walked(t, s, tree, All); !maps.Equal(got, want) {
			t.Fatalf("filled: got %v, want %v", got, want)
		}
		if got := changedBetween(t, s, first, tree); len(got) > len(seen) {
			t.Fatalf("filling added changes: got %v, want at most %v", got, seen)
		}
		whole, nodes, err := s.Whole(ctx, tree)
		if err != nil {
			t.Fatal(err)
		}
		d.put(nodes)
		s.Stored(nodes)
		more := d.commit(t, s, tree, []Change{{others(1)[0].Key, 77}})
		direct := built(t, d, want)
		want[others(1)[0].Key] = 77
		for _, c := range []struct {
			name     string
			got, has Tree
		}{{"read", tree, direct}, {"whole", At(whole.Root()), direct}, {"built on", At(more.Root()), built(t, d, want)}} {
			fresh := d.store(1 << 20)
			if err := sameShape(fresh, c.got.root, c.has.root, 0); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if hole, err := d.store(0).HoleOf(ctx, At(whole.Root())); hole != 0 || err != nil {
			t.Fatalf("whole: got hole %d, %v, want none", hole, err)
		}
	})
}

func membersOf(all []Change) []Change {
	return slices.DeleteFunc(slices.Clone(all), func(c Change) bool { return !Members.Has(c.Key) })
}

// built makes a tree of a state at once.
func built(t *testing.T, d *holed, want state) Tree {
	var changes []Change
	for k, v := range want {
		changes = append(changes, Change{k, v})
	}
	return At(d.commit(t, d.store(0), Tree{}, changes).Root())
}

// unread checks that nothing is said of what is not known.
func unread(t *testing.T, s *Store, tree Tree, unknown []Change) {
	t.Helper()
	ctx := t.Context()
	for _, c := range unknown {
		if v, err := s.Get(ctx, tree, c.Key); v != 0 || !errors.Is(err, ErrUnknown) {
			t.Fatalf("get of an unknown member: got %d, %v, want ErrUnknown", v, err)
		}
		if _, err := s.GetMany(ctx, tree, []Key{c.Key}); !errors.Is(err, ErrUnknown) {
			t.Fatalf("get of unknown members: got %v, want ErrUnknown", err)
		}
		if v, holed, err := s.GetKnown(ctx, tree, []Key{c.Key}); v[0] != 0 || !holed || err != nil {
			t.Fatalf("get of what is known: got %v, %v, %v, want 0, true", v, holed, err)
		}
	}
	if err := s.Walk(ctx, tree, Members, func(Key, Value) error { return nil }); !errors.Is(err, ErrUnknown) {
		t.Fatalf("walk over the members: got %v, want ErrUnknown", err)
	}
	if got := walked(t, s, tree, NonMembers); len(got) == 0 {
		t.Fatal("walk over the rest: got nothing")
	}
	err := s.WalkKnown(ctx, tree, All, func(k Key, _ Value) error {
		if slices.ContainsFunc(unknown, func(c Change) bool { return c.Key == k }) {
			return fmt.Errorf("%x is known", k)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("walk over what is known: %v", err)
	}
	if _, _, err := s.Whole(ctx, tree); !errors.Is(err, ErrUnknown) {
		t.Fatalf("whole: got %v, want ErrUnknown", err)
	}
}

func changedBetween(t *testing.T, s *Store, a, b Tree) state {
	t.Helper()
	got := state{}
	err := s.Diff(t.Context(), a, b, func(k Key, _, now Value) error {
		got[k] = now
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A state with a hole and a known one differ in what both know.
func TestDiffWithHole(t *testing.T) {
	d := newHoled()
	s := d.store(1 << 20)
	content := append(members(100), others(20)...)
	known := d.commit(t, s, Tree{}, content)
	told := append([]Change{{content[3].Key, 500}, content[4]}, content[100:]...)
	holed := d.commit(t, s, s.Partial(1), told)
	if got := changedBetween(t, s, known, holed); !maps.Equal(got, state{content[3].Key: 500}) {
		t.Errorf("to the one with the hole: got %v, want the one told differently", got)
	}
	if got := changedBetween(t, s, holed, known); !maps.Equal(got, state{content[3].Key: content[3].Value}) {
		t.Errorf("from the one with the hole: got %v, want the one told differently", got)
	}
	same := d.commit(t, s, s.Partial(1), told)
	other := d.commit(t, s, s.Partial(2), told)
	for _, c := range []struct {
		name string
		with Tree
		want bool
	}{{"same hole", same, true}, {"another hole", other, false}, {"known", known, false}} {
		if got, err := s.Equal(t.Context(), holed, c.with); got != c.want || err != nil {
			t.Errorf("equal, %s: got %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

// What a change drops of its nodes drops those it filled a hole with.
func TestDropOfFilled(t *testing.T) {
	d := newHoled()
	s := d.store(1 << 20)
	holed := d.commit(t, s, s.Partial(1), append(members(50)[:2], others(10)...))
	d.filled[1] = d.commit(t, s, Tree{}, members(50)).Root()
	next, nodes, err := s.Set(t.Context(), holed, []Change{{5, 5}})
	if err != nil {
		t.Fatal(err)
	}
	s.Dropped(nodes)
	if _, _, err := s.Set(t.Context(), next, []Change{{6, 6}}); !errors.Is(err, ErrDropped) {
		t.Errorf("built on dropped nodes: got %v, want ErrDropped", err)
	}
	again := d.commit(t, s, holed, []Change{{5, 5}})
	if got := len(walked(t, d.store(0), At(again.Root()), All)); got != 61 {
		t.Errorf("after the drop: got %d entries, want 61", got)
	}
}
