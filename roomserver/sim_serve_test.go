package roomserver

import (
	"cmp"
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// What a host tells others when it is asked: all that it has stored, and nothing else.

// sent is an event as others get it: parsed anew, since it may have been redacted meanwhile.
func (sim *simulation) sent(ev *rooms.Event) *event.Event {
	text := string(ev.JSON)
	parsed, ok := sim.parsed[text]
	if !ok {
		var err error
		parsed, err = event.Parse(ev.Version, ev.JSON)
		sim.must(err)
		sim.parsed[text] = parsed
	}
	return parsed
}

// find returns an event that is stored with its place; nil if there is none.
func (h *simHost) find(room rooms.Room, id matrix.EventID) *rooms.Event {
	if ev := h.stored(room, id); ev != nil && !ev.StateUnknown {
		return ev
	}
	return nil
}

// event returns an event of any room.
func (h *simHost) event(inRoom matrix.RoomID, id matrix.EventID) (*event.Event, error) {
	ids := append([]matrix.RoomID{inRoom}, h.sim.rooms...)
	for _, each := range ids {
		room, ok := h.room(each)
		if !ok {
			continue
		}
		if ev := h.stored(room, id); ev != nil {
			return h.sim.sent(ev), nil
		}
	}
	return nil, errLost
}

func (h *simHost) missing(gap Gap) (found []*event.Event, err error) {
	room, ok := h.room(gap.Room.ID)
	if !ok || h.sim.terse && h.sim.chance(60) {
		return nil, errLost
	}
	var todo []matrix.EventID
	for _, id := range gap.Latest {
		if ev := h.stored(room, id); ev != nil {
			todo = append(todo, ev.PrevEvents...)
		}
	}
	seen := make(map[matrix.EventID]bool)
	for len(todo) > 0 && len(found) < gap.Limit {
		id := todo[0]
		todo = todo[1:]
		if seen[id] || slices.Contains(gap.Earliest, id) {
			continue
		}
		seen[id] = true
		if ev := h.find(room, id); ev != nil {
			found = append(found, h.sim.sent(ev))
			todo = append(todo, ev.PrevEvents...)
		}
	}
	return found, nil
}

func (h *simHost) history(ask History) (found []*event.Event, err error) {
	room, ok := h.room(ask.Room.ID)
	if !ok {
		return nil, errLost
	}
	seen := make(map[matrix.EventID]bool)
	for todo := slices.Clone(ask.From); len(todo) > 0 && len(found) < ask.Limit; {
		ev := h.find(room, todo[0])
		todo = todo[1:]
		if ev == nil || seen[ev.ID] {
			continue
		}
		seen[ev.ID] = true
		found = append(found, h.sim.sent(ev))
		todo = append(todo, ev.PrevEvents...)
	}
	return found, nil
}

// stateEvents is the state before an event, and its auth chain.
func (h *simHost) stateEvents(of rooms.Room, at matrix.EventID) (answer StateEvents, err error) {
	room, ok := h.room(of.ID)
	if !ok {
		return answer, errLost
	}
	ev := h.find(room, at)
	if ev == nil || h.lacksMembers(room, ev.StateBefore) {
		return answer, errLost
	}
	return h.wholeState(room, ev), nil
}

func (h *simHost) wholeState(room rooms.Room, before *rooms.Event) (answer StateEvents) {
	all, err := h.life.server.StateAt(room, before.StateBefore).All(context.Background())
	h.sim.must(err)
	for _, each := range all {
		answer.State = append(answer.State, h.sim.sent(each))
	}
	sortByID(answer.State)
	answer.Auth = h.chainOf(room, answer.State)
	return answer
}

func sortByID(events []*event.Event) {
	slices.SortFunc(events, func(a, b *event.Event) int { return cmp.Compare(a.ID, b.ID) })
}

func (h *simHost) authChain(id matrix.RoomID, of matrix.EventID) ([]*event.Event, error) {
	room, ok := h.room(id)
	if !ok {
		return nil, errLost
	}
	ev := h.stored(room, of)
	if ev == nil {
		return nil, errLost
	}
	return h.chainOf(room, []*event.Event{h.sim.sent(ev)}), nil
}

// chainOf is the auth chain of some events, without them.
func (h *simHost) chainOf(room rooms.Room, events []*event.Event) (chain []*event.Event) {
	seen := make(map[matrix.EventID]bool)
	for _, ev := range events {
		seen[ev.ID] = true
	}
	for todo := slices.Clone(events); len(todo) > 0; {
		ids := todo[0].AuthEvents
		todo = todo[1:]
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if ev := h.stored(room, id); ev != nil {
				chain = append(chain, h.sim.sent(ev))
				todo = append(todo, h.sim.sent(ev))
			}
		}
	}
	return chain
}
