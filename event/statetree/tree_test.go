package statetree

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestMain makes the property tests the same in each run; -rapid.seed=0 (random) or
// another number, given as a flag, still wins.
func TestMain(m *testing.M) {
	flag.Set("rapid.seed", "1")
	flag.Set("rapid.nofailfile", "true")
	m.Run()
}

// disk is a database of nodes in memory.
type disk struct {
	mu     sync.Mutex
	nodes  map[NodeID][]byte
	last   NodeID
	calls  int // of the loader
	loaded int // nodes
	fail   func(id NodeID) error
}

func newDisk() *disk { return &disk{nodes: map[NodeID][]byte{}} }

func (d *disk) Nodes(_ context.Context, ids []NodeID, found func(NodeID, []byte) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if len(ids) > MaxLoad || !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) < len(ids) {
		return fmt.Errorf("badly asked for %d nodes", len(ids))
	}
	for _, id := range slices.Backward(ids) {
		if d.fail != nil {
			if err := d.fail(id); err != nil {
				return err
			}
		}
		data, ok := d.nodes[id]
		if !ok {
			continue
		}
		d.loaded++
		passing := slices.Clone(data)
		err := found(id, passing)
		clear(passing)
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) nextID() NodeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	return d.last
}

func (d *disk) put(nodes []NewNode) (bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range nodes {
		d.nodes[n.ID] = n.Data
		bytes += len(n.Data)
	}
	return bytes
}

func (d *disk) store(cacheBytes int64) *Store {
	return New(Settings{Hasher: testHasher, Loader: d, NextID: d.nextID, CacheBytes: cacheBytes})
}

type state map[Key]Value

// commit makes the changes and stores the nodes.
func (d *disk) commit(t testing.TB, s *Store, base Tree, changes []Change) Tree {
	t.Helper()
	tree, nodes, err := s.Set(t.Context(), base, changes)
	if err != nil {
		t.Fatal(err)
	}
	d.put(nodes)
	s.Stored(nodes)
	return tree
}

// members returns n changes with keys below class 0, the i-th of value i+1.
func members(n int) []Change {
	r := rand.New(rand.NewPCG(1, 2))
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = Change{Key(r.Uint64() >> 4), Value(i + 1)}
	}
	return changes
}

// others returns n changes with keys of all classes but 0.
func others(n int) []Change {
	changes := members(n)
	for i := range changes {
		changes[i].Key |= Key(1+i%15) << 60
	}
	return changes
}

