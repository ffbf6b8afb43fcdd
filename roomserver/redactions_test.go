package roomserver_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

func (w *wire) redaction(by string, target matrix.EventID, prev *event.Event) *event.Event {
	w.t.Helper()
	return w.make(proto{by: by, typ: "m.room.redaction", content: `{}`, redacts: target, prevs: []*event.Event{prev}})
}

// Redactions by who may and who may not, before and after their target: CVE-2024-6302.
func TestRedactionsAcrossOrder_CVE_2024_6302(t *testing.T) {
	for _, c := range []struct {
		name, by string
		applies  bool
	}{
		{"by its sender's server", carolThere, true},
		{"by a moderator", "alice", true},
		{"by a stranger", "dan:third.org", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			onWire(t, func(t *testing.T, w *wire) {
				w.must(roomserver.Accepted, w.join("dan:third.org", w.base))
				w.tie(w.room.ID)
				for _, redactionFirst := range []bool{false, true} {
					target := w.say(bobThere, "secret", w.base)
					redaction := w.redaction(c.by, target.ID, w.base)
					order := []*event.Event{target, redaction}
					if redactionFirst {
						order = []*event.Event{redaction, target}
					}
					for _, ev := range order {
						got := w.receive(ev)[0]
						if w.room.Version.ID == "1" && c.by == "dan:third.org" && ev == redaction {
							if got.Outcome != roomserver.Rejected { // by auth rule v1:11
								t.Fatalf("redaction: got %+v", got)
							}
						} else if got.Outcome != roomserver.Accepted {
							t.Fatalf("got %+v", got)
						}
					}
					if got := w.stored(target); (got.RedactedBy != 0) != c.applies {
						t.Errorf("redaction first %v: redacted by %d, want redacted %v", redactionFirst, got.RedactedBy, c.applies)
					}
				}
			})
		})
	}
}

// Redactions of each other and of themselves, and of the create event: nothing loops, nothing breaks.
func TestRedactionLoops_Synapse_5767(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		if w.room.Version.EventIDs != event.ChosenEventIDs {
			// IDs are hashes, so a circle closes over an event that does not name the other: two redactions of a third.
			one := w.redaction(bobThere, w.base.ID, w.base)
			two := w.redaction(bobThere, one.ID, one)
			three := w.redaction(bobThere, two.ID, two)
			w.must(roomserver.Accepted, three, two, one)
			for _, ev := range []*event.Event{one, two} {
				if got := w.stored(ev); got.RedactedBy == 0 {
					t.Errorf("%s is not redacted", ev.ID)
				}
			}
		}
		chain := w.say(bobThere, "x", w.base)
		w.must(roomserver.Accepted, chain)
		for range 30 {
			chain = w.redaction(bobThere, chain.ID, chain)
			w.must(roomserver.Accepted, chain)
		}
		create := w.after[w.base.ID][event.Key{Type: event.TypeCreate}]
		w.must(roomserver.Accepted, w.redaction("alice", create.ID, w.base))
		if got := w.state("m.room.create", "", "room_version"); w.room.Version.ID != "1" && w.room.Version.ID != "6" && got != string(w.room.Version.ID) {
			t.Errorf("the redacted create event says version %s", got)
		}
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "goes on")); err != nil {
			t.Error(err)
		}
	})
}

// What is not shown does not redact.
func TestRedactionSoftFailed(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		target := w.say(bobThere, "kept", w.base)
		w.must(roomserver.Accepted, target, w.member("alice", carolThere, "ban", w.base))
		w.must(roomserver.SoftFailed, w.redaction(carolThere, target.ID, w.base))
		if got := w.stored(target); got.RedactedBy != 0 {
			t.Error("a soft-failed redaction has an effect")
		}
		late := w.say(bobThere, "late", w.base)
		w.must(roomserver.SoftFailed, w.redaction(carolThere, late.ID, w.base))
		w.must(roomserver.Accepted, late)
		if got := w.stored(late); got.RedactedBy != 0 {
			t.Error("a soft-failed redaction that waited has an effect")
		}
	})
}

