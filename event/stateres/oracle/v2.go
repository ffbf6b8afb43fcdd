package oracle

import (
	"maps"
	"math"
	"sort"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
)

// resolveV2 is https://spec.matrix.org/v1.19/rooms/v2/#state-resolution
func (r Room) resolveV2(states []State) State {
	unconflicted, conflicted := divide(states)
	full := make(set)
	full.addAll(conflicted)
	full.addAll(r.authDifference(states))
	return r.replay(full, unconflicted, unconflicted)
}

// resolveV21 is https://spec.matrix.org/v1.19/rooms/v12/#state-resolution
func (r Room) resolveV21(states []State) State {
	unconflicted, conflicted := divide(states)
	full := make(set)
	full.addAll(conflicted)
	full.addAll(r.authDifference(states))
	full.addAll(r.subgraph(conflicted))
	return r.replay(full, unconflicted, State{})
}

// replay is the algorithm itself.
func (r Room) replay(full set, unconflicted, start State) State {
	// Step 1.
	first := make(set)
	for ev := range full {
		if isPowerEvent(ev) {
			r.enlarge(first, ev, full)
		}
	}
	state := maps.Clone(start)
	// Step 2.
	r.iterativeAuthChecks(state, r.powerOrdering(first))
	// Step 3.
	var rest []*event.Event
	for ev := range full {
		if !first[ev] {
			rest = append(rest, ev)
		}
	}
	r.sortByMainline(rest, state[event.Key{Type: event.TypePowerLevels}])
	// Step 4.
	r.iterativeAuthChecks(state, rest)
	// Step 5.
	maps.Copy(state, unconflicted)
	return state
}

// divide divides states into the unconflicted state map and the conflicted
// state set.
func divide(states []State) (unconflicted State, conflicted set) {
	unconflicted, conflicted = make(State), make(set)
	for _, s := range states {
		for k, ev := range s {
			everywhere := true
			for _, o := range states {
				everywhere = everywhere && o[k] == ev
			}
			if everywhere {
				unconflicted[k] = ev
			} else {
				conflicted[ev] = true
			}
		}
	}
	return unconflicted, conflicted
}

// authDifference is "∪ C_i − ∩ C_i".
func (r Room) authDifference(states []State) set {
	union := make(set)
	chains := make([]set, len(states))
	for i, s := range states {
		chains[i] = make(set)
		for _, ev := range s {
			chains[i].addAll(r.authChain(ev))
		}
		union.addAll(chains[i])
	}
	difference := make(set)
	for ev := range union {
		for _, chain := range chains {
			if !chain[ev] {
				difference[ev] = true
			}
		}
	}
	return difference
}

// subgraph is the "union of all such paths between any pair of events in the
// conflicted state set (including endpoints)".
func (r Room) subgraph(conflicted set) set {
	chains := make(map[*event.Event]set)
	below := make(set)
	for ev := range conflicted {
		chains[ev] = r.authChain(ev)
		below.addAll(chains[ev])
	}
	graph := make(set)
	for ev := range below {
		chain := r.authChain(ev)
		for end := range conflicted {
			if chain[end] || end == ev {
				graph[ev] = true
			}
		}
	}
	for ev, chain := range chains {
		for end := range conflicted {
			if chain[end] {
				graph[ev] = true
			}
		}
	}
	return graph
}

func isPowerEvent(ev *event.Event) bool {
	switch ev.StateID() {
	case event.Key{Type: event.TypePowerLevels}, event.Key{Type: event.TypeJoinRules}, event.Key{Type: event.TypeCreate}:
		return true
	}
	leaves := ev.Membership() == event.Leave || ev.Membership() == event.Ban
	return ev.Type == event.TypeMember && leaves && string(ev.Sender) != *ev.StateKey
}

// enlarge adds a power event and the events of its auth chain that belong to
// the full conflicted set.
func (r Room) enlarge(first set, ev *event.Event, full set) {
	todo := []*event.Event{ev}
	for len(todo) > 0 {
		ev := todo[0]
		todo = todo[1:]
		if first[ev] {
			continue
		}
		first[ev] = true
		for _, a := range r.authEvents(ev) {
			if full[a] {
				todo = append(todo, a)
			}
		}
	}
}

// powerOrdering is the reverse topological power ordering, by Kahn's
// algorithm.
func (r Room) powerOrdering(events set) []*event.Event {
	left := maps.Clone(events)
	var order []*event.Event
	for len(left) > 0 {
		var smallest *event.Event
		for ev := range left {
			if !r.citesAny(ev, left) && (smallest == nil || r.hasMorePower(ev, smallest)) {
				smallest = ev
			}
		}
		order = append(order, smallest)
		delete(left, smallest)
	}
	return order
}

func (r Room) citesAny(ev *event.Event, events set) bool {
	for _, a := range r.authEvents(ev) {
		if events[a] {
			return true
		}
	}
	return false
}

func (r Room) hasMorePower(x, y *event.Event) bool {
	if levelX, levelY := r.senderLevel(x), r.senderLevel(y); levelX != levelY {
		return levelX > levelY
	}
	return isEarlier(x, y)
}

func isEarlier(x, y *event.Event) bool {
	if x.OriginServerTS != y.OriginServerTS {
		return x.OriginServerTS < y.OriginServerTS
	}
	return x.ID < y.ID
}

// senderLevel is the power level of the sender "when looking at their
// respective auth_events".
func (r Room) senderLevel(ev *event.Event) auth.Level {
	state := auth.StateOf(r.authEvents(ev)...)
	create := state(event.Key{Type: event.TypeCreate})
	if !r.Version.CreateInAuthEvents {
		create = r.Create
	}
	levels := auth.Levels(r.Version, create, state(event.Key{Type: event.TypePowerLevels}))
	return levels.User(ev.Sender)
}

// sortByMainline is the mainline ordering based on p.
func (r Room) sortByMainline(events []*event.Event, p *event.Event) {
	var mainline []*event.Event
	for ; p != nil; p = r.powerLevelsOf(p) {
		mainline = append(mainline, p)
	}
	position := make(map[*event.Event]int)
	for _, ev := range events {
		position[ev] = math.MaxInt
		for e := r.powerLevelsOf(ev); e != nil && position[ev] == math.MaxInt; e = r.powerLevelsOf(e) {
			for i, m := range mainline {
				if m == e {
					position[ev] = i
				}
			}
		}
	}
	sort.Slice(events, func(i, j int) bool {
		x, y := events[i], events[j]
		if position[x] != position[y] {
			return position[x] > position[y]
		}
		return isEarlier(x, y)
	})
}

// powerLevelsOf returns the m.room.power_levels event in the auth events.
func (r Room) powerLevelsOf(ev *event.Event) *event.Event {
	for _, a := range r.authEvents(ev) {
		if a.StateID() == (event.Key{Type: event.TypePowerLevels}) {
			return a
		}
	}
	return nil
}

// iterativeAuthChecks changes state.
func (r Room) iterativeAuthChecks(state State, order []*event.Event) {
	for _, ev := range order {
		if r.allowed(ev, state, r.authEvents(ev)) {
			state[ev.StateID()] = ev
		}
	}
}