// failer is what a test and a check of rapid have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func walked(t failer, s *Store, tree Tree, c Classes) state {
	t.Helper()
	got := state{}
	err := s.Walk(context.Background(), tree, c, func(k Key, v Value) error {
		if got[k] != 0 {
			return fmt.Errorf("%x comes twice", k)
		}
		got[k] = v
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// version is a tree, what should be in it, and whether its nodes are stored.
type version struct {
	tree  Tree
	want  state
	write *write
}

// write is the outcome of one Set that made nodes.
type write struct {
	nodes   []NewNode
	base    *write
	stored  bool
	dropped bool
}

func (w *write) rests(on *write) bool {
	for ; w != nil; w = w.base {
		if w == on {
			return true
		}
	}
	return false
}

// world is a database, a store and versions of state as the model has them.
type world struct {
	disk     *disk
	store    *Store
	versions []version
	queue    []*write // not committed
}

// keyAt numbers keys, 200 in each class, half of them spread and half so close
// that their leaves are as deep as can be.
func keyAt(class, i int) Key {
	k := Key(class)<<60 | Key(i)
	if i%2 == 0 {
		k |= Key(i) * 0x9e3779b97f4a7c15 >> 4
	}
	return k
}

// keys are few enough to hit the same twice.
var keys = rapid.Custom(func(t *rapid.T) Key {
	return keyAt(rapid.IntRange(0, 2).Draw(t, "class"), rapid.IntRange(0, 199).Draw(t, "i"))
})

// changes are runs of keys that get one value; drawing every key would be slow,
// and rapid prefers short lists.
var changes = rapid.Custom(func(t *rapid.T) []Change {
	var changes []Change
	for range rapid.IntRange(1, 3).Draw(t, "runs") {
		class := rapid.IntRange(0, 2).Draw(t, "class")
		from := rapid.IntRange(0, 199).Draw(t, "from")
		size := rapid.SampledFrom([]int{150, 40, 20, 2, 1}).Draw(t, "size")
		value := rapid.SampledFrom([]Value{2, 0, 300, 1}).Draw(t, "value")
		for i := range size {
			changes = append(changes, Change{keyAt(class, (from+i)%200), value})
		}
	}
	return changes
})

// draw prefers the latest versions.
func (w *world) draw(t *rapid.T) version {
	back := rapid.IntRange(0, min(6, len(w.versions)-1)).Draw(t, "back")
	return w.versions[len(w.versions)-1-back]
}

func (w *world) set(t *rapid.T) {
	base := w.draw(t)
	changes := changes.Draw(t, "changes")
	tree, nodes, err := w.store.Set(context.Background(), base.tree, changes)
	if base.write != nil && base.write.dropped && len(changes) > 0 {
		if !errors.Is(err, ErrDropped) {
			t.Fatalf("set on a dropped tree: got %v, want ErrDropped", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	made := version{tree, maps.Clone(base.want), base.write}
	for _, c := range changes {
		made.want[c.Key] = c.Value
		if c.Value == 0 {
			delete(made.want, c.Key)
		}
	}
	if same := maps.Equal(made.want, base.want); same != (len(nodes) == 0 && tree == base.tree) && len(made.want) > 0 {
		t.Fatalf("same content: %v, but %d new nodes", same, len(nodes))
	}
	if len(made.want) == 0 {
		made.write = nil // nothing in it could be missing
	}
	if len(nodes) > 0 {
		made.write = &write{nodes: nodes, base: base.write}
		w.queue = append(w.queue, made.write)
	}
	w.versions = append(w.versions, made)
}

func (w *world) commit(t *rapid.T) {
	if len(w.queue) == 0 {
		t.Skip("nothing to commit")
	}
	first := w.queue[0]
	w.queue = w.queue[1:]
	w.disk.put(first.nodes)
	w.store.Stored(first.nodes)
	first.stored = true
}

// drop fails a write and what rests on it, as the database would.
func (w *world) drop(t *rapid.T) {
	if len(w.queue) == 0 {
		t.Skip("nothing to drop")
	}
	failed := rapid.SampledFrom(w.queue).Draw(t, "failed")
	w.store.Dropped(failed.nodes)
	w.queue = slices.DeleteFunc(w.queue, func(o *write) bool {
		o.dropped = o.rests(failed)
		return o.dropped
	})
}

// restart loses what is not committed.
func (w *world) restart(t *rapid.T) {
	w.queue = nil
	w.store = w.disk.store(rapid.SampledFrom([]int64{0, 20_000, 10_000_000}).Draw(t, "cache"))
	kept := w.versions[:0]
	for _, v := range w.versions {
		if v.write == nil || v.write.stored {
			kept = append(kept, version{At(v.tree.Root()), v.want, nil})
		}
	}
	w.versions = kept
}

func (w *world) check(t *rapid.T) {
	ctx := context.Background()
	a, b := w.draw(t), w.draw(t)
	if got := walked(t, w.store, a.tree, All); !maps.Equal(got, a.want) {
		t.Fatalf("walk: got %v, want %v", got, a.want)
	}
	if got, err := w.store.Len(ctx, a.tree); got != len(a.want) || err != nil {
		t.Fatalf("len: got %d, %v, want %d", got, err, len(a.want))
	}
	class := Classes(rapid.Uint16().Draw(t, "classes"))
	want := maps.Clone(a.want)
	maps.DeleteFunc(want, func(k Key, _ Value) bool { return !class.Has(k) })
	if got := walked(t, w.store, a.tree, class); !maps.Equal(got, want) {
		t.Fatalf("walk of %b: got %v, want %v", class, got, want)
	}
	asked := append(rapid.SliceOfN(keys, 0, 30).Draw(t, "asked"), slices.Collect(maps.Keys(a.want))...)
	many, err := w.store.GetMany(ctx, a.tree, asked)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range asked {
		one, err := w.store.Get(ctx, a.tree, k)
		if err != nil || one != a.want[k] || many[i] != one {
			t.Fatalf("key %x: got %d, %v, and %d with others, want %d", k, one, err, many[i], a.want[k])
		}
	}
	w.compare(t, a, b)
}

func (w *world) compare(t *rapid.T, a, b version) {
	ctx := context.Background()
	want := map[Key][2]Value{}
	for k, v := range a.want {
		if b.want[k] != v {
			want[k] = [2]Value{v, b.want[k]}
		}
	}
	for k, v := range b.want {
		if a.want[k] != v {
			want[k] = [2]Value{a.want[k], v}
		}
	}
	got := map[Key][2]Value{}
	err := w.store.Diff(ctx, a.tree, b.tree, func(k Key, old, new Value) error {
		if _, ok := got[k]; ok {
			return fmt.Errorf("%x comes twice", k)
		}
		got[k] = [2]Value{old, new}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		t.Fatalf("diff: got %v, %v, want %v", got, err, want)
	}
	if equal, err := w.store.Equal(ctx, a.tree, b.tree); equal != (len(want) == 0) || err != nil {
		t.Fatalf("equal: got %v, %v, with %d differences", equal, err, len(want))
	}
	fresh, _, err := w.store.Set(ctx, Tree{}, slices.Collect(func(yield func(Change) bool) {
		for k, v := range a.want {
			if !yield(Change{k, v}) {
				return
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if equal, err := w.store.Equal(ctx, a.tree, fresh); !equal || err != nil {
		t.Fatalf("equal to the same built at once: got %v, %v", equal, err)
	}
	if err := sameShape(w.store, a.tree.root, fresh.root, 0); err != nil {
		t.Fatal(err)
	}
}

// sameShape holds two trees of equal content against each other and against
// the rules of their shape.
func sameShape(s *Store, a, b ref, depth int) error {
	refs := []ref{a, b}
	if err := s.load(context.Background(), refs); err != nil {
		return err
	}
	x, y := refs[0].node, refs[1].node
	if !x.same(y) || (x.children == nil) != (y.children == nil) || !slices.Equal(x.entries, y.entries) {
		return fmt.Errorf("at depth %d: %+v is not %+v", depth, x, y)
	}
	if x.children == nil {
		if x.count != len(x.entries) || x.count > leafMax || x.hash != testHasher.hashOf(x.entries) {
			return fmt.Errorf("at depth %d: not a leaf: %+v", depth, x)
		}
		return nil
	}
	if x.count <= leafMax {
		return fmt.Errorf("at depth %d: inner node of %d", depth, x.count)
	}
	for i := range fanOut {
		if err := sameShape(s, x.child(i), y.child(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// TestAgainstMap holds trees against Go maps through any order of changes,
// commits, failed commits and restarts.
func TestAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk()
		w := &world{disk: d, store: d.store(10_000_000), versions: []version{{want: state{}}}}
		t.Repeat(map[string]func(*rapid.T){
			"set":     w.set,
			"set too": w.set,
			"commit":  w.commit,
			"drop":    w.drop,
			"restart": w.restart,
			"":        w.check,
		})
	})
}
