package roomserver

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// hints are events of the room that were read before the owner began, for it not to read them again. They
// are final but for a place that is added, which only what comes from other servers can do.
type hints struct {
	events    map[matrix.EventID]*rooms.Event
	looked    map[matrix.EventID]bool // IDs that were looked for; those that events lacks were not here
	elsewhere map[matrix.EventID]bool // IDs that are of events of other rooms
	asOf      int64                   // flights.arrivals when that was read
	final     bool                    // nobody else works on the room: they need not be read anew

	policy   int64                     // number of the event that names the policy server that was asked; 0: there is none
	unwanted map[matrix.EventID]string // what it does not recommend, and why
}

// find returns events of the room by ID, nil for those that are not there: those of this step and of the
// flights before it first, since they are the latest forms.
func (st *step) find(ctx context.Context, ids ...matrix.EventID) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(ids))
	var ask []matrix.EventID
	for i, id := range ids {
		if found[i] = st.atHand(id); found[i] == nil && !st.knownAbsent(id) {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		return found, nil
	}
	read, err := rooms.EventsByID(ctx, st.server.db, st.room, ask)
	if err != nil {
		return nil, fmt.Errorf("find events of %s: %w", st.room.ID, err)
	}
	byID := make(map[matrix.EventID]*rooms.Event, len(read))
	for _, ev := range read {
		byID[ev.ID] = ev
	}
	for i, id := range ids {
		if found[i] == nil {
			found[i] = byID[id]
		}
	}
	return found, nil
}

// atHand returns an event that need not be read.
func (st *step) atHand(id matrix.EventID) *rooms.Event {
	for i := len(st.tip.extremities) - 1; i >= 0; i-- {
		if ev := st.tip.extremities[i]; ev.ID == id {
			return ev.Event
		}
	}
	if ev := st.uncommittedByID()[id]; ev != nil {
		return ev
	}
	if ev := st.hints.events[id]; ev != nil && (!hasNoPlace(ev) || st.hints.final || st.hintsAreFresh()) {
		return ev
	}
	return st.server.cachedByID(st.room, id)
}

// knownAbsent says that an event was looked for and not found, and none of other servers has come since.
func (st *step) knownAbsent(id matrix.EventID) bool {
	return st.hints.looked[id] && st.hints.events[id] == nil && st.hintsAreFresh()
}

// hintsAreFresh says that nothing of other servers has come since the hints were read.
func (st *step) hintsAreFresh() bool { return st.hints.asOf == st.source.flights.arrived() }

// follow keeps hints good over a step that they were fresh for, and whose result is committed. What it has
// stored must be looked for anew.
func (h *hints) follow(st *step) {
	for _, ev := range st.events {
		delete(h.looked, ev.ID)
		delete(h.events, ev.ID)
	}
	if st.arrivals != 0 {
		h.asOf = st.arrivals
	}
}

// uncommittedByID are the events that only the owner has yet.
func (st *step) uncommittedByID() map[matrix.EventID]*rooms.Event {
	if st.byID == nil {
		st.byID = make(map[matrix.EventID]*rooms.Event)
		for _, ev := range st.source.flights.all() {
			st.byID[ev.ID] = ev.Event
		}
		for _, ev := range st.fresh {
			st.byID[ev.ID] = ev.Event
		}
	}
	return st.byID
}

// cachedByID returns an event of which number and content are at hand, and which has its place.
func (s *Server) cachedByID(room rooms.Room, id matrix.EventID) *rooms.Event {
	num, ok := s.ids.get(eventName{room.Num, id})
	if !ok {
		return nil
	}
	if ev, ok := s.events.get(num); ok && !hasNoPlace(ev) {
		return ev
	}
	return nil
}
