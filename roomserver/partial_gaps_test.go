package roomserver_test

import (
	"context"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// An event comes late between the join and what is missing before it, and goes out of the timeline when the members are
// known. What is missing before it is missing before those that follow it, then: the join, and what has come meanwhile.
func TestPartialJoinGaps(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		first := w.join("mallory:elsewhere.org", w.base)
		leave := w.member("mallory:elsewhere.org", "mallory:elsewhere.org", "leave", first)
		w.tellState(first, w.base)
		w.tellState(leave, first)
		if err := w.s.Adopt(context.Background(), w.partAnswer(leave)); err != nil {
			t.Fatal(err)
		}
		w.tiePartly()
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.must(roomserver.Accepted, leave)
		behind := w.say(bobThere, "behind it", leave)
		w.must(roomserver.Accepted, behind)
		if got, want := w.lacks(), []matrix.EventID{first.ID}; !slices.Equal(got, want) {
			t.Fatalf("while members are unknown: the timeline lacks %v, want %v", got, want)
		}
		w.complete()
		if got := w.stored(leave); got.Kind != rooms.SoftFailed {
			t.Fatalf("the leave: got kind %d, want it soft-failed", got.Kind)
		}
		if got, want := w.lacks(), []matrix.EventID{first.ID, first.ID}; !slices.Equal(got, want) {
			t.Errorf("the timeline lacks %v, want %v before the join and what came meanwhile", got, want)
		}
	})
}
