package roomserver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simTruth is what the rules make of a room, by all events of it that there are anywhere: each judged by its
// auth events and by the state before it, with states merged as package oracle does it.
type simTruth struct {
	room     oracle.Room
	all      map[matrix.EventID]*event.Event // of all rooms
	before   map[matrix.EventID]oracle.State // of events that have their place
	after    map[matrix.EventID]oracle.State
	rejected map[matrix.EventID]error
	merged   map[string]oracle.State
}

// everything is all events that any host has, and all that liars made.
func (sim *simulation) everything() map[matrix.EventID]*event.Event {
	all := maps.Clone(sim.crafted)
	for _, h := range sim.hosts {
		for _, id := range sim.rooms {
			room, ok := h.room(id)
			if !ok {
				continue
			}
			for _, ev := range h.all(room) {
				if had := all[ev.ID]; had == nil || had.Redacted || len(had.JSON) < len(ev.JSON) {
					all[ev.ID] = ev.Event
				}
			}
		}
	}
	return all
}

// truth judges all events of a room.
func (sim *simulation) truth(id matrix.RoomID, all map[matrix.EventID]*event.Event) *simTruth {
	t := &simTruth{
		room: oracle.Room{
			Version: sim.version[id], Events: make(map[matrix.EventID]*event.Event), Rejected: make(map[matrix.EventID]bool),
		},
		all: all, before: make(map[matrix.EventID]oracle.State), after: make(map[matrix.EventID]oracle.State),
		rejected: make(map[matrix.EventID]error), merged: make(map[string]oracle.State),
	}
	var todo []*event.Event
	for _, ev := range all {
		if ev.RoomID == id {
			todo = append(todo, ev)
		}
		if ev.RoomID == id && ev.IsState() {
			t.room.Events[ev.ID] = ev
		}
	}
	slices.SortFunc(todo, func(a, b *event.Event) int {
		return cmp.Or(cmp.Compare(a.OriginServerTS, b.OriginServerTS), cmp.Compare(a.ID, b.ID))
	})
	for moved := true; moved; {
		moved = false
		var left []*event.Event
		for _, ev := range todo {
			if t.judge(ev) {
				moved = true
			} else {
				left = append(left, ev)
			}
		}
		todo = left
	}
	return t
}

// judge judges an event if all that it stands on was.
func (t *simTruth) judge(ev *event.Event) bool {
	var cited []*event.Event
	for _, id := range ev.AuthEvents {
		a := t.all[id]
		if a == nil || a.RoomID == ev.RoomID && t.before[id] == nil {
			return false
		}
		cited = append(cited, a)
	}
	var states []oracle.State
	for _, id := range ev.PrevEvents {
		if t.before[id] == nil {
			return false
		}
		states = append(states, t.after[id])
	}
	before := t.merge(states)
	why := t.allowed(ev, cited, before)
	after := before
	switch {
	case why != nil:
		t.rejected[ev.ID] = why
		t.room.Rejected[ev.ID] = true
	case ev.IsState():
		after = maps.Clone(before)
		after[ev.StateID()] = ev
	}
	t.before[ev.ID], t.after[ev.ID] = before, after
	return true
}

// allowed holds an event against the rules, and finds the create event.
func (t *simTruth) allowed(ev *event.Event, cited []*event.Event, before oracle.State) error {
	if ev.Type == event.TypeCreate {
		if t.room.Create == nil && len(ev.PrevEvents) == 0 {
			t.room.Create = ev
			return auth.Check(ev, auth.StateOf())
		}
		return fmt.Errorf("a second create event")
	}
	for _, a := range cited {
		if a.RoomID != ev.RoomID {
			return fmt.Errorf("%s is of another room", a.ID)
		}
	}
	if err := auth.CheckAuthEvents(ev, cited, func(a *event.Event) bool { return t.rejected[a.ID] != nil }); err != nil {
		return err
	}
	byCited := auth.StateOf(cited...)
	err := auth.Check(ev, func(key event.Key) *event.Event {
		if key == event.CreateKey && !t.room.Version.CreateInAuthEvents {
			return t.room.Create
		}
		return byCited(key)
	})
	if err != nil {
		return err
	}
	return auth.Check(ev, func(key event.Key) *event.Event { return before[key] })
}

