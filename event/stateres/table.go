package stateres

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
)

// table is a hash map of 64-bit keys, which gives them numbers from 0 as they
// come: what is in it can be named by 32 bits, and gone through in order. It
// takes about a third of the memory of a map, and grows by doubling, so that a
// merge of very many events finds its way within the caches.
type table[K ~int64 | ~uint64, V any] struct {
	items []item[K, V]
	slots []uint32 // number plus 1; a power of two, a quarter of them free
}

// item is a key with its value: who finds the one has the other at hand.
type item[K ~int64 | ~uint64, V any] struct {
	value V // first, since a last field of no size takes some
	key   K
}

// newTable makes room for n keys.
func newTable[K ~int64 | ~uint64, V any](n int) table[K, V] {
	slots := minSlots
	for 3*slots < 4*n {
		slots *= 2
	}
	return table[K, V]{items: make([]item[K, V], 0, n), slots: make([]uint32, slots)}
}

// find returns the number of a key.
func (t *table[K, V]) find(k K) (int, bool) {
	for slot := t.home(k); t.slots[slot] != 0; slot = t.after(slot) {
		if id := int(t.slots[slot] - 1); t.items[id].key == k {
			return id, true
		}
	}
	return 0, false
}

// add returns the number of a key, and whether it is a new one, whose value is
// zero.
func (t *table[K, V]) add(k K) (id int, added bool) {
	slot := t.home(k)
	for ; t.slots[slot] != 0; slot = t.after(slot) {
		if id := int(t.slots[slot] - 1); t.items[id].key == k {
			return id, false
		}
	}
	id = len(t.items)
	t.items = push(t.items, item[K, V]{key: k})
	if 4*len(t.items) > 3*len(t.slots) {
		t.index()
	} else {
		t.slots[slot] = uint32(id) + 1
	}
	return id, true
}

// append adds a key that is known to be a new one. It cannot be found, nor can
// others be added, until index was called.
func (t *table[K, V]) append(k K, v V) { t.items = push(t.items, item[K, V]{v, k}) }

// index finds places for keys that were appended.
func (t *table[K, V]) index() {
	slots := len(t.slots)
	for 4*len(t.items) > 3*slots {
		slots *= 2
	}
	t.slots = make([]uint32, slots)
	for id := range t.items {
		slot := t.home(t.items[id].key)
		for t.slots[slot] != 0 {
			slot = t.after(slot)
		}
		t.slots[slot] = uint32(id) + 1
	}
}

// value is that of a number, good until the next key is added.
func (t *table[K, V]) value(id int) *V { return &t.items[id].value }

// of is the value of a key, zero if it is a new one; good until the next.
func (t *table[K, V]) of(k K) *V {
	id, _ := t.add(k)
	return t.value(id)
}

// home is the slot that a key belongs in.
func (t *table[K, V]) home(k K) int { return homeOf(uint64(k), len(t.slots)) }

func (t *table[K, V]) after(slot int) int { return (slot + 1) & (len(t.slots) - 1) }

// homeOf is the slot that a key belongs in, of so many. Event numbers that
// follow each other are mostly looked up together, so four of them share a cache
// line. More would fill lines, which whoever falls on them has to search through.
// The upper bits of the product spread numbers in a row most evenly.
func homeOf(k uint64, slots int) int {
	const (
		golden = 0x9e3779b97f4a7c15
		group  = 4
	)
	at := k / group * golden >> (64 - bits.TrailingZeros64(uint64(slots)))
	return int(at+k%group) & (slots - 1)
}

// push appends to a list that may become long. What it outgrows is as large as
// itself; with append, which grows long lists by a quarter, four times that.
func push[T any](list []T, v T) []T {
	if len(list) == cap(list) {
		list = append(make([]T, 0, max(16, 2*len(list))), list...)
	}
	return append(list, v)
}

// sortByNum sorts by event numbers, ascending. Those of a room differ in a few
// bytes, and going through them once for each takes less than comparing does,
// and in proportion to how many they are.
func sortByNum[T any](list []T, num func(T) statetree.Value) {
	var differ statetree.Value
	sorted := true
	for i := range list {
		differ |= num(list[i]) ^ num(list[0])
		sorted = sorted && (i == 0 || num(list[i-1]) <= num(list[i]))
	}
	if sorted {
		return
	}
	if few := 128; len(list) < few {
		slices.SortFunc(list, func(a, b T) int { return cmp.Compare(num(a), num(b)) })
		return
	}
	from, to := list, make([]T, len(list))
	for shift := 0; differ>>shift != 0; shift += 8 {
		var begin [256]int // of those with this byte, in to
		for i := range from {
			begin[byte(num(from[i])>>shift)]++
		}
		sum := 0
		for i, n := range begin {
			begin[i], sum = sum, sum+n
		}
		for i := range from {
			at := &begin[byte(num(from[i])>>shift)]
			to[*at] = from[i]
			*at++
		}
		from, to = to, from
	}
	copy(list, from) // which may be list
}
