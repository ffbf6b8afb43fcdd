package roomserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// row makes messages that follow each other.
func (w *wire) row(by string, n int, from *event.Event) (all []*event.Event) {
	for i := range n {
		from = w.say(by, fmt.Sprint("row ", i), from)
		all = append(all, from)
	}
	return all
}

func TestGapIsFetched(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := w.row(bobThere, 50, w.base)
		w.remote.deaf[elsewhere] = false
		w.must(roomserver.Accepted, all[49])
		for i, ev := range all {
			if got := w.stored(ev); got == nil || got.Kind != rooms.Live {
				t.Fatalf("event %d: got %+v, want it live", i, got)
			}
		}
		if got := w.remote.requests(); got > 5 {
			t.Errorf("%d requests for 49 events", got)
		}
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{all[49].ID}) {
			t.Errorf("extremities: got %v", got)
		}
	})
}

// An event whose server does not answer is asked for elsewhere.
func TestGapOtherServers(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		w.must(roomserver.Accepted, w.join("dan:third.org", w.base))
		w.tie(w.room.ID)
		all := w.row(bobThere, 3, w.base)
		w.remote.deaf[elsewhere] = true
		w.must(roomserver.Accepted, all[2])
		if !slices.Contains(w.remote.asked, "missing third.org") {
			t.Errorf("asked %v, want third.org among them", w.remote.asked)
		}
	})
}

func TestGapWithoutAnswer(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := w.row(bobThere, 3, w.base)
		w.remote.deaf[elsewhere] = true
		w.must(roomserver.Missing, all[2])
		for _, ev := range all {
			if w.stored(ev) != nil {
				t.Errorf("%s is stored", ev.ID)
			}
		}
		w.remote.deaf[elsewhere] = false
		w.must(roomserver.Accepted, all[2])
	})
}

// unreachable is a gap of which only the state at its edge can be had: after lost, the topic was set, and
// then came last.
func unreachable(w *wire) (edge, last *event.Event) {
	lost := w.topic("alice", "lost topic", w.row(bobThere, 2, w.base)[1])
	edge = w.say(bobThere, "edge", lost)
	last = w.say(bobThere, "last", edge)
	w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
	w.tellState(edge, lost)
	return edge, last
}

func TestStateAtGap(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		edge, last := unreachable(w)
		w.must(roomserver.Accepted, last)
		if got := w.state("m.room.topic", "", "topic"); got != "lost topic" {
			t.Errorf("topic: got %s, want that of the state at the gap", got)
		}
		after := w.say(bobThere, "after last", last)
		w.must(roomserver.Accepted, after)
		if got := [2]bool{w.stored(last).AfterGap, w.stored(after).AfterGap}; got != [2]bool{true, false} {
			t.Errorf("comes after a gap: got %v of the last and who follows it, want true and false", got)
		}
		if got := w.stored(edge); got == nil || got.Kind != rooms.Outlier || got.StateUnknown {
			t.Errorf("the edge: got %+v, want an outlier with its state", got)
		}
		w.audit()
		// When the edge comes late, it is shown, and is no extremity.
		if got := w.outcomes(edge); got != "a" {
			t.Errorf("the edge, late: got %s, want a", got)
		}
		if got := w.stored(edge); got.Kind != rooms.Live || got.Position == 0 {
			t.Errorf("the edge: got %+v, want it live", got)
		}
		if slices.Contains(w.extremities(), edge.ID) {
			t.Error("a late event is an extremity")
		}
		if got := w.outcomes(edge); got != "k" {
			t.Errorf("the edge, again: got %s, want k", got)
		}
	})
}

// Servers that tell a wrong state: without a create event, with two events for one place, not whole, of a
// state in which the event itself is not allowed. None is believed while another answers better.
func TestStateAtGapLies(t *testing.T) {
	lies := map[string]func(w *wire, state []*event.Event) []*event.Event{
		"nothing": func(*wire, []*event.Event) []*event.Event { return nil },
		"no create event": func(_ *wire, state []*event.Event) []*event.Event {
			return slices.DeleteFunc(state, func(ev *event.Event) bool { return ev.Type == event.TypeCreate })
		},
		"two topics": func(w *wire, state []*event.Event) []*event.Event {
			return append(state, w.topic("alice", "other", w.base))
		},
		"a message": func(w *wire, state []*event.Event) []*event.Event { return append(state, w.say("alice", "x", w.base)) },
		"an event that nobody has": func(w *wire, state []*event.Event) []*event.Event {
			ev := w.set("alice", "org.example", `{}`, w.base)
			w.remote.hidden[ev.ID] = true
			return append(state, ev)
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			onWire(t, func(t *testing.T, w *wire) {
				edge, last := unreachable(w)
				w.remote.states[edge.ID] = lie(w, w.remote.states[edge.ID])
				w.must(roomserver.Missing, last)
				if w.stored(last) != nil || w.stored(edge) != nil {
					t.Error("an event with an unbelievable state is stored")
				}
			})
		})
	}
}

