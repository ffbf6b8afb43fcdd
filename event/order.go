package event

import "github.com/myelin-chat/myelin/matrix"

// InOrder returns events so that none comes before another of them on which it stands.
func InOrder(events []*Event) []*Event { return ordered(events, dependsOn) }

// AuthOrder returns events with each after its auth events.
func AuthOrder(events []*Event) []*Event {
	return ordered(events, func(ev *Event, yield func(matrix.EventID)) {
		for _, id := range ev.AuthEvents {
			yield(id)
		}
	})
}

// dependsOn yields the events that one needs to be judged.
func dependsOn(ev *Event, yield func(matrix.EventID)) {
	for _, id := range ev.PrevEvents {
		yield(id)
	}
	for _, id := range ev.AuthEvents {
		yield(id)
	}
}

// ordered returns the events so that none comes before another of them on which it depends, as far as they
// do not depend on each other in a circle; in the order given else.
func ordered(events []*Event, dependsOn func(*Event, func(matrix.EventID))) []*Event {
	at := make(map[matrix.EventID]int, len(events))
	for i, ev := range events {
		at[ev.ID] = i
	}
	ordered := make([]*Event, 0, len(events))
	begun := make([]bool, len(events))
	type frame struct {
		event int
		next  []int
	}
	var stack []frame // not recursion: others decide how deep it goes
	push := func(i int) {
		begun[i] = true
		fr := frame{event: i}
		dependsOn(events[i], func(id matrix.EventID) {
			if j, ok := at[id]; ok {
				fr.next = append(fr.next, j)
			}
		})
		stack = append(stack, fr)
	}
	for i := range events {
		if begun[i] {
			continue
		}
		push(i)
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.next) == 0 {
				ordered = append(ordered, events[top.event])
				stack = stack[:len(stack)-1]
				continue
			}
			j := top.next[0]
			top.next = top.next[1:]
			if !begun[j] {
				push(j)
			}
		}
	}
	return ordered
}
