package roomserver_test

import (
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Events from before a gap come late, oldest first. Nothing says of the first of them that others follow them; when
// what they lead to has come, they are no forward extremities.
func TestLateEventsAreNoExtremities(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		first := w.topic("alice", "first", w.base)
		second := w.topic("alice", "second", w.say(bobThere, "between", first))
		edge := w.say(bobThere, "edge", second)
		last := w.say(bobThere, "last", edge)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(edge, second)
		w.must(roomserver.Accepted, last)
		w.must(roomserver.Accepted, first)
		w.remote.between = nil
		w.must(roomserver.Accepted, second)
		w.must(roomserver.Accepted, edge)
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{last.ID}) {
			t.Errorf("extremities: got %v, want the last event alone", got)
		}
		if got := w.state("m.room.topic", "", "topic"); got != "second" {
			t.Errorf("topic: got %s, want second", got)
		}
	})
}
