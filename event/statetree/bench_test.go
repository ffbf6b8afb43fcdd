package statetree

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sizes are the entries of the rooms that are measured: mostly members, and
// one in fifty of other types.
var sizes = []int{1_000, 50_000}

func room(n int) []Change { return append(members(n-n/50), others(n/50)...) }

const benchCache = 64 << 20

func perSize(b *testing.B, run func(b *testing.B, d *disk, s *Store, tree Tree, room []Change)) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := newDisk()
			d.last = 100_000_000 // numbers as long as in an old database
			s := d.store(benchCache)
			content := room(n)
			for i := range content {
				content[i].Value += 50_000_000
			}
			run(b, d, s, d.commit(b, s, Tree{}, content), content)
		})
	}
}

// changed returns the room's tree with n entries, any, set to new values.
func changed(b *testing.B, d *disk, s *Store, tree Tree, n int) Tree {
	var changes []Change
	for k, v := range walked(b, s, tree, All) {
		if len(changes) < n {
			changes = append(changes, Change{k, v + 1})
		}
	}
	return d.commit(b, s, tree, changes)
}

// BenchmarkSet changes one entry, nine times of ten one that was there. Every
// 1000 changes it starts anew, so that the cache never needs the disk.
func BenchmarkSet(b *testing.B) {
	perSize(b, func(b *testing.B, d *disk, s *Store, tree Tree, room []Change) {
		r := rand.New(rand.NewPCG(3, 4))
		var bytes, nodes, i int
		base := tree
		b.ReportAllocs()
		for b.Loop() {
			if i++; i%1000 == 0 {
				tree = base
			}
			c := Change{room[r.IntN(len(room))].Key, Value(60_000_000 + r.IntN(1_000_000))}
			if r.IntN(10) == 0 {
				c.Key ^= Key(r.Uint64() >> 4)
			}
			next, made, err := s.Set(b.Context(), tree, []Change{c})
			if err != nil {
				b.Fatal(err)
			}
			s.Stored(made)
			tree = next
			nodes += len(made)
			for _, n := range made {
				bytes += len(n.Data)
			}
		}
		b.ReportMetric(float64(bytes)/float64(b.N), "stored-B/op")
		b.ReportMetric(float64(nodes)/float64(b.N), "nodes/op")
	})
}

func BenchmarkGet(b *testing.B) {
	perSize(b, func(b *testing.B, _ *disk, s *Store, tree Tree, room []Change) {
		i := 0
		for b.Loop() {
			i = (i + 7919) % len(room)
			if v, err := s.Get(b.Context(), tree, room[i].Key); v == 0 || err != nil {
				b.Fatal(v, err)
			}
		}
	})
}

func benchmarkDiff(b *testing.B, apart int) {
	perSize(b, func(b *testing.B, d *disk, s *Store, tree Tree, _ []Change) {
		other := changed(b, d, s, tree, apart)
		for b.Loop() {
			n := 0
			err := s.Diff(b.Context(), tree, other, func(Key, Value, Value) error { n++; return nil })
			if err != nil || n > apart || n == 0 {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkDiff10(b *testing.B)   { benchmarkDiff(b, 10) }
func BenchmarkDiff1000(b *testing.B) { benchmarkDiff(b, 1000) }

// BenchmarkDiffIndependent10 compares trees that share no node.
func BenchmarkDiffIndependent10(b *testing.B) {
	perSize(b, func(b *testing.B, d *disk, s *Store, tree Tree, room []Change) {
		other := changed(b, d, s, d.commit(b, s, Tree{}, room), 10)
		for b.Loop() {
			err := s.Diff(b.Context(), tree, other, func(Key, Value, Value) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkWalk(b *testing.B, cacheBytes int64) {
	perSize(b, func(b *testing.B, d *disk, _ *Store, tree Tree, room []Change) {
		s := d.store(cacheBytes)
		tree = At(tree.Root())
		d.calls = 0
		for b.Loop() {
			n := 0
			err := s.Walk(b.Context(), tree, All, func(Key, Value) error { n++; return nil })
			if n != len(room) || err != nil {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64(d.calls)/float64(b.N), "loads/op")
	})
}

// BenchmarkWalkCold reads everything through the loader, from memory.
func BenchmarkWalkCold(b *testing.B) { benchmarkWalk(b, 0) }
func BenchmarkWalkWarm(b *testing.B) { benchmarkWalk(b, benchCache) }

// BenchmarkBuild makes a tree at once, as of the state of a join.
func BenchmarkBuild(b *testing.B) {
	perSize(b, func(b *testing.B, _ *disk, s *Store, _ Tree, room []Change) {
		for b.Loop() {
			if _, _, err := s.Set(b.Context(), Tree{}, room); err != nil {
				b.Fatal(err)
			}
		}
	})
}