// merge merges states, the same ones once.
func (t *simTruth) merge(states []oracle.State) oracle.State {
	distinct := make(map[string]oracle.State)
	for _, s := range states {
		distinct[stateText(s)] = s
	}
	keys := slices.Sorted(maps.Keys(distinct))
	switch len(keys) {
	case 0:
		return oracle.State{}
	case 1:
		return distinct[keys[0]]
	}
	key := strings.Join(keys, "|")
	if t.merged[key] == nil {
		var in []oracle.State
		for _, k := range keys {
			in = append(in, distinct[k])
		}
		t.merged[key] = t.room.Resolve(in...)
	}
	return t.merged[key]
}

// stateText is the same for the same states.
func stateText(s oracle.State) string {
	ids := make([]string, 0, len(s))
	for _, ev := range s {
		ids = append(ids, string(ev.ID))
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// idsIn is a state by the IDs of its events.
func idsIn(s oracle.State) map[event.Key]matrix.EventID {
	ids := make(map[event.Key]matrix.EventID, len(s))
	for key, ev := range s {
		ids[key] = ev.ID
	}
	return ids
}

// checkTruth holds what a host has of a room against the truth.
func (h *simHost) checkTruth(room rooms.Room, t *simTruth) {
	sim := h.sim
	head, lives, err := rooms.HeadOf(context.Background(), h.life.db, room.Num)
	if sim.must(err); !lives {
		return
	}
	events := h.all(room)
	byNum := make(map[int64]*rooms.Event, len(events))
	for _, ev := range events {
		byNum[ev.Num] = ev
	}
	for _, ev := range events {
		if ev.StateUnknown || h.hole(ev.StateBefore) {
			continue // the latter of a time before which it came back into the room
		}
		before, placed := t.before[ev.ID]
		if !placed {
			sim.failf("%s has a place for %s, which cannot be placed", h, h.describe(ev))
			continue
		}
		if why := t.rejected[ev.ID]; (why != nil) != (ev.Kind == rooms.Rejected) {
			sim.failf("%s has %s as kind %d; the rules say: %v", h, h.describe(ev), ev.Kind, why)
		}
		if got := h.stateIDs(ev.StateBefore, byNum); !maps.Equal(got, idsIn(before)) {
			sim.failf("%s has another state before %s: %s", h, h.describe(ev), sim.difference(got, idsIn(before)))
		}
	}
	var states []oracle.State
	for _, num := range head.Extremities {
		if ev := byNum[num]; ev != nil && t.after[ev.ID] != nil {
			states = append(states, t.after[ev.ID])
		}
	}
	if want, got := idsIn(t.merge(states)), h.stateIDs(head.Root, byNum); !maps.Equal(got, want) {
		sim.failf("%s has another state than the rules: %s", h, sim.difference(got, want))
	}
}

func (h *simHost) describe(ev *rooms.Event) string {
	return fmt.Sprintf("%s (%s %s by %s)", h.sim.short(ev.ID), ev.Type, ev.Content, ev.Sender)
}

// difference tells two states apart.
func (sim *simulation) difference(got, want map[event.Key]matrix.EventID) string {
	var all []string
	for key, id := range got {
		if want[key] != id {
			all = append(all, fmt.Sprintf("%s %s is %s, want %s", key.Type, key.StateKey, sim.short(id), sim.short(want[key])))
		}
	}
	for key, id := range want {
		if got[key] == "" {
			all = append(all, fmt.Sprintf("%s %s is nothing, want %s", key.Type, key.StateKey, sim.short(id)))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
