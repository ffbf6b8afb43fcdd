package statetree

import "sync"

// cache keeps stored nodes. When it is full, those of each shard that were not
// used go first, in the order in which they came or were spared for their use:
// to note a use then writes to no node but the one that is used.
type cache struct{ shards [cacheShards]shard }

const cacheShards = 16

type shard struct {
	mu     sync.Mutex
	nodes  map[NodeID]*node
	ring   node // next is the newest, prev the oldest
	bytes  int64
	budget int64
}

func newCache(budget int64) *cache {
	c := &cache{}
	for i := range c.shards {
		s := &c.shards[i]
		s.nodes = make(map[NodeID]*node)
		s.ring.prev, s.ring.next = &s.ring, &s.ring
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
	n := s.nodes[id]
	if n != nil {
		n.used = true
	}
	return n
}

// add puts in a node that was stored. If the cache has it already, it keeps
// the one it has.
func (c *cache) add(n *node) {
	s := c.shard(n.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes[n.id] != nil {
		return
	}
	n.linkAfter(&s.ring)
	s.nodes[n.id] = n
	s.bytes += n.bytes()
	for s.bytes > s.budget {
		oldest := s.ring.prev
		oldest.unlink()
		if oldest.used {
			oldest.used = false
			oldest.linkAfter(&s.ring)
			continue
		}
		delete(s.nodes, oldest.id)
		s.bytes -= oldest.bytes()
	}
}

// drop takes a node out.
func (c *cache) drop(id NodeID) {
	s := c.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		return
	}
	n.unlink()
	delete(s.nodes, id)
	s.bytes -= n.bytes()
}

// size returns the bytes and the number of nodes that are held.
func (c *cache) size() (bytes int64, nodes int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		bytes += s.bytes
		nodes += len(s.nodes)
		s.mu.Unlock()
	}
	return bytes, nodes
}

func (n *node) unlink() {
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil // a node that a tree still holds must not hold others
}

func (n *node) linkAfter(at *node) {
	n.prev, n.next = at, at.next
	n.prev.next, n.next.prev = n, n
}
