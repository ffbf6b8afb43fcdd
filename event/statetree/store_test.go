package statetree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
)

// storedRoom returns a disk that holds a tree of 2000 members and 200 others, and
// its root.
func storedRoom(t testing.TB) (*disk, Tree, []Change) {
	d := newDisk()
	content := append(members(2000), others(200)...)
	tree := d.commit(t, d.store(1<<20), Tree{}, content)
	d.calls, d.loaded = 0, 0
	return d, At(tree.Root()), content
}

func TestEmptyTree(t *testing.T) {
	s := newDisk().store(0)
	ctx := t.Context()
	if v, err := s.Get(ctx, Tree{}, 5); v != 0 || err != nil {
		t.Errorf("get: got %d, %v, want 0", v, err)
	}
	if n, err := s.Len(ctx, Tree{}); n != 0 || err != nil {
		t.Errorf("len: got %d, %v, want 0", n, err)
	}
	if h, err := s.Hash(ctx, At(0)); h != (Hash{}) || err != nil {
		t.Errorf("hash: got %v, %v, want zero", h, err)
	}
	if vs, err := s.GetMany(ctx, Tree{}, nil); len(vs) != 0 || err != nil {
		t.Errorf("get none: got %v, %v", vs, err)
	}
	tree, nodes, err := s.Set(ctx, Tree{}, []Change{{5, 0}})
	if tree != (Tree{}) || nodes != nil || err != nil {
		t.Errorf("delete of nothing: got %v, %v, %v", tree, nodes, err)
	}
	one, _, err := s.Set(ctx, Tree{}, []Change{{5, 1}})
	if err != nil {
		t.Fatal(err)
	}
	none, nodes, err := s.Set(ctx, one, []Change{{5, 0}})
	if none.Root() != 0 || len(nodes) != 0 || err != nil {
		t.Errorf("deleting all: got root %d, %v, %v, want 0", none.Root(), nodes, err)
	}
}

func TestLastChangeOfAKeyWins(t *testing.T) {
	s := newDisk().store(0)
	tree, _, err := s.Set(t.Context(), Tree{}, []Change{{5, 1}, {6, 9}, {5, 3}, {5, 2}, {6, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := walked(t, s, tree, All), (state{5: 2}); len(got) != 1 || got[5] != 2 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNegativeValueIsRefused(t *testing.T) {
	s := newDisk().store(0)
	if _, _, err := s.Set(t.Context(), Tree{}, []Change{{5, -1}}); !errors.Is(err, ErrValue) {
		t.Errorf("got %v, want ErrValue", err)
	}
}

func TestNumberZeroPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("NextID returned 0 and nobody noticed")
		}
	}()
	s := New(Settings{Hasher: testHasher, Loader: newDisk(), NextID: func() NodeID { return 0 }})
	s.Set(t.Context(), Tree{}, []Change{{5, 1}})
}

// One change makes new nodes on one path only.
func TestSharing(t *testing.T) {
	d := newDisk()
	s := d.store(64 << 20)
	content := members(50_000)
	tree := d.commit(t, s, Tree{}, content)
	before := len(d.nodes)
	for i, c := range content[:100] {
		next, nodes, err := s.Set(t.Context(), tree, []Change{{c.Key, Value(100_000 + i)}})
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes) != 5 || nodes[4].ID != next.Root() {
			t.Fatalf("got %d new nodes, want 5, the root last", len(nodes))
		}
		if bytes := d.put(nodes); bytes > 700 {
			t.Errorf("one change stores %d bytes, want at most 700", bytes)
		}
		s.Stored(nodes)
		tree = next
	}
	if got := len(d.nodes) - before; got != 500 {
		t.Errorf("100 changes: got %d nodes, want 500", got)
	}
}

func TestMembersAreOneSubtree(t *testing.T) {
	d, tree, _ := storedRoom(t)
	for _, c := range []struct {
		classes  Classes
		entries  int
		maxLoads int
	}{
		{All, 2200, 1000},
		{Members, 2000, 500},
		{NonMembers, 200, 1 + 15},
		{1 << 3, 14, 2},
		{0, 0, 1},
	} {
		d.loaded = 0
		if got := len(walked(t, d.store(1<<20), tree, c.classes)); got != c.entries {
			t.Errorf("classes %016b: got %d entries, want %d", c.classes, got, c.entries)
		}
		if d.loaded > c.maxLoads {
			t.Errorf("classes %016b: loaded %d nodes, want at most %d", c.classes, d.loaded, c.maxLoads)
		}
	}
}

