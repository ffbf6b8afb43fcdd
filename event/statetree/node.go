package statetree

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sort"
	"sync/atomic"
	"unsafe"
)

const (
	fanOut   = 16
	leafMax  = 32
	maxDepth = 16 // levels of nibbles in a key; an inner node is never this deep
)

// entry is one piece of state in a leaf.
type entry struct {
	key   Key
	value Value
}

// node is one node in memory. Once it has a number its content never changes.
type node struct {
	id       NodeID
	count    int             // entries in and below it
	hash     Hash            // of those entries
	entries  []entry         // of a leaf: ascending, at most leafMax
	children *[fanOut]NodeID // of an inner node, otherwise nil
	hole     Hole            // of a root that does not know all members, otherwise 0

	whole atomic.Pointer[node]          // with the hole filled; nil until that is wanted
	batch *batch                        // with which it was made; nil if it was loaded
	fresh atomic.Pointer[[fanOut]*node] // children that may not be stored yet; nil if all are

	prev, next *node // in the cache, under the lock of its shard
	used       bool  // since it came or was spared; under that lock, too
}

// newInner returns an inner node without children, in one piece of memory.
func newInner() *node {
	inner := &struct {
		node
		children [fanOut]NodeID
	}{}
	inner.node.children = &inner.children
	return &inner.node
}

// empty is the empty tree.
var empty = &node{}

// ref names a node, and points to it if it is at hand.
type ref struct {
	id   NodeID
	node *node
}

// child returns the i-th child, which may be the empty tree.
func (n *node) child(i int) ref {
	// fresh first: once it is cut, the child is in the cache or the database.
	if fresh := n.fresh.Load(); fresh != nil && fresh[i] != nil {
		return ref{fresh[i].id, fresh[i]}
	}
	return ref{id: n.children[i]}
}

// find returns the value of a key in a leaf, or 0.
func (n *node) find(k Key) Value {
	i := sort.Search(len(n.entries), func(i int) bool { return n.entries[i].key >= k })
	if i < len(n.entries) && n.entries[i].key == k {
		return n.entries[i].value
	}
	return 0
}

// mapBytes is what a node's place in the map of the cache takes, about.
const mapBytes = 32

// bytes is what the node takes in the cache, about.
func (n *node) bytes() int64 {
	size := mapBytes + int64(unsafe.Sizeof(*n)) + int64(len(n.entries))*int64(unsafe.Sizeof(entry{}))
	if n.children != nil {
		size += int64(unsafe.Sizeof(*n.children))
	}
	return size
}

// What is stored of a node:
//
//	leaf:  1, count, length p of the keys' common prefix in bytes, prefix,
//	       then for each entry the other 8-p bytes of its key and its value
//	inner: 2, count, hash (16), which children there are (2), their numbers
//
//	holed: 3, then as inner, and the hole
//
// and the checksum (4). Counts, values, numbers and holes are uvarints, keys are
// big-endian.
const (
	kindLeaf  = 1
	kindInner = 2
	kindHoled = 3
	checkSize = 4
)

// encode returns the bytes to be stored of a node that has a number.
func (h Hasher) encode(n *node) []byte {
	var buf [640]byte // the largest leaf takes 32*(8+9)+12
	b := append(buf[:0], kindLeaf)
	switch {
	case n.hole != 0:
		b = binary.AppendUvarint(appendInner(append(buf[:0], kindHoled), n), uint64(n.hole))
	case n.children != nil:
		b = appendInner(append(buf[:0], kindInner), n)
	default:
		b = appendLeaf(b, n)
	}
	b = binary.BigEndian.AppendUint32(b, h.check(n.id, b))
	return append(make([]byte, 0, len(b)), b...)
}

func appendInner(b []byte, n *node) []byte {
	b = binary.AppendUvarint(b, uint64(n.count))
	b = binary.BigEndian.AppendUint64(b, n.hash.hi)
	b = binary.BigEndian.AppendUint64(b, n.hash.lo)
	var present uint16
	for i, id := range n.children {
		if id != 0 {
			present |= 1 << i
		}
	}
	b = binary.BigEndian.AppendUint16(b, present)
	for _, id := range n.children {
		if id != 0 {
			b = binary.AppendUvarint(b, uint64(id))
		}
	}
	return b
}

