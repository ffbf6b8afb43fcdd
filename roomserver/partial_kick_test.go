package roomserver_test

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Who is banned, which nobody here knows, puts the only user of this server out of a partial room. The room is made whole all
// the same, and the user is in it.
func TestPartialJoinFalseKick(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		mallory := "mallory:elsewhere.org"
		was := w.join(mallory, w.base)
		levels := w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{mallory: 60}), was)
		w.base = w.member(bobThere, mallory, "ban", levels)
		w.enterPartly()
		join := w.base
		target := string(user("alice"))
		kick := w.liar(mallory, proto{typ: "m.room.member", stateKey: &target, content: `{"membership":"leave"}`, prevs: []*event.Event{join}}, was)
		w.must(roomserver.Accepted, kick)
		if got := w.memberState("alice"); got != "leave" {
			t.Fatalf("while members are unknown: got %q, want that the kick is believed", got)
		}
		w.complete()
		if got := w.memberState("alice"); got != "join" {
			t.Errorf("who was put out by who may not: got %q, want join", got)
		}
		if _, err := w.s.Send(t.Context(), as("alice"), send(w.room.ID, "still here")); err != nil {
			t.Error(err)
		}
	})
}

// Who was put out by right stays so, and the room is given up once nobody tells its members to us any more.
func TestPartialJoinTrueKick(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 3)
		w.enterPartly()
		w.must(roomserver.Accepted, w.member(bobThere, "alice", "leave", w.base))
		w.remote.deaf[elsewhere], w.remote.deaf["other.org"] = true, true
		for try := 0; w.isPartial(); try++ {
			if err := w.s.CompletePartial(t.Context(), w.room.Num, try); (err == nil) == w.isPartial() || try > 20 {
				t.Fatalf("try %d: got %v, want that it is given up after some", try, err)
			}
		}
		if got := w.memberState("alice"); got != "leave" {
			t.Errorf("who was put out: got %q, want leave", got)
		}
	})
}

// What somebody takes away that others said is gone for good, so it stays until it is known that they may.
func TestPartialJoinRedactions(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		mallory := "mallory:elsewhere.org"
		was := w.join(mallory, w.base)
		levels := w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{mallory: 60, "member0:elsewhere.org": 60}), was)
		w.base = w.member(bobThere, mallory, "ban", levels)
		w.enterPartly()
		var said []*rooms.Event
		for _, text := range []string{"true", "also true", "mine"} {
			id, err := w.s.Send(t.Context(), as("alice"), send(w.room.ID, text))
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, w.stored(&event.Event{ID: id}))
		}
		w.after[said[2].ID] = w.after[w.base.ID]
		forged := w.liar(mallory, proto{typ: "m.room.redaction", content: `{}`, redacts: said[0].ID, prevs: []*event.Event{said[2].Event}}, was)
		w.after[forged.ID] = w.after[w.base.ID]
		honest := w.redaction("member0:elsewhere.org", said[1].ID, forged)
		w.must(roomserver.Accepted, forged, honest)
		if _, err := w.s.Redact(t.Context(), as("alice"), roomserver.RedactEvent{Room: w.room.ID, Event: said[2].ID}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{false, false, true} {
			if got := w.stored(said[i].Event).RedactedBy != 0; got != want {
				t.Errorf("event %d while members are unknown: redacted is %v", i, got)
			}
		}
		// One that comes before its target is taken back before that comes, or waits for the members with it.
		elsewhere := w.join("frank:third.org", honest)
		late, later := w.say("frank:third.org", "late", elsewhere), w.say("frank:third.org", "later", elsewhere)
		right := w.redaction(bobThere, later.ID, elsewhere)
		wrong := w.liar(mallory, proto{typ: "m.room.redaction", content: `{}`, redacts: late.ID, prevs: []*event.Event{elsewhere}}, was)
		w.must(roomserver.Accepted, elsewhere, right, wrong, later)
		w.complete()
		w.must(roomserver.Accepted, late)
		if w.stored(later).RedactedBy == 0 || w.stored(late).RedactedBy != 0 {
			t.Errorf("redacted before they came: got %v and %v, want the first alone", w.stored(later).RedactedBy != 0, w.stored(late).RedactedBy != 0)
		}
		for i, want := range []bool{false, true, true} {
			if got := w.stored(said[i].Event).RedactedBy != 0; got != want {
				t.Errorf("event %d: redacted is %v", i, got)
			}
		}
	})
}
