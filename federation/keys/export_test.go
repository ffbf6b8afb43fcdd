package keys

import (
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// The constants that tests look at.
const (
	PauseAfterAnswer = pauseAfterAnswer
	PauseAfterNews   = pauseAfterNews
	FirstPause       = firstPause
	LongestPause     = longestPause
	NotaryPause      = notaryPause
	ManyServers      = manyServers
	MaxServerKeys    = maxServerKeys
	MaxPerBatch      = maxFetchesPerBatch
)

// ParseDocument returns whose document it is, and how many keys count.
func ParseDocument(raw []byte, now time.Time) (server matrix.ServerName, inUse, retired int, err error) {
	d, err := parseDocument(raw, now)
	for _, k := range d.keys {
		if k.Retired {
			retired++
		} else {
			inUse++
		}
	}
	return d.server, inUse, retired, err
}

// ParseQuery returns how many servers are asked for.
func ParseQuery(body []byte) (int, error) {
	question, err := parseQuery(body, 1)
	return len(question), err
}

// LimitMemory forgets all, and lets so many servers and keys be in memory from now on.
func (r *Ring) LimitMemory(limit int) { r.states = newStates(limit) }

// InMemory counts servers and keys.
func (r *Ring) InMemory() int { return r.states.size }

// KeysOf counts the keys in memory of one server.
func (r *Ring) KeysOf(s matrix.ServerName) int { return len(r.states.all[s].keys) }

// RequestSlots counts the servers that are asked for the sake of requests.
func (r *Ring) RequestSlots() int { return len(r.forRequests.taken) }

// Each runs f with so many goroutines at most.
func Each(goroutines, n int, f func(int)) { make(pool, goroutines).each(n, f) }