// 1.15.2: a server that tells but a small part of the state does not shrink ours.
func TestStateAtGapIsSmall_Synapse_1_15_2(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		w.must(roomserver.Accepted, w.topic("alice", "kept", w.base))
		edge, last := unreachable(w)
		w.remote.states[edge.ID] = slices.DeleteFunc(w.remote.states[edge.ID], func(ev *event.Event) bool {
			return ev.Type == "m.room.topic" || ev.Type == "m.room.member" && ev.Target() == user(carolThere)
		})
		w.receive(last)
		if got := w.state("m.room.topic", "", "topic"); got != "kept" {
			t.Errorf("topic: got %s, want kept", got)
		}
		if got := w.memberState(carolThere); got != "join" {
			t.Errorf("carol: got %s, want join", got)
		}
	})
}

func TestAuthEventsAreFetched(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		// dan joined on a branch that we were not told of; his message names it as an auth event.
		joined := w.join("dan:third.org", w.base)
		said := w.say("dan:third.org", "hello", joined)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(joined, w.base)
		w.must(roomserver.Accepted, said)
		if got := w.memberState("dan:third.org"); got != "join" {
			t.Errorf("dan: got %s", got)
		}
		// One whose auth events cannot be had is not stored.
		erin := w.join("erin:third.org", said)
		hers := w.say("erin:third.org", "hello", said)
		orphan := w.make(proto{by: "erin:third.org", typ: "m.room.message", content: `{}`, prevs: []*event.Event{said}, auth: append(slices.Clone(hers.AuthEvents), erin.ID)})
		w.remote.hidden[erin.ID] = true
		w.must(roomserver.Missing, orphan)
	})
}

// A room goes on while something is fetched for it.
func TestSlowFetch(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := w.row(bobThere, 3, w.base)
		gate := make(chan struct{})
		w.remote.gate = gate
		done := make(chan []roomserver.Result)
		go func() { done <- w.receive(all[2]) }()
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "meanwhile")); err != nil {
			t.Fatal(err)
		}
		w.must(roomserver.Accepted, w.say(carolThere, "me too", w.base))
		close(gate)
		if got := <-done; got[0].Outcome != roomserver.Accepted {
			t.Errorf("got %+v, want it accepted", got)
		}
	})
}

func TestInboxIsBounded(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := w.row(bobThere, 3, w.base)
		gate := make(chan struct{})
		w.remote.gate = gate
		done := make(chan []roomserver.Result)
		go func() { done <- w.receive(all[2]) }()
		for w.remote.requests() == 0 {
			// until the first call is fetching
			if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "meanwhile")); err != nil {
				t.Fatal(err)
			}
		}
		flood := make([]*event.Event, 2000)
		for i := range flood {
			flood[i] = all[0]
		}
		for _, got := range w.receive(flood...)[:1] {
			if got.Outcome != roomserver.Busy {
				t.Errorf("a flood: got outcome %d, want busy", got.Outcome)
			}
		}
		close(gate)
		<-done
	})
}

// A state of which much is missing is fetched whole, and not event by event.
func TestStateAtGapIsLarge(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		at := w.base
		for i := range 40 {
			at = w.join(fmt.Sprintf("new%d:third.org", i), at)
		}
		edge := w.say(bobThere, "edge", at)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(edge, at)
		w.must(roomserver.Accepted, w.say(bobThere, "last", edge))
		if got := w.memberState("new39:third.org"); got != "join" {
			t.Errorf("new39: got %s, want join", got)
		}
		if got := w.remote.requests(); got > 12 {
			t.Errorf("%d requests: %v", got, w.remote.asked)
		}
		w.must(roomserver.Accepted, w.say("new7:third.org", "hello", edge))
	})
}

// Behind events that are not in the timeline history goes on: what follows them lacks what they lack.
func TestGapBehindHiddenEvents(t *testing.T) {
	for _, c := range []struct {
		name, want string // want are the outcomes of last, edge, two, one
		hide       func(w *wire, prev *event.Event) *event.Event
	}{
		{"soft-failed", "aass", func(w *wire, prev *event.Event) *event.Event { return w.say(carolThere, "still here", prev) }},
		// What is rejected where its state is told is rejected at once.
		{"rejected", "aark", func(w *wire, prev *event.Event) *event.Event { return w.topic(bobThere, "mine", prev) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			onWire(t, func(t *testing.T, w *wire) {
				w.must(roomserver.Accepted, w.member("alice", carolThere, "ban", w.base))
				lost := w.say(bobThere, "lost", w.base)
				one := c.hide(w, lost)
				two := c.hide(w, one)
				edge := w.say(bobThere, "edge", two)
				last := w.say(bobThere, "last", edge)
				w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
				for _, ev := range []*event.Event{edge, two, one} {
					w.tellState(ev, w.base)
				}
				got := ""
				for _, ev := range []*event.Event{last, edge, two, one} {
					got += w.outcomes(ev)
					if len(w.lacks()) != 1 {
						t.Fatalf("after %s: %d gaps, want one", ev.Content, len(w.lacks()))
					}
				}
				if got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				w.must(roomserver.Accepted, w.say(bobThere, "another", two)) // stands on what is hidden already
				if got, want := w.lacks(), []matrix.EventID{lost.ID, lost.ID}; !slices.Equal(got, want) {
					t.Errorf("the timeline lacks %v, want %v", got, want)
				}
				if n, err := w.s.Backfill(context.Background(), w.room.ID, w.stored(edge).Order, 10); n != 1 || err != nil {
					t.Errorf("backfill: got %d, %v; want the one event that was lost", n, err)
				}
				if got := w.lacks(); len(got) > 0 {
					t.Errorf("the timeline still lacks %v", got)
				}
			})
		})
	}
}

