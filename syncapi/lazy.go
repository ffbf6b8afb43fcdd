package syncapi

import (
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
)

// Limits of what is remembered of lazily loaded members. Forgetting is harmless:
// a member is sent again.
const (
	maxLazyDevices = 32     // of one user
	maxLazyMembers = 20_000 // of one device
)

// lazyMembers remembers which member events a device has been sent, by number, so
// that they are not sent with each of their member's messages.
type lazyMembers struct {
	filter *view.Filter
	since  storage.Position   // the token of the answer that is made, or was made last,
	upTo   storage.Position   // and the one in it
	sent   map[int64]struct{} // what the client had at since
	fresh  []int64            // what the answer adds: counts once the client comes with its token
}

// lazyMembers returns what a device has, for an answer from the client's token up
// to another. Only who comes with the token of the last answer surely has it; who
// comes with that before may have lost it; of anybody else nothing is known.
func (u *user) lazyMembers(device matrix.DeviceID, next lazyMembers) *lazyMembers {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.lazy[device]
	if last == nil || last.filter != next.filter || next.since == 0 || len(last.sent) > maxLazyMembers {
		last = &lazyMembers{}
	}
	switch {
	case next.since == last.upTo && next.since > last.since:
		next.sent = last.sent
		for _, num := range last.fresh {
			next.remember(num)
		}
	case next.since == last.since:
		next.sent = last.sent
	}
	last.sent = nil // a request that is still at work on it takes nothing for known
	if u.lazy == nil || len(u.lazy) >= maxLazyDevices && u.lazy[device] == nil {
		u.lazy = map[matrix.DeviceID]*lazyMembers{}
	}
	u.lazy[device] = &next
	return &next
}

func (l *lazyMembers) remember(num int64) {
	if l.sent == nil {
		l.sent = map[int64]struct{}{}
	}
	l.sent[num] = struct{}{}
}

// dropSent leaves out of state the members that the client has been sent before,
// unless it wants the whole state, and notes those that it is sent now.
func (b *builder) dropSent(p stretch, t timeline, state []view.Seen) []view.Seen {
	if b.lazy == nil {
		return state
	}
	b.user.mu.Lock()
	defer b.user.mu.Unlock()
	kept := state[:0]
	for _, e := range state {
		if e.Target() != "" {
			if _, sent := b.lazy.sent[e.Num]; sent && !p.whole {
				continue
			}
			b.lazy.fresh = append(b.lazy.fresh, e.Num)
		}
		kept = append(kept, e)
	}
	for _, e := range t.events {
		if e.Target() != "" {
			b.lazy.fresh = append(b.lazy.fresh, e.Num)
		}
	}
	return kept
}
