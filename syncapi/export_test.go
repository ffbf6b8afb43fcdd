package syncapi

import "time"

// Miss makes the API find that the memory of the log does not reach back to where it stands.
func (a *API) Miss() { a.hub.takeAll(nil, false) }

// Sweep makes the API forget what it may at a time.
func (a *API) Sweep(now time.Time) { a.hub.sweep(now) }

// Kept counts what the API has in memory.
func (a *API) Kept() (users, rooms int, bytes int64) {
	a.hub.mu.RLock()
	defer a.hub.mu.RUnlock()
	for _, r := range a.hub.rooms {
		bytes -= r.bytes
	}
	return len(a.hub.users), len(a.hub.rooms), bytes + a.hub.bytes
}
