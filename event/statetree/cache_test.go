package statetree

import "testing"

// What was used is spared once, and then goes in its turn.
func TestCacheSparesTheUsed(t *testing.T) {
	c := newCache(1)
	var ids []NodeID // of one shard
	for id := NodeID(1); len(ids) < 7; id++ {
		if c.shard(id) == &c.shards[0] {
			ids = append(ids, id)
		}
	}
	leaf := func(id NodeID) *node { return &node{id: id, count: 1, entries: []entry{{1, 1}}} }
	c.shards[0].budget = 3 * leaf(1).bytes()
	holds := func(want ...int) {
		t.Helper()
		if got := len(c.shards[0].nodes); got != len(want) {
			t.Errorf("got %d nodes, want %d", got, len(want))
		}
		for _, i := range want {
			if c.shards[0].nodes[ids[i]] == nil {
				t.Errorf("node %d is gone, want it held", i)
			}
		}
	}
	for i := range 3 {
		c.add(leaf(ids[i]))
	}
	c.get(ids[0])
	c.add(leaf(ids[3]))
	holds(0, 2, 3)
	c.add(leaf(ids[4]))
	holds(0, 3, 4)
	c.add(leaf(ids[5]))
	holds(0, 4, 5)
	c.add(leaf(ids[6])) // 0 was not used again
	holds(4, 5, 6)
}