func appendLeaf(b []byte, n *node) []byte {
	first := n.entries[0].key
	shared := sharedBytes(first, n.entries[len(n.entries)-1].key)
	b = binary.AppendUvarint(b, uint64(len(n.entries)))
	b = append(b, byte(shared))
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(first))
	b = append(b, key[:shared]...)
	for _, e := range n.entries {
		binary.BigEndian.PutUint64(key[:], uint64(e.key))
		b = append(b, key[shared:]...)
		b = binary.AppendUvarint(b, uint64(e.value))
	}
	return b
}

// sharedBytes returns how many leading bytes two keys have in common.
func sharedBytes(a, b Key) int { return bits.LeadingZeros64(uint64(a^b)) / 8 }

// decode reads what encode wrote. It keeps nothing of data.
func (h Hasher) decode(id NodeID, data []byte) (*node, error) {
	if len(data) < checkSize {
		return nil, fmt.Errorf("%w: %d: only %d bytes", ErrCorrupt, id, len(data))
	}
	body, sum := data[:len(data)-checkSize], data[len(data)-checkSize:]
	if binary.BigEndian.Uint32(sum) != h.check(id, body) {
		return nil, fmt.Errorf("%w: %d: checksum", ErrCorrupt, id)
	}
	n, reason := h.decodeBody(body)
	if reason != "" {
		return nil, fmt.Errorf("%w: %d: %s", ErrCorrupt, id, reason)
	}
	n.id = id
	return n, nil
}

// decodeBody returns the node, or why the bytes are not one.
func (h Hasher) decodeBody(body []byte) (n *node, reason string) {
	r := reader{rest: body}
	kind, count := r.byte(), r.number()
	if r.bad {
		return nil, "truncated"
	}
	switch kind {
	case kindLeaf:
		n, reason = h.decodeLeaf(&r, count)
	case kindInner:
		if n, reason = decodeInner(&r, count); count <= leafMax {
			reason = "inner node too small"
		}
	case kindHoled:
		if n, reason = decodeInner(&r, count); reason == "" {
			n.hole = Hole(r.number())
		}
		if reason == "" && n.hole == 0 && !r.bad {
			reason = "hole without a number"
		}
	default:
		return nil, "unknown kind of node"
	}
	if reason == "" && r.bad {
		reason = "truncated"
	}
	if reason == "" && len(r.rest) > 0 {
		reason = "trailing bytes"
	}
	return n, reason
}

func (h Hasher) decodeLeaf(r *reader, count int64) (*node, string) {
	if count < 1 || count > leafMax {
		return nil, "leaf of wrong size"
	}
	shared := int(r.byte())
	if shared > 8 {
		return nil, "prefix too long"
	}
	var key [8]byte
	copy(key[:shared], r.take(shared))
	entries := make([]entry, count)
	for i := range entries {
		copy(key[shared:], r.take(8-shared))
		entries[i] = entry{Key(binary.BigEndian.Uint64(key[:])), Value(r.number())}
		if r.bad {
			return nil, "truncated"
		}
		if entries[i].value == 0 {
			return nil, "entry without a value"
		}
		if i > 0 && entries[i-1].key >= entries[i].key {
			return nil, "keys do not ascend"
		}
	}
	return &node{count: int(count), hash: h.hashOf(entries), entries: entries}, ""
}

func decodeInner(r *reader, count int64) (*node, string) {
	n := newInner()
	n.count = int(count)
	if b := r.take(16); b != nil {
		n.hash = Hash{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	}
	var present uint16
	if b := r.take(2); b != nil {
		present = binary.BigEndian.Uint16(b)
	}
	if present == 0 {
		return nil, "inner node without children"
	}
	for ; present != 0; present &= present - 1 {
		id := r.number()
		if id == 0 {
			return nil, "child without a number"
		}
		n.children[bits.TrailingZeros16(present)] = NodeID(id)
	}
	return n, ""
}

// reader takes bytes off a slice; bad is set once there were too few.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.rest, r.bad = nil, true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// number reads a uvarint that fits an int64.
func (r *reader) number() int64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > math.MaxInt64 {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return int64(v)
}
