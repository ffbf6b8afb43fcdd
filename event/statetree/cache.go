package statetree

import (
	"sync"
	"unsafe"
)

// cache keeps stored nodes, the least recently used of each shard going first
// when it is full.
type cache struct{ shards [cacheShards]shard }

const cacheShards = 16

type shard struct {
	mu     sync.Mutex
	slots  map[NodeID]*slot
	lru    slot // ring: next is the latest used, prev the oldest
	bytes  int64
	budget int64
}

type slot struct {
	node       *node
	prev, next *slot
}

// slotBytes is what a node costs besides itself: the slot and its share of
// the map.
const slotBytes = int64(unsafe.Sizeof(slot{})) + 40

func newCache(budget int64) *cache {
	c := &cache{}
	for i := range c.shards {
		s := &c.shards[i]
		s.slots = make(map[NodeID]*slot)
		s.lru.prev, s.lru.next = &s.lru, &s.lru
		s.budget = budget / cacheShards
	}
	return c
}

// shard spreads neighbouring numbers, and numbers leased in blocks.
func (c *cache) shard(id NodeID) *shard {
	return &c.shards[uint64(id)*0x9e3779b97f4a7c15>>60]
}

func (c *cache) get(id NodeID) *node {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[id]
	if slot == nil {
		return nil
	}
	slot.unlink()
	slot.linkAfter(&s.lru)
	return slot.node
}

// add puts in a node that was stored. If the cache has it already, it keeps
// the one it has.
func (c *cache) add(n *node) {
	s := c.shard(n.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[n.id] != nil {
		return
	}
	added := &slot{node: n}
	added.linkAfter(&s.lru)
	s.slots[n.id] = added
	s.bytes += n.bytes() + slotBytes
	for s.bytes > s.budget {
		oldest := s.lru.prev
		oldest.unlink()
		delete(s.slots, oldest.node.id)
		s.bytes -= oldest.node.bytes() + slotBytes
	}
}

// size returns the bytes and the number of nodes that are held.
func (c *cache) size() (bytes int64, nodes int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		bytes += s.bytes
		nodes += len(s.slots)
		s.mu.Unlock()
	}
	return bytes, nodes
}

func (s *slot) unlink() { s.prev.next, s.next.prev = s.next, s.prev }

func (s *slot) linkAfter(at *slot) {
	s.prev, s.next = at, at.next
	s.prev.next, s.next.prev = s, s
}
