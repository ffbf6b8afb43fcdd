package outbound

import (
	"sync"
	"time"
)

// cache keeps values until their time. When it is full an arbitrary one makes room: there is no order of requests by
// which somebody could keep it from being of use to others.
type cache[V any] struct {
	limit int

	mu     sync.Mutex
	values map[string]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](limit int) *cache[V] {
	return &cache[V]{limit: limit, values: map[string]cached[V]{}}
}

// get returns the value of key, and whether it is still good. One whose time is over is returned, too, if there is room
// for it yet.
func (c *cache[V]) get(key string, now time.Time) (value V, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.values[key]
	return v.value, now.Before(v.until)
}

func (c *cache[V]) put(key string, value V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.values[key]; !there && len(c.values) >= c.limit {
		for other := range c.values {
			delete(c.values, other)
			break
		}
	}
	c.values[key] = cached[V]{value, until}
}