// lacks is what the timeline lacks.
func (w *wire) lacks() (ids []matrix.EventID) {
	w.t.Helper()
	found, err := rooms.GapsNear(context.Background(), w.db, w.room.Num, rooms.Order{Anchor: 1 << 60}, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, gap := range found {
		ids = append(ids, gap.Lacks)
	}
	return ids
}

// Of a server that has what is missing in a form that is no event, it is not asked for again. Another may have better.
func TestGapOfBrokenEvents(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		edge, last := unreachable(w)
		w.remote.broken = 1
		w.must(roomserver.Missing, last)
		if want := []string{"missing elsewhere.org"}; !slices.Equal(w.remote.asked, want) {
			t.Errorf("asked %v, want %v", w.remote.asked, want)
		}
		w.must(roomserver.Accepted, w.join("dan:third.org", w.base))
		w.remote.between = func(roomserver.Gap) []*event.Event { return []*event.Event{edge} }
		w.must(roomserver.Missing, last) // the edge itself follows what is broken
		if slices.Contains(w.remote.asked, "event elsewhere.org") {
			t.Errorf("asked %v: a broken event was asked for again", w.remote.asked)
		}
	})
}

// Who has given fewer events than may be given at once has no more.
func TestGapIsAskedForOnce(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		lost := w.row(bobThere, 2, w.base)[1]
		edge := w.say(bobThere, "edge", lost)
		given := w.say(bobThere, "given", edge)
		last := w.say(bobThere, "last", given)
		w.remote.between = func(roomserver.Gap) []*event.Event { return []*event.Event{given} }
		w.tellState(edge, w.base)
		w.must(roomserver.Accepted, last)
		if want := []string{"missing elsewhere.org", "event elsewhere.org", "state_ids elsewhere.org"}; !slices.Equal(w.remote.asked, want) {
			t.Errorf("asked %v, want %v", w.remote.asked, want)
		}
	})
}

// Events from before there was a limit follow any number of others.
func TestBackfillManyPrevEvents(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		var branches []*event.Event
		for i := range 200 {
			branches = append(branches, w.say(bobThere, fmt.Sprint("branch ", i), w.base))
		}
		old := w.make(proto{by: bobThere, typ: "m.room.message", content: `{}`, prevs: branches[:20]})
		text := string(old.JSON)
		for _, ev := range branches[20:] {
			text = strings.Replace(text, `"prev_events":[`, `"prev_events":[`+reference(w.room.Version, ev)+",", 1)
		}
		old, err := event.ParseHistory(w.room.Version, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		w.after[old.ID] = w.after[w.base.ID]
		w.remote.know(old, branches)
		last := w.say(bobThere, "last", old)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(old, w.base)
		w.must(roomserver.Accepted, last)
		if n, err := w.s.Backfill(context.Background(), w.room.ID, w.stored(last).Order, 1); n != 1 || err != nil {
			t.Fatalf("backfill: got %d, %v; want the one event", n, err)
		}
		if got := len(w.lacks()); got != 100 {
			t.Errorf("%d gaps are noted, want 100 of the 200", got)
		}
	})
}

// reference is how an event is named by those that follow it.
func reference(v *event.Version, ev *event.Event) string {
	if v.References == event.HashedReferences {
		return fmt.Sprintf(`[%q,{}]`, ev.ID)
	}
	return fmt.Sprintf("%q", ev.ID)
}

// When a search has taken its time, nothing more is asked. What was found is kept.
func TestGapTakesTooLong(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := w.row(bobThere, 40, w.base)
		now := testClock.Now()
		set := settings(t, w.db)
		set.Remote, set.Now = w.remote, func() time.Time { return now }
		w.s = roomserver.New(set)
		page := all[19:39]
		w.remote.between = func(roomserver.Gap) []*event.Event {
			now = now.Add(2 * time.Minute)
			return page
		}
		w.must(roomserver.Missing, all[39])
		if want := []string{"missing elsewhere.org"}; !slices.Equal(w.remote.asked, want) {
			t.Errorf("asked %v, want %v", w.remote.asked, want)
		}
		w.remote.between = nil
		w.must(roomserver.Accepted, all[39])
	})
}
