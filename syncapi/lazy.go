package syncapi

import (
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
)

// Limits of what is remembered of lazily loaded members. Forgetting is harmless:
// a member is sent again.
const (
	maxLazyDevices = 32      // of one user
	maxLazyMembers = 100_000 // of one device
)

// lazyMembers remembers which member events a device has been sent, so that they
// are not sent with each of its member's messages.
type lazyMembers struct {
	since storage.Position     // the token of the answer before
	sent  map[lazyMember]int64 // event number
	fresh map[lazyMember]int64 // in the answer to since: counts once the client moves on
}

type lazyMember struct {
	room int64
	user matrix.UserID
}

// lazyMembers returns what a device was sent up to since. A client that comes with
// an older token may have lost an answer, so nothing is taken for known.
func (u *user) lazyMembers(device matrix.DeviceID, since storage.Position) *lazyMembers {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept := u.lazy[device]
	if kept == nil || since < kept.since || since == 0 || len(kept.sent) > maxLazyMembers {
		if u.lazy == nil || len(u.lazy) >= maxLazyDevices {
			u.lazy = map[matrix.DeviceID]*lazyMembers{}
		}
		kept = &lazyMembers{sent: map[lazyMember]int64{}}
		u.lazy[device] = kept
	}
	next := &lazyMembers{since: since, sent: kept.sent, fresh: map[lazyMember]int64{}}
	if since > kept.since {
		for member, num := range kept.fresh {
			next.sent[member] = num
		}
	}
	u.lazy[device] = next
	return next
}

// dropSent leaves out of state the members that the client has been sent before,
// and those the timeline itself brings, and remembers the others.
func (b *builder) dropSent(p stretch, t timeline, state []view.Seen) []view.Seen {
	if b.lazy == nil {
		return state
	}
	b.user.mu.Lock()
	defer b.user.mu.Unlock()
	kept := state[:0]
	for _, e := range state {
		member := lazyMember{p.RoomNum, e.Target()}
		if e.Type == event.TypeMember && !p.fresh && b.lazy.sent[member] == e.Num {
			continue
		}
		if e.Type == event.TypeMember {
			b.lazy.fresh[member] = e.Num
		}
		kept = append(kept, e)
	}
	for _, e := range t.events {
		if e.Type == event.TypeMember && e.IsState() {
			b.lazy.fresh[lazyMember{p.RoomNum, e.Target()}] = e.Num
		}
	}
	return kept
}
