package stateres_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
)

// simpleGraph is what a Graph must be like.
type simpleGraph struct {
	order []stateres.Ref
	auth  map[statetree.Value][]statetree.Value
}

func (s *simpleGraph) citing(num statetree.Value) []stateres.Ref {
	var refs []stateres.Ref
	for _, e := range slices.Backward(s.order) {
		if slices.Contains(s.auth[e.Num], num) {
			refs = append(refs, e)
		}
	}
	return refs
}

// TestGraph appends and takes away events and compares with a plain graph.
func TestGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := stateres.NewGraph()
		s := &simpleGraph{auth: make(map[statetree.Value][]statetree.Value)}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "truncate") == 0 {
				n := rapid.IntRange(0, len(s.order)).Draw(t, "left")
				g.Truncate(n)
				s.order = s.order[:n]
				continue
			}
			e := stateres.Ref{Num: number(rapid.IntRange(1, 300).Draw(t, "num")), Key: statetree.Key(rapid.Uint64().Draw(t, "key"))}
			if g.Has(e.Num) {
				continue
			}
			var auth []statetree.Value
			for range rapid.IntRange(0, min(5, len(s.order))).Draw(t, "cites") {
				if a := rapid.SampledFrom(s.order).Draw(t, "auth").Num; !slices.Contains(auth, a) {
					auth = append(auth, a)
				}
			}
			if err := g.Append(e, auth); err != nil {
				t.Fatal(err)
			}
			s.order, s.auth[e.Num] = append(s.order, e), auth
		}
		sameGraph(t, g, s)
	})
}

// number spreads the numbers, so that some of them collide in a hash table.
func number(i int) statetree.Value { return statetree.Value(i*i*1_000_003 + i) }

func sameGraph(t *rapid.T, g *stateres.Graph, s *simpleGraph) {
	if g.Len() != len(s.order) {
		t.Fatalf("got %d events, want %d", g.Len(), len(s.order))
	}
	for i := range 300 {
		num := number(i + 1)
		want := slices.ContainsFunc(s.order, func(e stateres.Ref) bool { return e.Num == num })
		if g.Has(num) != want {
			t.Fatalf("event %d: got %t, want %t", num, !want, want)
		}
	}
	for i, e := range s.order {
		n, found, err := g.Node(context.Background(), e.Num, nil)
		if err != nil || !found || n.Key != e.Key || n.Order != int64(i)+1 {
			t.Fatalf("event %d: got %+v, %t, %v", e.Num, n, found, err)
		}
		var auth []statetree.Value
		for _, a := range n.Auth {
			auth = append(auth, a.Num)
		}
		if !slices.Equal(auth, s.auth[e.Num]) {
			t.Fatalf("event %d: got auth events %v, want %v", e.Num, auth, s.auth[e.Num])
		}
		if got, want := citing(t, g, e.Num), s.citing(e.Num); !slices.Equal(got, want) {
			t.Fatalf("event %d: cited by %v, want %v", e.Num, got, want)
		}
	}
}

// citing reads in pages of two.
func citing(t *rapid.T, g *stateres.Graph, num statetree.Value) []stateres.Ref {
	var refs []stateres.Ref
	var page [2]stateres.Ref
	for from := stateres.Cursor(0); ; {
		n, next, err := g.Citing(context.Background(), num, from, page[:])
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, page[:n]...)
		if next == 0 {
			return refs
		}
		from = next
	}
}

func TestGraphRefuses(t *testing.T) {
	g := stateres.NewGraph()
	if err := g.Append(stateres.Ref{Num: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Append(stateres.Ref{Num: 2}, []statetree.Value{1, 7}); !errors.Is(err, stateres.ErrUnknownAuthEvent) {
		t.Errorf("an unknown auth event: got %v, want ErrUnknownAuthEvent", err)
	}
	if g.Has(2) || g.Len() != 1 {
		t.Errorf("after that: got %d events, want 1", g.Len())
	}
	if n, _, _ := g.Citing(t.Context(), 1, 0, make([]stateres.Ref, 4)); n != 0 {
		t.Errorf("after that: event 1 is cited %d times, want 0", n)
	}
	if err := g.Append(stateres.Ref{Num: 1, Key: 9}, nil); err != nil {
		t.Errorf("an event twice: %v", err)
	}
	if n, _, _ := g.Node(t.Context(), 1, nil); n.Key != 0 {
		t.Errorf("an event twice: got the later, want the first")
	}
	if _, found, _ := g.Node(t.Context(), 5, nil); found {
		t.Errorf("an event that is not there was found")
	}
	if n, next, err := g.Citing(t.Context(), 5, 0, make([]stateres.Ref, 4)); n != 0 || next != 0 || err != nil {
		t.Errorf("what cites an event that is not there: got %d, %d, %v", n, next, err)
	}
}

// An event of a large room takes about 60 bytes.
func TestGraphBytes(t *testing.T) {
	const events = 100_000
	g := stateres.NewGraph()
	for i := range statetree.Value(events) {
		var auth []statetree.Value
		for back := statetree.Value(1); back <= 3+i%2 && back <= i; back++ {
			auth = append(auth, i+1-back)
		}
		if err := g.Append(stateres.Ref{Num: i + 1, Key: statetree.Key(i)}, auth); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.Bytes() / events; got > 80 {
		t.Errorf("got %d bytes an event, want at most 80", got)
	}
	t.Logf("%.1f bytes an event with 3.5 auth events", float64(g.Bytes())/events)
}

func BenchmarkGraphAppend(b *testing.B) {
	g := stateres.NewGraph()
	b.ReportAllocs()
	i := statetree.Value(0)
	for b.Loop() {
		i++
		if err := g.Append(stateres.Ref{Num: i}, []statetree.Value{max(1, i-1), max(1, i-2), max(1, i/2)}[:min(3, i-1)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(g.Bytes())/float64(i), "held-B/op")
}
