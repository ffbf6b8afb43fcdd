package roomserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const (
	bobThere   = "bob:elsewhere.org"
	carolThere = "carol:elsewhere.org"
)

// onWire runs f over rooms of an old, a middle and the newest way of IDs and resolution, on both databases.
func onWire(t *testing.T, f func(t *testing.T, w *wire)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, version := range []matrix.RoomVersion{"1", "6", "11", "12"} {
			t.Run("v"+string(version), func(t *testing.T) {
				w := lay(t, db, version)
				f(t, w)
				w.audit()
				w.s = roomserver.New(roomserver.Settings{
					DB: db, ServerName: serverName, Key: w.key, Profiles: &people{}, DefaultVersion: "12",
					Now: testClock.Now, Log: settings(t, db).Log, Rand: settings(t, db).Rand, Remote: w.remote,
				})
				w.audit() // the same after a restart
			})
		}
	})
}

func TestReceiveRow(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		one := w.say(bobThere, "one", w.base)
		two := w.topic("alice", "new", one)
		three := w.say(bobThere, "three", two)
		if got := w.outcomes(three, one, two, one); got != "aaaa" {
			t.Errorf("out of order: got %s, want aaaa", got)
		}
		if got := w.outcomes(two, one); got != "kk" {
			t.Errorf("again: got %s, want kk", got)
		}
		if got := w.state("m.room.topic", "", "topic"); got != "new" {
			t.Errorf("topic: got %s", got)
		}
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{three.ID}) {
			t.Errorf("extremities: got %v, want the last", got)
		}
		if w.remote.requests() != 0 {
			t.Errorf("nothing was missing, but asked for were %v", w.remote.asked)
		}
		// Our own events go on from there.
		id, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "four"))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{id}) {
			t.Errorf("extremities: got %v, want our own", got)
		}
	})
}

// What one step has stored is seen by the next ones of a batch, though what is here was looked up before the first.
func TestReceiveInSeveralSteps(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		bad := w.topic(carolThere, "not for carol to set", w.base)
		all, want := []*event.Event{bad}, "r"
		last := bad
		for i := range 210 { // three steps
			last = w.say(bobThere, fmt.Sprint(i), last)
			all, want = append(all, last), want+"a"
			if i%70 == 69 {
				onBad := w.make(proto{by: bobThere, typ: "m.room.message", content: `{}`, prevs: []*event.Event{last}, auth: []matrix.EventID{bad.ID}})
				again := w.topic(carolThere, fmt.Sprint("nor this ", i), last)
				all, want = append(all, onBad, again), want+"rr"
			}
		}
		if got := w.outcomes(all...); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := w.outcomes(all...); got != strings.Repeat("k", len(all)) {
			t.Errorf("again: got %s, want all known", got)
		}
		if w.remote.requests() != 0 {
			t.Errorf("nothing was missing, but asked for were %v", w.remote.asked)
		}
	})
}

func TestReceiveFork(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		topic := w.topic("alice", "hers", w.base)
		name := w.set("alice", "m.room.name", `{"name":"a name"}`, w.base)
		ban := w.member("alice", carolThere, "ban", name)
		if got := w.outcomes(topic, ban, name); got != "aaa" {
			t.Fatalf("got %s, want aaa", got)
		}
		if got := w.extremities(); len(got) != 2 {
			t.Errorf("extremities: got %v, want two", got)
		}
		if topic, name := w.state("m.room.topic", "", "topic"), w.state("m.room.name", "", "name"); topic != "hers" || name != "a name" {
			t.Errorf("topic %q, name %q: want both branches", topic, name)
		}
		if got := w.memberState(carolThere); got != "ban" {
			t.Errorf("carol: got %s, want ban", got)
		}
		w.audit()
		// Carol does not know yet that she is banned: soft failure. Who follows that event is not harmed.
		evading := w.say(carolThere, "still here", topic)
		if got := w.outcomes(evading); got != "s" {
			t.Fatalf("an evaded ban: got %s, want s", got)
		}
		if got := w.extremities(); slices.Contains(got, evading.ID) {
			t.Error("a soft-failed event is an extremity")
		}
		if ev := w.stored(evading); ev.Kind != rooms.SoftFailed || ev.Position != 0 || ev.Order != (rooms.Order{}) {
			t.Errorf("soft-failed: stored as %+v", ev)
		}
		after := w.say(bobThere, "so what", evading)
		if got := w.outcomes(after); got != "a" {
			t.Errorf("after a soft-failed event: got %s, want a", got)
		}
		// Our next event joins the branches.
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "joined")); err != nil {
			t.Fatal(err)
		}
		if got := w.extremities(); len(got) != 1 {
			t.Errorf("extremities: got %v, want one", got)
		}
	})
}

