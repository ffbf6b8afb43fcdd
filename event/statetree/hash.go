package statetree

import (
	"encoding/binary"
	"math/bits"

	"github.com/myelin-chat/myelin/event"
)

// Key stands for an event type and a state key: four bits of class, then
// sixty bits of keyed hash.
type Key uint64

// Class returns the class of the key, 0 to 15.
func (k Key) Class() int { return int(k >> 60) }

// nibble returns the four bits of the key that choose a child at depth.
func (k Key) nibble(depth int) int { return int(k>>(60-4*depth)) & (fanOut - 1) }

// Classes is a set of classes, a bit for each.
type Classes uint16

const (
	// Members is the class of m.room.member, which holds nothing else.
	Members Classes = 1
	// NonMembers is all state but the members.
	NonMembers Classes = All &^ Members
	// All is the whole state.
	All Classes = 1<<fanOut - 1
)

// Has says whether the key's class is in the set.
func (c Classes) Has(k Key) bool { return c&(1<<k.Class()) != 0 }

// Hasher hashes with the secret of one database. It is small and never
// changes; copy it freely.
type Hasher struct{ keys, entries, nodes, holes sipKey }

// NewHasher returns the hasher of the database that has the given secret.
func NewHasher(secret [16]byte) Hasher {
	root := newSipKey(secret)
	derive := func(purpose uint64) sipKey {
		lo, hi := root.pair(purpose, 0)
		return sipKey{lo, hi}
	}
	return Hasher{keys: derive(1), entries: derive(2), nodes: derive(3), holes: derive(4)}
}

// Key returns the key of a piece of state.
func (h Hasher) Key(k event.Key) Key {
	var buf [256]byte
	text := append(append(buf[:0], k.Type...), k.StateKey...)
	lo, _ := h.keys.sum(uint64(len(k.Type)), text)
	return Key(uint64(h.class(k.Type))<<60 | lo>>4)
}

// Type returns the class that holds all state of one type. It may hold other
// types as well, unless it is [Members].
func (h Hasher) Type(typ string) Classes { return 1 << h.class(typ) }

func (h Hasher) class(typ string) int {
	if typ == event.TypeMember {
		return 0
	}
	var buf [128]byte
	// The highest bit keeps these inputs apart from those of Key.
	lo, _ := h.keys.sum(1<<63|uint64(len(typ)), append(buf[:0], typ...))
	return 1 + int(lo%(fanOut-1))
}

// Hash is the keyed hash of a set of entries, the sum of their hashes modulo
// 2^128. It is comparable. Without the secret nobody can look for two states
// of equal hash. The hash of the empty state is the zero Hash.
type Hash struct{ hi, lo uint64 }

// Bytes returns the hash as bytes, for storage or as a key elsewhere.
func (h Hash) Bytes() [16]byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], h.hi)
	binary.BigEndian.PutUint64(b[8:], h.lo)
	return b
}

func (h Hash) plus(o Hash) Hash {
	lo, carry := bits.Add64(h.lo, o.lo, 0)
	hi, _ := bits.Add64(h.hi, o.hi, carry)
	return Hash{hi, lo}
}

func (h Hash) minus(o Hash) Hash {
	lo, borrow := bits.Sub64(h.lo, o.lo, 0)
	hi, _ := bits.Sub64(h.hi, o.hi, borrow)
	return Hash{hi, lo}
}

func (h Hasher) hashOf(entries []entry) Hash {
	var sum Hash
	for _, e := range entries {
		lo, hi := h.entries.pair(uint64(e.key), uint64(e.value))
		sum = sum.plus(Hash{hi, lo})
	}
	return sum
}

// hashOfHole stands for what is unknown, in the hash of a root.
func (h Hasher) hashOfHole(hole Hole) Hash {
	lo, hi := h.holes.pair(uint64(hole), 0)
	return Hash{hi, lo}
}

// check is the checksum at the end of a node's bytes. It is bound to the
// node's number, so bytes under a wrong number are noticed as well.
func (h Hasher) check(id NodeID, body []byte) uint32 {
	lo, _ := h.nodes.sum(uint64(id), body)
	return uint32(lo)
}
