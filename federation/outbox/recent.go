package outbox

import (
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

const (
	maxRecent      = 2048
	maxRecentBytes = 4 << 20
)

// recent keeps the events that were noted last, since most are sent at once, and to many.
type recent struct {
	events map[storage.Position]*rooms.Event
	order  []storage.Position
	places map[int64]storage.Position // by event number
	bytes  int
}

func newRecent() recent {
	return recent{events: map[storage.Position]*rooms.Event{}, places: map[int64]storage.Position{}}
}

// add keeps an event, if it is of use, and forgets those that it redacts.
func (r *recent) add(ev *rooms.Event, use bool) {
	for _, num := range ev.Redacted {
		r.drop(r.places[num])
	}
	if !use || r.events[ev.Position] != nil {
		return
	}
	r.events[ev.Position] = ev
	r.places[ev.Num] = ev.Position
	r.order = append(r.order, ev.Position)
	r.bytes += len(ev.JSON)
	for len(r.events) > maxRecent || r.bytes > maxRecentBytes {
		r.drop(r.order[0])
		r.order = r.order[1:]
	}
}

func (r *recent) drop(p storage.Position) {
	if ev := r.events[p]; ev != nil {
		r.bytes -= len(ev.JSON)
		delete(r.events, p)
		delete(r.places, ev.Num)
	}
}
