package roomserver

import (
	"container/list"
	"sync"
)

// lru is a cache bounded by the cost of its entries: what was used least recently goes first.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	budget  int
	cost    int
	order   *list.List // of *lruEntry[K, V], most recently used first
	entries map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	cost  int
}

func newLRU[K comparable, V any](budget int) *lru[K, V] {
	return &lru[K, V]{budget: budget, order: list.New(), entries: make(map[K]*list.Element)}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// add puts a value in, in place of an earlier one.
func (c *lru[K, V]) add(key K, value V, cost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
	c.insert(&lruEntry[K, V]{key, value, cost})
}

// addNew puts a value in unless there is one already, or it is not wanted any more. Wanted is called with the cache locked,
// so that who first makes it unwanted and then drops it leaves none behind.
func (c *lru[K, V]) addNew(key K, value V, cost int, wanted func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; !ok && wanted() {
		c.insert(&lruEntry[K, V]{key, value, cost})
	}
}

// drop takes a value out.
func (c *lru[K, V]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
}

func (c *lru[K, V]) insert(entry *lruEntry[K, V]) {
	c.entries[entry.key] = c.order.PushFront(entry)
	c.cost += entry.cost
	for c.cost > c.budget && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *lru[K, V]) remove(e *list.Element) {
	entry := c.order.Remove(e).(*lruEntry[K, V])
	delete(c.entries, entry.key)
	c.cost -= entry.cost
}
