package owner

import (
	"maps"
	"slices"
	"sync"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// flights is what an owner shares with the committer: what was handed over, and what came of it.
type flights struct {
	mu        sync.Mutex
	events    map[int64]placed // those not committed yet, by number
	committed *tip
	failed    int64 // the last generation of which a commit failed
	open      int   // handed over and not answered
	arrivals  int64 // another one after each step that took events of other servers; never one twice
}

// A flight is one result of a step on its way through the committer.
type flight struct {
	done  chan struct{} // closed after first and err were set
	first storage.Position
	err   error
}

// A landing is what came of a flight.
type landing struct {
	tip        *tip
	generation int64
	first      storage.Position
	err        error
}

// begin sets what is committed when a room is loaded.
func (f *flights) begin(t *tip) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed = t
}

// launch pins the events of a step until it lands. Arrivals is 0 if none are of other servers.
func (f *flights) launch(fresh map[int64]placed, arrivals int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if arrivals != 0 {
		f.arrivals = arrivals
	}
	if f.events == nil {
		f.events = make(map[int64]placed)
	}
	maps.Copy(f.events, fresh)
	f.open++
}

func (f *flights) land(fresh map[int64]placed, l landing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for num, ev := range fresh {
		if f.events[num].Event == ev.Event { // not the redacted form, if that is still on its way
			delete(f.events, num)
		}
	}
	f.open--
	if l.err != nil {
		f.failed = l.generation
	} else {
		f.committed = l.tip
	}
}

// event returns an event that is not committed yet; of none for a nil receiver.
func (f *flights) event(num int64) (placed, bool) {
	if f == nil {
		return placed{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ev, ok := f.events[num]
	return ev, ok
}

// all returns the events that are not committed yet.
func (f *flights) all() []placed {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.events))
}

// byID returns an event that is not committed yet.
func (f *flights) byID(id matrix.EventID) *rooms.Event {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range f.events {
		if ev.ID == id {
			return ev.Event
		}
	}
	return nil
}

// arrived tells apart the times between which events of other servers came; 0 for a nil receiver.
func (f *flights) arrived() int64 {
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.arrivals
}

func (f *flights) hasFailed(generation int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed == generation
}

func (f *flights) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open == 0
}

// source has the events of a room that are not committed yet: only its owner has these.
type source struct {
	fresh   map[int64]placed // of the step being done
	flights *flights         // nil if the room is new
}

// uncommitted returns an event that only the owner has yet.
func (f source) uncommitted(num int64) (placed, bool) {
	if ev, ok := f.fresh[num]; ok {
		return ev, true
	}
	return f.flights.event(num)
}
