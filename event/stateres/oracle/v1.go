package oracle

import (
	"bytes"
	"crypto/sha1"
	"maps"
	"sort"

	"github.com/myelin-chat/myelin/event"
)

// resolveV1 is https://spec.matrix.org/v1.19/rooms/v1/#state-resolution
func (r Room) resolveV1(states []State) State {
	// "Start by setting R to the union of the states to be resolved,
	// excluding any conflicting events."
	at := make(map[event.Key]set)
	for _, s := range states {
		for k, ev := range s {
			if at[k] == nil {
				at[k] = make(set)
			}
			at[k][ev] = true
		}
	}
	result := make(State)
	conflicts := make(map[event.Key][]*event.Event)
	for k, events := range at {
		if len(events) > 1 {
			conflicts[k] = byDepth(events)
			continue
		}
		for ev := range events {
			result[k] = ev
		}
	}
	// "First we resolve conflicts between m.room.power_levels events [...]
	// Repeat the above process for conflicts between m.room.join_rules events.
	// Repeat the above process for conflicts between m.room.member events."
	passes := []func(event.Key) bool{
		func(k event.Key) bool { return k == event.Key{Type: event.TypePowerLevels} },
		func(k event.Key) bool { return k == event.Key{Type: event.TypeJoinRules} },
		func(k event.Key) bool { return k.Type == event.TypeMember },
	}
	for _, pass := range passes {
		resolved := make(State)
		for k, list := range conflicts {
			if pass(k) {
				resolved[k] = r.climb(list, result)
				delete(conflicts, k)
			}
		}
		maps.Copy(result, resolved)
	}
	// "for all other conflicts, just pick the event with the highest depth and
	// lowest sha1(event_id) that passes authentication in R and add it to R."
	others := make(State)
	for k, list := range conflicts {
		others[k] = list[0]
		for i := len(list) - 1; i >= 0; i-- {
			if r.allowed(list[i], result, nil) {
				others[k] = list[i]
				break
			}
		}
	}
	maps.Copy(result, others)
	return result
}

// climb adds "the first event in the list to R. For each subsequent event in
// the list, check that the event would be allowed by the authorisation rules
// for a room in state R. If the event would be allowed, then update R with the
// event and continue [...] If it would not be allowed, stop".
func (r Room) climb(list []*event.Event, result State) *event.Event {
	state := maps.Clone(result)
	picked := list[0]
	for _, ev := range list[1:] {
		state[picked.StateID()] = picked
		if !r.allowed(ev, state, nil) {
			break
		}
		picked = ev
	}
	return picked
}

// byDepth sorts "by ascending depth then descending sha1(event_id)".
func byDepth(events set) []*event.Event {
	var list []*event.Event
	for ev := range events {
		list = append(list, ev)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Depth != b.Depth {
			return a.Depth < b.Depth
		}
		sumA, sumB := sha1.Sum([]byte(a.ID)), sha1.Sum([]byte(b.ID))
		return bytes.Compare(sumA[:], sumB[:]) > 0
	})
	return list
}
