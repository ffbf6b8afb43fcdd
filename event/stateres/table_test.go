package stateres

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-chat/myelin/event/statetree"
)

// Numbers and values are those that a map gives, whatever the keys.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct{ number, value int }
		got, want := newTable[int64, int](rapid.IntRange(0, 40).Draw(t, "room")), make(map[int64]entry)
		for step := range rapid.IntRange(0, 300).Draw(t, "steps") {
			k := int64(rapid.IntRange(0, 80).Draw(t, "key")) * rapid.SampledFrom([]int64{1, 16, 1 << 40, -3}).Draw(t, "times")
			e, known := want[k]
			if id, ok := got.find(k); ok != known || ok && (id != e.number || *got.value(id) != e.value) {
				t.Fatalf("find %d: got %d, %t; want %+v, %t", k, id, ok, e, known)
			}
			if !known {
				e.number = len(want)
			}
			if !known && rapid.Bool().Draw(t, "append") {
				got.append(k, 0)
				got.index()
				want[k], known = e, true
			}
			if id, added := got.add(k); id != e.number || added == known || *got.value(id) != e.value {
				t.Fatalf("add %d: got %d, %t; want %+v, %t", k, id, added, e, !known)
			}
			*got.of(k) = step
			e.value = step
			want[k] = e
		}
		for id, it := range got.items {
			if want[it.key].number != id || want[it.key].value != it.value {
				t.Fatalf("item %d: got %+v, want %+v", id, it, want[it.key])
			}
		}
		if len(got.items) != len(want) {
			t.Fatalf("got %d items, want %d", len(got.items), len(want))
		}
	})
}

func TestSortNums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(1, 62).Draw(t, "bits")
		low := rapid.Int64Range(0, 1<<40).Draw(t, "low")
		got := make([]statetree.Value, rapid.IntRange(0, 600).Draw(t, "length"))
		state := rapid.Uint64().Draw(t, "seed")
		for i := range got {
			state = state*6364136223846793005 + 1442695040888963407
			got[i] = statetree.Value(low + int64(state>>(64-bits)))
		}
		want := slices.Sorted(slices.Values(got))
		sortByNum(got, func(v statetree.Value) statetree.Value { return v })
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Whether numbers come in a row, in runs or anyhow, few slots are searched, and
// no more in a large table than in a small one.
func TestSearches(t *testing.T) {
	for name, number := range map[string]func(i int64) int64{
		"in a row":    func(i int64) int64 { return i },
		"every 5th":   func(i int64) int64 { return 5 * i },
		"in runs":     func(i int64) int64 { return i/50*1000 + i%50 },
		"like a hash": func(i int64) int64 { return int64(uint64(i) * 0x9e3779b97f4a7c15 >> 9) },
	} {
		for _, n := range []int64{3_000, 12_200, 40_000, 98_000} {
			table, searched := newTable[int64, struct{}](0), 0
			for i := range n {
				table.add(number(i + 1))
			}
			for i := range n {
				slot := table.home(number(i + 1))
				for searched++; table.items[table.slots[slot]-1].key != number(i+1); slot = table.after(slot) {
					searched++
				}
			}
			if mean := float64(searched) / float64(n); mean > 2.5 {
				t.Errorf("%d numbers %s: %.1f slots are searched for one, want 2.5 at most", n, name, mean)
			}
		}
	}
}