// Everything that reads many nodes asks once for each level.
func TestLoadsByLevel(t *testing.T) {
	d, tree, content := storedRoom(t)
	ctx := t.Context()
	var keys []Key
	var some []Change
	for i, c := range content {
		if i%20 == 0 {
			keys = append(keys, c.Key)
			some = append(some, Change{c.Key, 7777})
		}
	}
	changed := At(d.commit(t, d.store(0), tree, some).Root())
	nothing := func(Key, Value, Value) error { return nil }
	for name, read := range map[string]func(s *Store) error{
		"walk":     func(s *Store) error { return s.Walk(ctx, tree, All, func(Key, Value) error { return nil }) },
		"get many": func(s *Store) error { _, err := s.GetMany(ctx, tree, keys); return err },
		"set":      func(s *Store) error { _, _, err := s.Set(ctx, tree, some); return err },
		"diff":     func(s *Store) error { return s.Diff(ctx, tree, changed, nothing) },
		"get":      func(s *Store) error { _, err := s.Get(ctx, tree, keys[0]); return err },
	} {
		for _, cacheBytes := range []int64{0, 1 << 20} {
			d.calls = 0
			if err := read(d.store(cacheBytes)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if d.calls < 3 || d.calls > 5 {
				t.Errorf("%s, cache of %d bytes: got %d loads, want one for each of 3 to 5 levels", name, cacheBytes, d.calls)
			}
		}
	}
}

// Trees of equal content have different nodes if they were built apart, and
// are known as equal from their roots.
func TestIndependentTrees(t *testing.T) {
	d, tree, content := storedRoom(t)
	slices.Reverse(content)
	s := d.store(0)
	twin := Tree{}
	for part := range slices.Chunk(content, 300) {
		twin = d.commit(t, s, twin, part)
	}
	twin = At(twin.Root())
	d.loaded = 0
	equal, err := s.Equal(t.Context(), tree, twin)
	if !equal || err != nil || d.loaded != 2 {
		t.Errorf("equal: got %v, %v after %d nodes, want true after 2", equal, err, d.loaded)
	}
	a, errA := s.Hash(t.Context(), tree)
	b, errB := s.Hash(t.Context(), twin)
	if a != b || errA != nil || errB != nil {
		t.Errorf("hashes: got %v and %v, %v, %v", a, b, errA, errB)
	}
	other := At(d.commit(t, s, twin, []Change{{content[0].Key, 9999}}).Root())
	d.loaded = 0
	diffs := 0
	err = s.Diff(t.Context(), tree, other, func(Key, Value, Value) error { diffs++; return nil })
	if diffs != 1 || err != nil {
		t.Errorf("diff: got %d differences, %v, want 1", diffs, err)
	}
	if d.loaded > 4*2*fanOut {
		t.Errorf("diff: loaded %d nodes, want no more than the children on one path", d.loaded)
	}
}

// reads are all ways to read a tree, and to change it.
func reads(s *Store, tree Tree, content []Change) map[string]func(context.Context) error {
	many := []Change{{content[0].Key, 5}, {content[1].Key, 0}}
	return map[string]func(context.Context) error{
		"get":  func(ctx context.Context) error { _, err := s.Get(ctx, tree, content[0].Key); return err },
		"many": func(ctx context.Context) error { _, err := s.GetMany(ctx, tree, []Key{content[0].Key}); return err },
		"walk": func(ctx context.Context) error {
			return s.Walk(ctx, tree, All, func(Key, Value) error { return nil })
		},
		"diff": func(ctx context.Context) error {
			return s.Diff(ctx, Tree{}, tree, func(Key, Value, Value) error { return nil })
		},
		"set":      func(ctx context.Context) error { _, _, err := s.Set(ctx, tree, many[:1]); return err },
		"set many": func(ctx context.Context) error { _, _, err := s.Set(ctx, tree, many); return err },
		"len":      func(ctx context.Context) error { _, err := s.Len(ctx, tree); return err },
		"hash":     func(ctx context.Context) error { _, err := s.Hash(ctx, tree); return err },
		"equal":    func(ctx context.Context) error { _, err := s.Equal(ctx, Tree{}, tree); return err },
	}
}

func TestFaults(t *testing.T) {
	errDisk := errors.New("disk on fire")
	d, tree, content := storedRoom(t)
	root := d.nodes[tree.Root()]
	for _, fault := range []struct {
		name string
		make func(d *disk)
		want error
	}{
		{"loader fails", func(d *disk) { d.fail = func(NodeID) error { return errDisk } }, errDisk},
		{"root is missing", func(d *disk) { delete(d.nodes, tree.Root()) }, ErrMissing},
		{"root is cut", func(d *disk) { d.nodes[tree.Root()] = root[:9] }, ErrCorrupt},
		{"root is empty", func(d *disk) { d.nodes[tree.Root()] = nil }, ErrCorrupt},
		{"another node in its place", func(d *disk) { d.nodes[tree.Root()] = d.nodes[1] }, ErrCorrupt},
	} {
		fault.make(d)
		for name, read := range reads(d.store(1<<20), tree, content) {
			if err := read(t.Context()); !errors.Is(err, fault.want) {
				t.Errorf("%s, %s: got %v, want %v", fault.name, name, err, fault.want)
			}
		}
		d.fail, d.nodes[tree.Root()] = nil, root
		for name, read := range reads(d.store(1<<20), tree, content) {
			if err := read(t.Context()); err != nil {
				t.Errorf("after %s, %s: %v", fault.name, name, err)
			}
		}
	}
}

// A failure at any single node reaches the caller, and leaves nothing wrong
// behind.
func TestFaultsAtEveryNode(t *testing.T) {
	errDisk := errors.New("disk on fire")
	d, tree, _ := storedRoom(t)
	s := d.store(0)
	for bad := range d.nodes {
		d.fail = func(id NodeID) error {
			if id == bad {
				return errDisk
			}
			return nil
		}
		err := s.Walk(t.Context(), tree, All, func(Key, Value) error { return nil })
		if !errors.Is(err, errDisk) {
			t.Fatalf("node %d fails: got %v, want %v", bad, err, errDisk)
		}
	}
}

func TestYieldStops(t *testing.T) {
	d, tree, content := storedRoom(t)
	s := d.store(1 << 20)
	small := At(d.commit(t, s, Tree{}, content[:3]).Root())
	enough := errors.New("enough")
	for _, at := range []Tree{tree, small} {
		calls := 0
		stop := func() error { calls++; return enough }
		if err := s.Walk(t.Context(), at, All, func(Key, Value) error { return stop() }); err != enough {
			t.Errorf("walk: got %v, want %v", err, enough)
		}
		if err := s.Diff(t.Context(), at, Tree{}, func(Key, Value, Value) error { return stop() }); err != enough {
			t.Errorf("diff: got %v, want %v", err, enough)
		}
		if calls != 2 {
			t.Errorf("yield was called %d times, want twice", calls)
		}
	}
}

func TestCancelledContext(t *testing.T) {
	d, tree, content := storedRoom(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := d.store(1 << 20)
	walked(t, s, tree, All) // nothing to load any more
	for name, read := range reads(s, tree, content) {
		if err := read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
}

// A circle can be stored by a mistake of ours only, and must not hang a room.
func TestCircle(t *testing.T) {
	d := newDisk()
	d.nodes[2] = testHasher.encode(innerOf(2, 40, 2))
	for name, read := range reads(d.store(1<<20), At(2), []Change{{0, 1}, {1, 1}}) {
		if name == "len" || name == "hash" || name == "equal" {
			continue
		}
		if err := read(t.Context()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
}

func TestCacheKeepsItsBudget(t *testing.T) {
	d, tree, content := storedRoom(t)
	const budget = 100_000
	s := d.store(budget)
	walked(t, s, tree, All)
	bytes, nodes := s.CacheSize()
	if bytes > budget || bytes < budget/2 || nodes < 100 {
		t.Errorf("cache: got %d bytes in %d nodes, want nearly %d", bytes, nodes, budget)
	}
	// The path that is used most stays while others come and go.
	hot := content[0].Key
	for _, c := range content {
		for _, k := range []Key{hot, c.Key} {
			if _, err := s.Get(t.Context(), tree, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.calls = 0
	if _, err := s.Get(t.Context(), tree, hot); err != nil || d.calls > 0 {
		t.Errorf("the hot path: got %d loads, %v, want none", d.calls, err)
	}
}

// TestKeysOfState goes through the front door, with types and state keys.
func TestKeysOfState(t *testing.T) {
	d := newDisk()
	s := d.store(1 << 20)
	key := func(typ, stateKey string) Key {
		return s.Hasher().Key(event.Key{Type: typ, StateKey: stateKey})
	}
	var changes []Change
	for i := range 100 {
		changes = append(changes, Change{key("m.room.member", fmt.Sprintf("@u%d:a.example", i)), Value(1 + i)})
	}
	changes = append(changes, Change{key("m.room.create", ""), 500}, Change{key("m.room.topic", ""), 501})
	tree := d.commit(t, s, Tree{}, changes)
	if v, err := s.Get(t.Context(), tree, key("m.room.topic", "")); v != 501 || err != nil {
		t.Errorf("topic: got %d, %v, want 501", v, err)
	}
	if got := len(walked(t, s, tree, Members)); got != 100 {
		t.Errorf("members: got %d, want 100", got)
	}
	if got := walked(t, s, tree, NonMembers); len(got) != 2 {
		t.Errorf("other state: got %v, want 2 entries", got)
	}
	if got := walked(t, s, tree, s.Hasher().Type("m.room.create")); got[key("m.room.create", "")] != 500 {
		t.Errorf("state of the type create: got %v, want the event 500 in it", got)
	}
}
