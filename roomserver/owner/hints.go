package owner

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Hints are events of a room that were read before its owner begins, for it not to read them again, with what was found
// out about those that are to come.
type Hints struct {
	hints
	owners *Owners
	room   rooms.Room
	flying map[matrix.EventID]*rooms.Event // as events, but on their way to the database: they may fail
	lost   map[matrix.EventID]bool         // those of which the state after them is lost; nil before anything was looked for
	holes  bool                            // there may be such
}

// NewHints makes the hints for some events to come, of which nothing is known yet.
func (s *Owners) NewHints(room rooms.Room, events int) *Hints {
	return &Hints{
		hints: hints{
			events: make(map[matrix.EventID]*rooms.Event), elsewhere: make(map[matrix.EventID]bool),
			looked: make(map[matrix.EventID]bool, 3*events),
		},
		owners: s, room: room, flying: make(map[matrix.EventID]*rooms.Event),
	}
}

// Begin notes that what is looked for from now on is as of now.
func (h *Hints) Begin() { h.asOf = h.owners.flightsOf(h.room).arrived() }

// LookAgain lets all be looked for once more.
func (h *Hints) LookAgain() { clear(h.looked) }

// Look finds out which events are here.
func (h *Hints) Look(ctx context.Context, ids []matrix.EventID) error {
	flights := h.owners.flightsOf(h.room)
	var ask []matrix.EventID
	for _, id := range ids {
		if h.looked[id] {
			continue
		}
		if ev := flights.byID(id); ev != nil {
			h.flying[id] = ev
			continue
		}
		h.looked[id] = true
		if ev := h.owners.cache.ByID(h.room, id); ev != nil {
			h.events[id] = ev
		} else {
			ask = append(ask, id)
		}
	}
	for some := range slices.Chunk(ask, committed.MaxPerRead) {
		found, err := rooms.EventsByID(ctx, h.owners.db, h.room, some)
		if err != nil {
			return fmt.Errorf("look for events of %s: %w", h.room.ID, err)
		}
		for _, ev := range found {
			h.events[ev.ID] = ev
		}
	}
	return h.lookForLost(ctx, ids)
}

// Here returns an event that was looked for and is here, or nearly. What nobody could judge yet is as good as not here.
func (h *Hints) Here(id matrix.EventID) *rooms.Event {
	ev := h.flying[id]
	if ev == nil {
		ev = h.events[id]
	}
	if ev != nil && ev.Kind == rooms.Aside {
		return nil
	}
	return ev
}

// Elsewhere notes that an ID is of an event of another room, which authorises nothing here.
func (h *Hints) Elsewhere(id matrix.EventID) { h.elsewhere[id] = true }

// IsElsewhere says whether that was noted.
func (h *Hints) IsElsewhere(id matrix.EventID) bool { return h.elsewhere[id] }

// LookElsewhere notes which IDs are of events of other rooms. In old versions an ID is unique in its room only.
func (h *Hints) LookElsewhere(ctx context.Context, ids []matrix.EventID) error {
	if h.room.Version.EventIDs == event.ChosenEventIDs {
		return nil
	}
	for some := range slices.Chunk(ids, committed.MaxPerRead) {
		found, err := rooms.ElsewhereByID(ctx, h.owners.db, h.room, some)
		if err != nil {
			return fmt.Errorf("look for events: %w", err)
		}
		for _, id := range found {
			h.elsewhere[id] = true
		}
	}
	return nil
}

// BeginPolicy notes that the policy server that a state event names is asked about the events to come.
func (h *Hints) BeginPolicy(named *rooms.Event) {
	h.policy, h.unwanted = named.Num, make(map[matrix.EventID]string)
}

// Unwanted notes that the policy server does not want an event, and why.
func (h *Hints) Unwanted(id matrix.EventID, why string) { h.unwanted[id] = why }

// follow keeps hints good over a step that they were fresh for, and whose result is committed. What it has
// stored must be looked for anew.
func (h *hints) follow(st *Step) {
	for _, ev := range st.events {
		delete(h.looked, ev.ID)
		delete(h.events, ev.ID)
	}
	if st.arrivals != 0 {
		h.asOf = st.arrivals
	}
}

// flightsOf returns what is on its way to the database of a room.
func (s *Owners) flightsOf(room rooms.Room) *flights {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.ownerOf(room).flights
}

// DoWith is Do with hints, and keeps these good.
func (s *Owners) DoWith(ctx context.Context, h *Hints, work Task) error {
	var last *Step
	fresh := false
	err := s.Do(ctx, h.room.ID, func(ctx context.Context, st *Step) error {
		st.hints = h.hints
		last, fresh = st, st.hintsAreFresh()
		return work(ctx, st)
	})
	if err == nil && fresh {
		h.follow(last)
	}
	return err
}

// Take gives a step hints that are not kept good.
func (st *Step) Take(h *Hints) { st.hints = h.hints }

// ElsewhereAs takes over which IDs are of events of other rooms.
func (h *Hints) ElsewhereAs(other *Hints) { h.elsewhere = other.elsewhere }

// lookForLost notes which of the events that are here are as good as not here, since the state after them is lost.
func (h *Hints) lookForLost(ctx context.Context, ids []matrix.EventID) error {
	if h.lost == nil {
		h.lost = make(map[matrix.EventID]bool)
		some, err := h.owners.hasHoles(ctx, h.room)
		if err != nil {
			return err
		}
		h.holes = some
	}
	if !h.holes {
		return nil
	}
	for _, id := range ids {
		had := h.Here(id)
		if had == nil || had.StateUnknown {
			continue
		}
		hole, err := h.owners.cache.Trees.HoleOf(ctx, statetree.At(had.StateWith))
		if err != nil {
			return fmt.Errorf("look for what of %s is lost: %w", h.room.ID, err)
		}
		h.lost[id] = hole != 0
	}
	return nil
}

// IsLost says whether an event that was looked for is here, but the state after it is lost.
func (h *Hints) IsLost(id matrix.EventID) bool { return h.lost[id] }