func TestReceiveRejected(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		mine := w.set(bobThere, "m.room.power_levels", `{"users":{"@bob:elsewhere.org":100}}`, w.base)
		after := w.say(bobThere, "after", mine)
		relying := w.make(proto{
			by: bobThere, typ: "m.room.message", content: `{}`, prevs: []*event.Event{mine},
			auth: append(slices.Clone(mine.AuthEvents[:len(mine.AuthEvents)-1]), mine.ID),
		})
		stranger := w.say("mallory:elsewhere.org", "hello", w.base)
		if got := w.outcomes(mine, stranger); got != "rr" {
			t.Errorf("got %s, want rr", got)
		}
		// What follows a rejected event stands on the state before it.
		good := w.make(proto{by: bobThere, typ: "m.room.message", content: `{}`, prevs: []*event.Event{mine}, auth: w.say(bobThere, "x", w.base).AuthEvents})
		if got := w.outcomes(after, relying, good); got != "rra" {
			t.Errorf("that rely on a rejected event, and one that does not: got %s, want rra", got)
		}
		if ev := w.stored(mine); ev.Kind != rooms.Rejected || ev.StateWith != ev.StateBefore || ev.StateUnknown {
			t.Errorf("rejected: stored as %+v", ev)
		}
		if got := w.state("m.room.power_levels", "", "users"); got == `{"@bob:elsewhere.org":100}` {
			t.Error("rejected power levels are state")
		}
		if got := w.outcomes(mine); got != "k" {
			t.Errorf("rejected again: got %s, want k", got)
		}
	})
}

func TestReceiveNotOfTheRoom(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		here := w.room
		other := lay(t, w.db, here.Version.ID)
		theirs := other.say(bobThere, "elsewhere", other.base)
		w.must(roomserver.Refused, theirs)
		if w.stored(theirs) != nil {
			t.Error("an event of another room is stored")
		}
		if here.Version.EventIDs != event.ChosenEventIDs { // MSC4307
			crossed := w.make(proto{
				by: bobThere, typ: "m.room.message", content: `{}`, prevs: []*event.Event{w.base},
				auth: append(slices.Clone(w.say(bobThere, "x", w.base).AuthEvents[:1]), other.after[other.base.ID][event.Key{Type: "m.room.member", StateKey: string(user(bobThere))}].ID),
			})
			w.must(roomserver.Rejected, crossed)
		}
		key := ""
		second := proto{by: bobThere, typ: "m.room.create", stateKey: &key, content: fmt.Sprintf(`{"room_version":%q,"creator":"@bob:elsewhere.org"}`, here.Version.ID)}
		if here.Version.RoomIDs == event.ChosenRoomIDs {
			second.by = "mallory" // of the server that the room is named after
			w.must(roomserver.Rejected, w.make(second))
		}
	})
}

// The current state may move where branches have long been in conflict, by what came a moment ago elsewhere: a join
// that only one branch has falls with the join rules. Whether all comes at once or one by one is the same.
func TestSoftFailureByOldConflict(t *testing.T) {
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("together %v", together), func(t *testing.T) {
			onWire(t, func(t *testing.T, w *wire) {
				joined := w.join("dan:third.org", w.base)
				w.must(roomserver.Accepted, joined, w.say(bobThere, "a branch without dan", w.base))
				closed := w.set("alice", "m.room.join_rules", `{"join_rule":"invite"}`, joined)
				said := w.say("dan:third.org", "hello", closed)
				var got string
				if together {
					got = w.outcomes(closed, said)
				} else {
					got = w.outcomes(closed) + w.outcomes(said)
				}
				want := "as"
				if w.room.Version.StateResolution == event.StateResolutionV1 {
					want = "aa" // where a join that only one branch has is in no conflict
				}
				if got != want {
					t.Errorf("got %s, want %s; dan is %s", got, want, w.memberState("dan:third.org"))
				}
			})
		})
	}
}

// Up to version 10 there are events with texts too long in bytes. They are rejected, and others may follow them.
func TestReceiveTooLong(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		if !w.room.Version.LooseTexts {
			t.Skip("none of this version passes the door")
		}
		text := string(w.set("alice", "org.example", `{}`, w.base).JSON)
		key := strings.Repeat("\U0001F4A5", 70)
		long, err := event.Parse(w.room.Version, []byte(strings.Replace(text, `"state_key":""`, `"state_key":"`+key+`"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		w.after[long.ID] = w.after[w.base.ID]
		after := w.say(bobThere, "after", long)
		w.remote.between = func(roomserver.Gap) []*event.Event { return []*event.Event{long} }
		w.must(roomserver.Accepted, after)
		if got := w.stored(long); got == nil || got.Kind != rooms.Rejected {
			t.Errorf("got %+v, want it rejected", got)
		}
		if got := w.state("org.example", key, "x"); got != "unset" {
			t.Errorf("it is state: %s", got)
		}
	})
}
