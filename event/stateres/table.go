package stateres

// ids numbers keys from 0 as they come. It is a hash map of 64-bit keys to
// what stands under these numbers in slices of the caller, and takes about a
// third of the memory of a map: a merge of very many events then still finds
// its way within the caches.
type ids[K ~int64 | ~uint64] struct {
	keys  []K
	slots []uint32 // number plus 1; a power of two
}

// newIDs makes room for n keys.
func newIDs[K ~int64 | ~uint64](n int) ids[K] {
	slots := minSlots
	for 3*slots < 4*n {
		slots *= 2
	}
	return ids[K]{keys: make([]K, 0, n), slots: make([]uint32, slots)}
}

// find returns the number of a key.
func (t *ids[K]) find(k K) (int, bool) {
	for slot := t.home(k); t.slots[slot] != 0; slot = t.after(slot) {
		if id := int(t.slots[slot] - 1); t.keys[id] == k {
			return id, true
		}
	}
	return 0, false
}

// add returns the number of a key, and whether it is a new one.
func (t *ids[K]) add(k K) (id int, added bool) {
	slot := t.home(k)
	for ; t.slots[slot] != 0; slot = t.after(slot) {
		if id := int(t.slots[slot] - 1); t.keys[id] == k {
			return id, false
		}
	}
	id = len(t.keys)
	t.keys = append(t.keys, k)
	t.slots[slot] = uint32(id) + 1
	if 4*len(t.keys) > 3*len(t.slots) {
		t.grow()
	}
	return id, true
}

func (t *ids[K]) grow() {
	t.slots = make([]uint32, 2*len(t.slots))
	for id, k := range t.keys {
		slot := t.home(k)
		for t.slots[slot] != 0 {
			slot = t.after(slot)
		}
		t.slots[slot] = uint32(id) + 1
	}
}

// clear forgets all keys.
func (t *ids[K]) clear() {
	t.keys = t.keys[:0]
	clear(t.slots)
}

// home is the slot that a key belongs in.
func (t *ids[K]) home(k K) int { return homeOf(uint64(k), len(t.slots)) }

func (t *ids[K]) after(slot int) int { return (slot + 1) & (len(t.slots) - 1) }

// homeOf is the slot that a key belongs in, of so many. Event numbers that
// follow each other are mostly looked up together, and share a cache line of
// sixteen slots.
func homeOf(k uint64, slots int) int {
	const (
		golden = 0x9e3779b97f4a7c15
		line   = 16
	)
	block := k / line * golden >> 32
	return int((block*line + k%line) & uint64(slots-1))
}
