package roomserver_test

import (
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// A room that was left before its members were known takes nothing more, and who comes into it brings all of it. What was
// accepted before, with members unknown, is what nothing stands on.
func TestPartialJoinGivenUp(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		ctx := t.Context()
		w.enterPartly()
		join := w.base
		said := w.say("member1:elsewhere.org", "meanwhile", join)
		leave := w.member("alice", "alice", "leave", said)
		w.must(roomserver.Accepted, said, leave)
		w.complete()
		_, err := w.s.Send(ctx, as("bob"), send(w.room.ID, "who is here?"))
		wantCode(t, "a message of who may be in the room", err, matrix.Forbidden)
		back := w.join("alice", leave) // of which alice was not told
		late := w.say("member2:elsewhere.org", "nobody is here", back)
		w.must(roomserver.Refused, back, late)
		w.restart()
		w.must(roomserver.Refused, back, late)
		if got := w.memberState("alice"); got != "leave" {
			t.Errorf("who has left: got %q", got)
		}
		in := w.answer(late)
		in.Join = w.join("bob", late)
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"alice", "bob", "member0:elsewhere.org", bobThere} {
			if got := w.memberState(user); got != "join" {
				t.Errorf("%s: got %q, want join", user, got)
			}
		}
		w.audit()
		// Who follows what came while members were unknown has the state there told by others.
		w.tellState(said, join)
		w.remote.know(said, nil)
		asked := w.remote.requests()
		slow := w.say("member2:elsewhere.org", "slow", said)
		w.must(roomserver.Accepted, slow)
		if w.remote.requests() == asked {
			t.Error("nobody was asked for the state after what stands on unknown members")
		}
		if members, err := w.s.StateAt(w.room, w.stored(slow).StateBefore).Members(ctx); err != nil || len(members) != 5 {
			t.Errorf("members before the slow message: got %d, %v; want 5", len(members), err)
		}
		if _, err := w.s.Send(ctx, as("bob"), send(w.room.ID, "here")); err != nil {
			t.Error(err)
		}
		w.must(roomserver.Accepted, w.say(bobThere, "welcome", in.Join, slow))
	})
}

// In a room that was given up while it was partial, an event is given another state when one follows it. What it had before
// can still be read: who remembers the event was not told.
func TestCollectLeavesGivenUpRooms(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		w.enterPartly()
		join := w.base
		topic := w.topic(bobThere, "left", join)
		name := w.set(bobThere, "m.room.name", `{"name":"right"}`, join)
		other := w.set(bobThere, "other", `{}`, join) // by which the state before the next event is not the current one
		both := w.say(bobThere, "both", topic, name)
		leave := w.member("alice", "alice", "leave", topic)
		w.must(roomserver.Accepted, topic, name, other, both, leave)
		w.complete()
		was := w.stored(both).StateBefore
		back := w.join("bob", leave)
		in := w.answer(leave)
		in.Join = back
		if err := w.s.Adopt(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		w.tellState(both, topic)
		w.remote.know(both, nil)
		w.must(roomserver.Accepted, w.say(bobThere, "slow", both))
		if w.stored(both).StateBefore == was {
			t.Fatal("the event has no other state")
		}
		w.collect()
		w.restart()
		if state, err := w.s.StateAt(w.room, was).NonMembers(t.Context()); err != nil || len(state) == 0 {
			t.Errorf("the state that the event had: got %d events, %v", len(state), err)
		}
		w.base = back
	})
}
