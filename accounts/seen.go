package accounts

import (
	"context"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	// seenEvery is how exactly it is known when a device was last used.
	seenEvery = 5 * time.Minute
	// seenFlushEvery is how often that is written, for all devices that moved.
	seenFlushEvery = time.Minute
	// seenLastFlush is how long the last write, at the stop of the server, may take.
	seenLastFlush = 500 * time.Millisecond
	// seenAtOnce is how many devices one commit takes: a large one would stop others.
	seenAtOnce = 500
	// maxSeen bounds how many devices are remembered. With more in use within seenEvery, of some it is known only later.
	maxSeen = 100_000
)

// Seen notes that a device is in use. It is cheap enough for every request: most find that nothing has to be noted.
func (a *Accounts) Seen(who matrix.Requester, ip string) {
	if who.Device != "" {
		a.seen.note(users.Sighting{User: who.Account, Device: who.Device, AtMS: a.nowMS(), IP: ip})
	}
}

// sightings gathers when devices were last used, so that a busy one is written once in a while.
type sightings struct {
	mu   sync.RWMutex
	last map[users.Address]*sighting
}

type sighting struct {
	users.Sighting
	unwritten bool
}

func newSightings() *sightings { return &sightings{last: map[users.Address]*sighting{}} }

func (s *sightings) note(now users.Sighting) {
	key := users.Address{User: now.User, Device: now.Device}
	s.mu.RLock()
	old := s.last[key]
	known := old != nil && old.IP == now.IP && now.AtMS-old.AtMS < seenEvery.Milliseconds()
	s.mu.RUnlock()
	if known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) < maxSeen || s.last[key] != nil {
		s.last[key] = &sighting{now, true}
	}
}

// overlay puts into d what is not written yet.
func (s *sightings) overlay(user matrix.UserID, d *users.Device) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if last := s.last[users.Address{User: user, Device: d.ID}]; last != nil && last.AtMS > d.SeenMS {
		d.SeenMS, d.SeenIP = last.AtMS, last.IP
	}
}

// take returns what has to be written, and forgets devices that have not been used for a while.
func (s *sightings) take(nowMS int64) []users.Sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []users.Sighting
	for key, last := range s.last {
		switch {
		case last.unwritten:
			out = append(out, last.Sighting)
			last.unwritten = false
		case nowMS-last.AtMS >= seenEvery.Milliseconds():
			delete(s.last, key)
		}
	}
	return out
}

// putBack marks what could not be written, to be written the next time.
func (s *sightings) putBack(lost []users.Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lost {
		if last := s.last[users.Address{User: l.User, Device: l.Device}]; last != nil {
			last.unwritten = true
		}
	}
}

// flushSeen writes when devices were last used, as far as that is not written.
func (a *Accounts) flushSeen(ctx context.Context) error {
	moved := a.seen.take(a.nowMS())
	for len(moved) > 0 {
		part := moved[:min(len(moved), seenAtOnce)]
		if _, err := a.db.Commit(ctx, users.Seen(part)); err != nil {
			a.seen.putBack(moved)
			return err
		}
		moved = moved[len(part):]
	}
	return nil
}
