package rooms

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const benchEntries = 50_000

func onEach(b *testing.B, f func(b *testing.B, w *stateWorld)) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) {
			w := &stateWorld{world: newWorld(b, storagetest.Open(b, kind))}
			w.trees = w.store(64 << 20)
			w.fill(benchEntries)
			f(b, w)
		})
	}
}

// stateWorld is a room with a large state that is stored.
type stateWorld struct {
	*world
	trees *statetree.Store
	keys  []statetree.Key
	tree  statetree.Tree
	value statetree.Value
}

// Nodes implements statetree.Loader.
func (w *stateWorld) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return StateNodes(ctx, w.db, ids, found)
}

func (w *stateWorld) store(cacheBytes int64) *statetree.Store {
	return statetree.New(statetree.Settings{
		Hasher: statetree.NewHasher([16]byte{1}), Loader: w, CacheBytes: cacheBytes,
		NextID: func() statetree.NodeID { return statetree.NodeID(w.db.NextNumber()) },
	})
}

// nodes is a write of state nodes alone.
type nodes []statetree.NewNode

func (n nodes) Rows(it *storage.Item) {
	for _, each := range n {
		it.Insert(nodesTable, int64(each.ID), int64(1), each.Data)
	}
}

// fill makes the state: mostly members.
func (w *stateWorld) fill(n int) {
	var changes []statetree.Change
	for i := range n {
		k := event.Key{Type: event.TypeMember, StateKey: fmt.Sprintf("@user%d:example.org", i)}
		if i%50 == 0 {
			k = event.Key{Type: fmt.Sprint("org.example.type", i%500), StateKey: fmt.Sprint(i)}
		}
		w.keys = append(w.keys, w.trees.Hasher().Key(k))
		changes = append(changes, w.change(i))
	}
	w.commit(w.set(changes...))
}

func (w *stateWorld) change(i int) statetree.Change {
	w.value++
	return statetree.Change{Key: w.keys[i], Value: 50_000_000 + w.value}
}

// set moves the state and returns what is to be stored.
func (w *stateWorld) set(changes ...statetree.Change) nodes {
	tree, made, err := w.trees.Set(ctx, w.tree, changes)
	if err != nil {
		w.t.Fatal(err)
	}
	w.trees.Stored(made)
	w.tree = tree
	return made
}

// BenchmarkStateChange changes one entry of a state of 50,000 and stores it; a hundred changes are one commit, as they
// are when many rooms are busy. The CPU is that of this process, so without that of a database of its own. The bytes
// are those by which the table grows with its index, of 20,000 changes.
func BenchmarkStateChange(b *testing.B) {
	onEach(b, func(b *testing.B, w *stateWorld) {
		const group, more = 100, 20_000
		r := rand.New(rand.NewPCG(5, 6))
		var waiting nodes
		i := 0
		change := func() {
			waiting = append(waiting, w.set(w.change(r.IntN(benchEntries)))...)
			if i++; i%group == 0 {
				w.commit(waiting)
				waiting = nil
			}
		}
		started := cpuTime()
		for b.Loop() {
			change()
		}
		b.ReportMetric(float64((cpuTime()-started).Nanoseconds())/float64(b.N)/1000, "own-CPU-µs/op")
		before := w.tableBytes()
		for range more {
			change()
		}
		b.ReportMetric(float64(w.tableBytes()-before)/more, "table-B/op")
	})
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tableBytes is what the database takes for state nodes, or, of SQLite, for everything.
func (w *stateWorld) tableBytes() int64 {
	for _, query := range []string{`SELECT pg_total_relation_size('state_nodes')`, `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`} {
		if n, found, err := storage.One[int64](ctx, w.db, query); err == nil && found {
			return n
		}
	}
	w.t.Fatal("the size of the database cannot be had")
	return 0
}

// BenchmarkColdLoad reads a whole state of 50,000 entries of which nothing is in memory.
func BenchmarkColdLoad(b *testing.B) {
	onEach(b, func(b *testing.B, w *stateWorld) {
		root := w.tree.Root()
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			err := w.store(0).Walk(ctx, statetree.At(root), statetree.All, func(statetree.Key, statetree.Value) error { n++; return nil })
			if err != nil || n != benchEntries {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkColdDiff compares two states ten changes apart of which nothing is in memory, as sync does for a room that
// moved while nobody looked.
func BenchmarkColdDiff(b *testing.B) {
	onEach(b, func(b *testing.B, w *stateWorld) {
		before := w.tree.Root()
		var changes []statetree.Change
		for i := range 10 {
			changes = append(changes, w.change(i*4999))
		}
		w.commit(w.set(changes...))
		b.ReportAllocs()
		for b.Loop() {
			var found []statetree.Value
			err := w.store(0).Diff(ctx, statetree.At(before), statetree.At(w.tree.Root()), func(_ statetree.Key, _, now statetree.Value) error {
				found = append(found, now)
				return nil
			})
			if err != nil || len(found) != len(changes) {
				b.Fatal(found, err)
			}
		}
	})
}
