package keys

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxStates     = 20_000 // servers and keys in memory, about 5 MB
	maxServerKeys = 100    // of one server

	// A server that has answered is left alone for a moment, since it may have taken a new key just then, or another
	// server its name. The moment is twice as long after each answer that brought no new key, up to the longest, so that
	// nobody can make us flood it with signatures that name keys it never had.
	pauseAfterNews   = time.Second
	pauseAfterAnswer = 15 * time.Second
	// One that has not, is left alone for twice as long each time, but never so long that it could not come back.
	firstPause   = 2 * time.Second
	longestPause = 5 * time.Minute
)

// moment is when a key must be good.
type moment struct {
	ms   int64 // 0: at any time, as in the old room versions
	live bool  // for a request, for which old keys are no good
}

// admits says whether the rules let k sign at that time.
// https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period
func (m moment) admits(k servers.Key) bool {
	return (m.ms == 0 || m.ms <= k.ValidUntilMS) && !(m.live && k.Retired)
}

// and is a moment that asks for as much as both.
func (m moment) and(other moment) moment {
	return moment{max(m.ms, other.ms), m.live || other.live}
}

// known is what is known of a server's keys. It is not changed after it was made.
type known struct {
	keys     map[signing.KeyID]servers.Key
	asked    time.Time // when the server was last asked
	failures int       // how often it has not answered since it last did
	barren   int       // how often it has answered without a new key since it last told one
	told     time.Time // when notaries were last asked about it
}

// answered says whether the server was asked and told its keys.
func (k *known) answered() bool { return !k.asked.IsZero() && k.failures == 0 }

// due says whether the server may be asked.
func (k *known) due(now time.Time) bool {
	if k.asked.IsZero() {
		return true
	}
	pause := min(pauseAfterNews<<min(k.barren, 20), pauseAfterAnswer)
	if k.failures > 0 {
		pause = min(firstPause<<min(k.failures-1, 20), longestPause)
	}
	return now.Sub(k.asked) >= pause
}

// lacks says whether the key is not there, or not good at that moment, and asking could help. No server can say
// anything of a time that is further away than keys are trusted.
func (k *known) lacks(id signing.KeyID, at moment, nowMS int64) bool {
	key, there := k.keys[id]
	return !there || !at.admits(key) && at.ms <= nowMS+maxValidity.Milliseconds()
}

// heard returns what is known after a document, and the keys that are news. What a notary says never takes the place
// of what the server itself said, and only lengthens what is known.
func (k *known) heard(d document, number int64, direct bool) (*known, []servers.Key) {
	next := *k
	next.keys = maps.Clone(k.keys)
	var news []servers.Key
	for _, key := range d.keys {
		key.Direct, key.Document = direct, number
		old, there := k.keys[key.ID]
		if there && !direct && (old.Retired || !bytes.Equal(old.Public, key.Public) || old.ValidUntilMS >= key.ValidUntilMS) {
			continue
		}
		news = append(news, key)
	}
	if direct {
		next.failures = 0
		if next.barren++; slices.ContainsFunc(d.keys, k.isNew) {
			next.barren = 0
		}
		news = append(news, k.dropped(d)...)
	}
	for _, key := range news {
		next.keys[key.ID] = key
	}
	next.forgetOldest()
	return &next, news
}

// isNew says whether nothing is known of a key.
func (k *known) isNew(key servers.Key) bool {
	old, there := k.keys[key.ID]
	return !there || !bytes.Equal(old.Public, key.Public)
}

// dropped are the keys that a server has used and does not mention any more. They are old keys from now on: what it
// does not publish must not sign requests, nor events of a later time.
func (k *known) dropped(d document) []servers.Key {
	var list []servers.Key
	for id, key := range k.keys {
		if key.Retired || hasKey(d.keys, id) {
			continue
		}
		key.Retired = true
		key.ValidUntilMS = min(key.ValidUntilMS, d.fetchedMS)
		list = append(list, key)
	}
	return list
}

func (k *known) forgetOldest() {
	if len(k.keys) <= maxServerKeys {
		return
	}
	oldest := slices.SortedFunc(maps.Values(k.keys), func(a, b servers.Key) int { return cmp.Compare(a.FetchedMS, b.FetchedMS) })
	for _, key := range oldest[:len(oldest)-maxServerKeys] {
		delete(k.keys, key.ID)
	}
}

// newestKey is the key in use that was heard of last, if there is any.
func (k *known) newestKey() (newest servers.Key, there bool) {
	for _, key := range k.keys {
		later := cmp.Or(cmp.Compare(key.FetchedMS, newest.FetchedMS), cmp.Compare(key.Document, newest.Document)) > 0
		if !key.Retired && (!there || later) {
			newest, there = key, true
		}
	}
	return newest, there
}

// states is what is known, in memory. When it is full arbitrary servers are forgotten: their keys are in the database.
type states struct {
	limit int

	mu   sync.Mutex
	all  map[matrix.ServerName]*known
	size int // servers and keys
}

func newStates(limit int) *states { return &states{limit: limit, all: map[matrix.ServerName]*known{}} }

// of returns what is known of the servers, and for which of them the database has to be asked.
func (s *states) of(names []matrix.ServerName) (found map[matrix.ServerName]*known, rest []matrix.ServerName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found = make(map[matrix.ServerName]*known, len(names))
	for _, name := range names {
		if k, there := s.all[name]; there {
			found[name] = k
		} else {
			rest = append(rest, name)
		}
	}
	return found, rest
}

// load puts in what the database knows, unless there is something by now, and returns what is there.
func (s *states) load(name matrix.ServerName, list []servers.Key) *known {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, there := s.all[name]; there {
		return k
	}
	k := &known{keys: make(map[signing.KeyID]servers.Key, len(list))}
	for _, key := range list {
		k.keys[key.ID] = key
	}
	s.put(name, k)
	return k
}

// update replaces what is known of a server by what change makes of it. It says whether anything was there: if not, the
// database has to be asked first.
func (s *states) update(name matrix.ServerName, change func(*known) *known) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, there := s.all[name]
	if there {
		s.put(name, change(k))
	}
	return there
}

func (s *states) put(name matrix.ServerName, k *known) {
	s.size += k.size() - s.all[name].size()
	s.all[name] = k
	for other, k := range s.all {
		if s.size <= s.limit {
			return
		}
		if other != name {
			s.size -= k.size()
			delete(s.all, other)
		}
	}
}

func (k *known) size() int {
	if k == nil {
		return 0
	}
	return 1 + len(k.keys)
}
