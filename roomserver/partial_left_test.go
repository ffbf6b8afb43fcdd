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
