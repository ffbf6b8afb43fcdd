package accounts

import (
	"sync"
	"time"
)

// expiring is a map whose entries end after a fixed life, and that drops its oldest entry when it is full.
type expiring[V any] struct {
	max  int
	life time.Duration

	mu      sync.Mutex
	entries map[string]aging[V]
	order   []string // keys by age, oldest first; may hold keys that are gone
}

type aging[V any] struct {
	value V
	until time.Time
}

func newExpiring[V any](max int, life time.Duration) *expiring[V] {
	return &expiring[V]{max: max, life: life, entries: map[string]aging[V]{}}
}

// add stores value under a key that was never used before.
func (e *expiring[V]) add(key string, value V, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trim(now)
	e.entries[key] = aging[V]{value, now.Add(e.life)}
	e.order = append(e.order, key)
}

// get returns what is stored under key.
func (e *expiring[V]) get(key string, now time.Time) (V, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live(key, now)
}

// take returns what is stored under key, and removes it: of several that ask at once, one gets it.
func (e *expiring[V]) take(key string, now time.Time) (V, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.live(key, now)
	delete(e.entries, key)
	return v, ok
}

// change replaces what is stored under key by what f makes of it; it leaves out the entry if f says so.
func (e *expiring[V]) change(key string, now time.Time, f func(V) (next V, keep bool)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.live(key, now)
	if !ok {
		return false
	}
	next, keep := f(v)
	if keep {
		e.entries[key] = aging[V]{next, e.entries[key].until}
	} else {
		delete(e.entries, key)
	}
	return true
}

func (e *expiring[V]) live(key string, now time.Time) (V, bool) {
	entry, ok := e.entries[key]
	if !ok || !now.Before(entry.until) {
		var none V
		return none, false
	}
	return entry.value, true
}

// trim makes room for one entry: the oldest keys go that are gone already, that have expired, or that are too many.
func (e *expiring[V]) trim(now time.Time) {
	n := 0
	for ; n < len(e.order); n++ {
		entry, ok := e.entries[e.order[n]]
		if ok && now.Before(entry.until) && len(e.order)-n < e.max {
			break
		}
		delete(e.entries, e.order[n])
	}
	e.order = e.order[n:]
}