// What is not shown does not redact: also history of which nobody tells the state before it, by which it would be judged.
func TestRedactionOfUnknownState(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		if w.room.Version.ID == "1" || w.room.Version.CreatorsOutOfLevels {
			return // who has no power cannot send it there, or bob always has it
		}
		ctx := t.Context()
		dan := w.join("dan:third.org", w.base)
		down := w.set(bobThere, "m.room.power_levels", `{"users":{"@dan:third.org":100}}`, dan)
		hidden := w.say(bobThere, "hidden", down)
		target := w.say("dan:third.org", "kept", down)
		redaction := w.redaction(bobThere, target.ID, hidden)
		in := w.answer(w.say(bobThere, "last", redaction, target))
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		w.remote.hidden[hidden.ID] = true
		if _, err := w.s.Backfill(ctx, w.room.ID, w.stored(in.Join).Order, 100); err != nil {
			t.Fatal(err)
		}
		if got := w.stored(redaction); got == nil || got.Kind != rooms.Backfilled || !got.StateUnknown {
			t.Fatalf("the redaction: got %+v, want it backfilled with unknown state", got)
		}
		if got := w.stored(target); got.RedactedBy != 0 {
			t.Error("a redaction of which the state before it is unknown has an effect")
		}
	})
}

// Extremities are kept few, also where none of us speaks.
func TestManyExtremities(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		var all []*event.Event
		for i := range 40 {
			all = append(all, w.topic("alice", fmt.Sprint("topic ", i), w.base))
		}
		w.must(roomserver.Accepted, all...)
		if got := len(w.extremities()); got > 10 {
			t.Errorf("%d extremities", got)
		}
		w.audit()
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "joined")); err != nil {
			t.Fatal(err)
		}
		if got := len(w.extremities()); got != 1 {
			t.Errorf("%d extremities after our own event, want 1", got)
		}
	})
}

// Where none of us may speak they are many, and the room goes on.
func TestManyExtremitiesWithoutUs(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		if err := w.s.Adopt(context.Background(), w.answer(w.base)); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		if err := w.s.Leave(context.Background(), as("alice"), w.room.ID, ""); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		var all []*event.Event
		for i := range 150 {
			all = append(all, w.topic(bobThere, fmt.Sprint("topic ", i), w.base))
		}
		w.must(roomserver.Accepted, all...)
		if got := len(w.extremities()); got != 100 {
			t.Errorf("%d extremities, want as many as are kept", got)
		}
		w.audit()
	})
}

// CVE-2018-10657: depth decides nothing.
func TestHugeDepth_CVE_2018_10657(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		deep := w.make(proto{by: bobThere, typ: "m.room.message", content: `{}`, prevs: []*event.Event{w.base}, depth: w.room.Version.MaxDepth})
		w.must(roomserver.Accepted, deep)
		next := w.say(carolThere, "after", deep)
		w.must(roomserver.Accepted, next)
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "and on")); err != nil {
			t.Fatal(err)
		}
		all, err := rooms.Page(context.Background(), w.db, w.room, rooms.PageQuery{Limit: 100})
		if err != nil || all[len(all)-2].ID != next.ID {
			t.Errorf("the order follows depth: %v", err)
		}
	})
}

// In old versions the sender chooses the ID: the first event that has one keeps it.
func TestChosenIDs(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		if w.room.Version.EventIDs != event.ChosenEventIDs {
			return
		}
		first := w.say(bobThere, "first", w.base)
		second := *w.say(bobThere, "second", w.base)
		second.ID = first.ID
		w.must(roomserver.Accepted, first)
		w.must(roomserver.Known, &second)
		if got := w.stored(first); string(got.Content) != string(first.Content) {
			t.Errorf("got %s, want the first", got.Content)
		}
	})
}
