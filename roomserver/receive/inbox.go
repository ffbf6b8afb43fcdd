package receive

import (
	"context"
	"sync"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// Limits of what other servers can make wait. One call is let in to a room for which nothing waits however
// large it is: its size is the caller's to bound.
const (
	maxQueuedEvents = 2000     // for one room
	maxQueuedBytes  = 16 << 20 // for one room
	maxInboxBytes   = 96 << 20 // for all
)

// inbox counts the events of other servers that wait for their rooms. What it counts is held by the callers
// of Receive.
type inbox struct {
	mu    sync.Mutex
	rooms map[matrix.RoomID]*queued
	bytes int64
}

// queued is what waits for one room.
type queued struct {
	calls, events int
	bytes         int64
	fetching      chan struct{} // holds one: who fetches what is missing
}

func sizeOf(events []*event.Event) (bytes int64) {
	for _, ev := range events {
		bytes += int64(len(ev.JSON)) + 512
	}
	return bytes
}

// admit lets a call in, unless too much waits; one without events always. If it does, leave must follow.
func (in *inbox) admit(room matrix.RoomID, events []*event.Event) bool {
	bytes := sizeOf(events)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.rooms == nil {
		in.rooms = make(map[matrix.RoomID]*queued)
	}
	q := in.rooms[room]
	if q == nil {
		q = &queued{fetching: make(chan struct{}, 1)}
		in.rooms[room] = q
	}
	if q.calls > 0 && len(events) > 0 && (q.events+len(events) > maxQueuedEvents || q.bytes+bytes > maxQueuedBytes || in.bytes+bytes > maxInboxBytes) {
		return false
	}
	q.calls++
	q.events += len(events)
	q.bytes += bytes
	in.bytes += bytes
	return true
}

func (in *inbox) leave(room matrix.RoomID, events []*event.Event) {
	bytes := sizeOf(events)
	in.mu.Lock()
	defer in.mu.Unlock()
	q := in.rooms[room]
	q.calls--
	q.events -= len(events)
	q.bytes -= bytes
	in.bytes -= bytes
	if q.calls == 0 {
		delete(in.rooms, room)
	}
}

// fetchAlone waits until nobody else fetches for the room: what one fetches, another is often missing too.
// The call must have been admitted.
func (in *inbox) fetchAlone(ctx context.Context, room matrix.RoomID) (done func(), err error) {
	in.mu.Lock()
	fetching := in.rooms[room].fetching
	in.mu.Unlock()
	select {
	case fetching <- struct{}{}:
		return func() { <-fetching }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Waiting returns of how many rooms events of other servers wait, and how many bytes these are.
func (s *Receiver) Waiting() (rooms int, bytes int64) {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	return len(s.inbox.rooms), s.inbox.bytes
}
