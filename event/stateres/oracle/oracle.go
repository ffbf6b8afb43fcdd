// Package oracle merges states of a room as the specification is written, word
// by word and without any care for speed: whole maps, whole auth chains. It is
// for tests, to hold event/stateres against, with which it shares nothing but
// the reading of the text that the comment of that package lists.
package oracle

import (
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
)

// State is the state of a room.
type State map[event.Key]*event.Event

// Room is what is known of a room.
type Room struct {
	Version  *event.Version
	Create   *event.Event
	Events   map[matrix.EventID]*event.Event // state events, all that are cited among them
	Rejected map[matrix.EventID]bool
}

// Resolve merges states. What was rejected counts as not there.
func (r Room) Resolve(states ...State) State {
	accepted := make([]State, len(states))
	for i, s := range states {
		accepted[i] = make(State)
		for k, ev := range s {
			if !r.Rejected[ev.ID] {
				accepted[i][k] = ev
			}
		}
	}
	switch r.Version.StateResolution {
	case event.StateResolutionV1:
		return r.resolveV1(accepted)
	case event.StateResolutionV2:
		return r.resolveV2(accepted)
	default:
		return r.resolveV21(accepted)
	}
}

// set is a set of events.
type set map[*event.Event]bool

func (s set) addAll(o set) {
	for ev := range o {
		s[ev] = true
	}
}

// authEvents returns the auth events of an event that were not rejected.
func (r Room) authEvents(ev *event.Event) []*event.Event {
	var events []*event.Event
	for _, id := range ev.AuthEvents {
		if a := r.Events[id]; a != nil && !r.Rejected[id] {
			events = append(events, a)
		}
	}
	return events
}

// authChain returns all events reachable by auth events, without ev itself.
func (r Room) authChain(ev *event.Event) set {
	chain := make(set)
	todo := r.authEvents(ev)
	for len(todo) > 0 {
		a := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !chain[a] {
			chain[a] = true
			todo = append(todo, r.authEvents(a)...)
		}
	}
	return chain
}

// allowed checks an event in a state; instead are events that are used where
// the state has none.
func (r Room) allowed(ev *event.Event, state State, instead []*event.Event) bool {
	standIn := auth.StateOf(instead...)
	return auth.Check(ev, func(k event.Key) *event.Event {
		if found := state[k]; found != nil {
			return found
		}
		if found := standIn(k); found != nil {
			return found
		}
		// From version 12 on the room ID names the create event.
		if k.Type == event.TypeCreate && !r.Version.CreateInAuthEvents {
			return r.Create
		}
		return nil
	}) == nil
}
