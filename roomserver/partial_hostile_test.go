package roomserver_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Servers that tell no members, not all that they told of, or another room, are passed over, and whoever tells them is asked
// again, for ever.
func TestPartialJoinHostile(t *testing.T) {
	lies := []struct {
		name string
		lie  func(w *wire, at *event.Event)
	}{
		{"nothing", func(w *wire, at *event.Event) { delete(w.remote.states, at.ID) }},
		{"no answer", func(w *wire, _ *event.Event) { w.remote.deaf[elsewhere], w.remote.deaf["other.org"] = true, true }},
		{"events that cannot be had", func(w *wire, _ *event.Event) {
			w.remote.hidden[w.after[w.base.ID][memberOf("member1")].ID] = true
			w.remote.keep = func(ev *event.Event) bool { return ev.Type != event.TypeMember }
		}},
		{"two in one place", func(w *wire, at *event.Event) {
			other := w.join("member1:elsewhere.org", w.base)
			w.remote.states[at.ID] = append(w.remote.states[at.ID], other)
		}},
		{"no member", func(w *wire, at *event.Event) {
			w.remote.states[at.ID] = slices.DeleteFunc(slices.Clone(w.remote.states[at.ID]), func(ev *event.Event) bool { return ev.Type == event.TypeMember })
		}},
		{"another create event", func(w *wire, at *event.Event) {
			w.remote.states[at.ID] = slices.DeleteFunc(slices.Clone(w.remote.states[at.ID]), func(ev *event.Event) bool { return ev.Type == event.TypeCreate })
		}},
	}
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, c := range lies {
			t.Run(c.name, func(t *testing.T) {
				w := found(t, db, "11", 3)
				last := w.say(bobThere, "before", w.base)
				w.tellState(last, w.base)
				truth := slices.Clone(w.remote.states[last.ID])
				if err := w.s.Adopt(t.Context(), w.partAnswer(last)); err != nil {
					t.Fatal(err)
				}
				w.tiePartly()
				c.lie(w, last)
				for try := range 3 {
					if err := w.s.CompletePartial(t.Context(), w.room.Num, try); !errors.Is(err, roomserver.ErrNoMembers) {
						t.Fatalf("try %d: got %v, want that nobody tells", try, err)
					}
				}
				if !w.isPartial() {
					t.Fatal("the room is whole")
				}
				w.remote.states[last.ID], w.remote.keep = truth, nil
				clear(w.remote.hidden)
				delete(w.remote.deaf, "other.org")
				w.complete()
				w.audit()
			})
		}
	})
}

// Who let us in is gone, and has named nobody who is in the room: those who come tell the members.
func TestPartialJoinNamesNobody(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 3)
		last := w.say(bobThere, "before", w.base)
		w.tellState(last, w.base)
		in := w.partAnswer(last)
		in.Servers = []matrix.ServerName{"gone.org", "nowhere.org"}
		w.remote.deaf["gone.org"], w.remote.deaf["nowhere.org"] = true, true
		if err := w.s.Adopt(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		w.tiePartly()
		if err := w.s.CompletePartial(t.Context(), w.room.Num, 0); !errors.Is(err, roomserver.ErrNoMembers) {
			t.Fatalf("got %v, want that nobody tells", err)
		}
		w.must(roomserver.Accepted, w.join("frank:third.org", w.base))
		w.complete()
		w.audit()
	})
}

// What authorises a member cannot be had just now. The room is not made whole without that member.
func TestPartialJoinLacksAuthority(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 3)
		was := w.after[w.base.ID][memberOf("member1")]
		w.base = w.member("member1:elsewhere.org", "member1:elsewhere.org", "leave", w.base)
		w.enterPartly()
		w.remote.hidden[was.ID] = true
		if err := w.s.CompletePartial(t.Context(), w.room.Num, 0); !errors.Is(err, roomserver.ErrNoMembers) {
			t.Fatalf("got %v, want that nobody tells", err)
		}
		clear(w.remote.hidden)
		w.complete()
		if got := w.memberState("member1:elsewhere.org"); got != "leave" {
			t.Errorf("who has left: got %q", got)
		}
		w.audit()
	})
}

// A member event that its own auth events do not allow is none.
func TestPartialJoinUnallowedMember(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		target := string(user("member1:elsewhere.org"))
		forged := w.make(proto{
			by: "member2:elsewhere.org", typ: "m.room.member", stateKey: &target, content: `{"membership":"ban"}`, prevs: []*event.Event{w.base},
		})
		delete(w.after, forged.ID)
		w.enterPartly()
		for at, state := range w.remote.states {
			w.remote.states[at] = slices.DeleteFunc(slices.Clone(state), func(ev *event.Event) bool { return ev.Target() == forged.Target() })
			w.remote.states[at] = append(w.remote.states[at], forged)
		}
		w.complete()
		if got := w.stored(forged); got == nil || got.Kind != rooms.Rejected {
			t.Errorf("the forged ban: got %+v, want it rejected", got)
		}
		if got := w.memberState("member1:elsewhere.org"); got != "unset" {
			t.Errorf("its target: got %q, want nobody", got)
		}
	})
}
