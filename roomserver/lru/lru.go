// Package lru is a cache in memory that is bounded by what its entries cost. It may be used by many at once.
package lru

import (
	"container/list"
	"sync"
)

// A Cache is bounded by the cost of its entries: what was used least recently goes first.
type Cache[K comparable, V any] struct {
	mu      sync.Mutex
	budget  int
	cost    int
	order   *list.List // of *lruEntry[K, V], most recently used first
	entries map[K]*list.Element
}

type entry[K comparable, V any] struct {
	key   K
	value V
	cost  int
}

// New makes a Cache of which the entries together cost no more than a budget, unless there is one alone.
func New[K comparable, V any](budget int) *Cache[K, V] {
	return &Cache[K, V]{budget: budget, order: list.New(), entries: make(map[K]*list.Element)}
}

// Get returns a value, which is then the one used last.
func (c *Cache[K, V]) Get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// Add puts a value in, in place of an earlier one.
func (c *Cache[K, V]) Add(key K, value V, cost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
	c.insert(&entry[K, V]{key, value, cost})
}

// AddNew puts a value in unless there is one already, or it is not wanted any more. Wanted is called with the cache locked,
// so that who first makes it unwanted and then drops it leaves none behind.
func (c *Cache[K, V]) AddNew(key K, value V, cost int, wanted func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; !ok && wanted() {
		c.insert(&entry[K, V]{key, value, cost})
	}
}

// Drop takes a value out.
func (c *Cache[K, V]) Drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
}

func (c *Cache[K, V]) insert(entry *entry[K, V]) {
	c.entries[entry.key] = c.order.PushFront(entry)
	c.cost += entry.cost
	for c.cost > c.budget && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *Cache[K, V]) remove(e *list.Element) {
	entry := c.order.Remove(e).(*entry[K, V])
	delete(c.entries, entry.key)
	c.cost -= entry.cost
}
