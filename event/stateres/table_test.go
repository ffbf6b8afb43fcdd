package stateres

import (
	"testing"

	"pgregory.net/rapid"
)

// Numbers are given as a map gives them, whatever the keys, and again after all was forgotten.
func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got, want := newIDs[int64](rapid.IntRange(0, 40).Draw(t, "room")), make(map[int64]int)
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			k := int64(rapid.IntRange(0, 80).Draw(t, "key")) * rapid.SampledFrom([]int64{1, 16, 1 << 40, -3}).Draw(t, "times")
			if rapid.IntRange(0, 99).Draw(t, "clear") == 0 {
				got.clear()
				clear(want)
			}
			number, known := want[k]
			if id, ok := got.find(k); ok != known || ok && id != number {
				t.Fatalf("find %d: got %d, %t; want %d, %t", k, id, ok, number, known)
			}
			if !known {
				number = len(want)
				want[k] = number
			}
			if id, added := got.add(k); id != number || added == known {
				t.Fatalf("add %d: got %d, %t; want %d, %t", k, id, added, number, !known)
			}
		}
	})
}
