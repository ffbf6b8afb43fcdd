package syncapi

import (
	"maps"

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

// lazyMembers remembers which member events a device has been sent, so that they
// are not sent with each of their member's messages.
type lazyMembers struct {
	filter *view.Filter
	since  storage.Position     // the token of the answer that is made, or was made last,
	upTo   storage.Position     // and the one in it
	sent   map[lazyMember]int64 // what the client had at since: the number of the event it was sent last
	fresh  []lazySent           // what the answer adds: counts once the client comes with its token
}

// lazyMember is a user in a room.
type lazyMember struct {
	room int64
	user matrix.UserID
}

// lazySent is a member that was sent.
type lazySent struct {
	lazyMember
	event int64
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
		next.remember(last.fresh)
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

func (l *lazyMembers) remember(sent []lazySent) {
	if l.sent == nil {
		l.sent = map[lazyMember]int64{}
	}
	for _, s := range sent {
		l.sent[s.lazyMember] = s.event
	}
}

// forget takes nothing of a room for known.
func (l *lazyMembers) forget(room int64) {
	maps.DeleteFunc(l.sent, func(m lazyMember, _ int64) bool { return m.room == room })
}

// dropSent leaves out of state the members that the client has been sent before,
// unless it wants the whole state, and notes those that it is sent now. Who has
// come back to a room was not told what became of its members meanwhile, and may
// have let go of them all.
func (b *builder) dropSent(p stretch, t timeline, state []view.Seen) []view.Seen {
	if b.lazy == nil {
		return state
	}
	b.user.mu.Lock()
	defer b.user.mu.Unlock()
	if p.again {
		b.lazy.forget(p.RoomNum)
	}
	note := func(e view.Seen) {
		if e.Target() != "" {
			b.lazy.fresh = append(b.lazy.fresh, lazySent{lazyMember{p.RoomNum, e.Target()}, e.Num})
		}
	}
	kept := state[:0]
	for _, e := range state {
		if p.whole || e.Target() == "" || b.lazy.sent[lazyMember{p.RoomNum, e.Target()}] != e.Num {
			kept = append(kept, e)
			note(e)
		}
	}
	if b.req.stateAfter {
		return kept // a timeline that sets no state tells of no members
	}
	for _, e := range t.events {
		note(e)
	}
	return kept
}
