package outbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxTroubles = 5 // tries at one place of the log, a while apart
	maxTroubled = 1000
)

// troubles counts in how many tries something at a place of the log could not be read.
type troubles struct {
	mu     sync.Mutex
	counts map[storage.Position]int
}

// tooOften counts one more.
func (t *troubles) tooOften(at storage.Position) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil || len(t.counts) >= maxTroubled {
		t.counts = map[storage.Position]int{}
	}
	t.counts[at]++
	return t.counts[at] >= maxTroubles
}

// hopeless says whether to go on without what is at a place of the log, since it could not be read in many tries while
// the database itself answers. One event that is broken must not keep all others from being sent.
func (o *Outbox) hopeless(ctx context.Context, at storage.Position, cause error) bool {
	if _, err := servers.OutboxPosition(ctx, o.db); err != nil || ctx.Err() != nil {
		return false
	}
	if !o.troubles.tooOften(at) {
		return false
	}
	o.log.Error("other servers are not told of something, since it cannot be read", "position", int64(at), "err", cause)
	return true
}

// owed returns the servers to which an event is owed.
func (o *Outbox) owed(ctx context.Context, ev *rooms.Event) (list []matrix.ServerName, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		if err != nil && o.hopeless(ctx, ev.Position, err) {
			list, err = nil, nil
		}
	}()
	return o.settings.Rooms.Owed(ctx, ev)
}

// servers returns the servers that are in a room now, for something that stands in the log at a place.
func (o *Outbox) servers(ctx context.Context, room matrix.RoomID, at storage.Position) (list []matrix.ServerName, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		if err != nil && o.hopeless(ctx, at, err) {
			list, err = nil, nil
		}
	}()
	return o.settings.Rooms.Servers(ctx, room)
}

// room returns a room, to read what stands in the log at a place.
func (o *Outbox) room(ctx context.Context, num int64, at storage.Position) (rooms.Room, bool, error) {
	found, err := rooms.ByNumbers(ctx, o.db, []int64{num})
	if err != nil && !o.hopeless(ctx, at, err) {
		return rooms.Room{}, false, fmt.Errorf("read room %d: %w", num, err)
	}
	room, known := found[num]
	return room, known, nil
}
