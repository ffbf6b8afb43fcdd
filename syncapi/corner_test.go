package syncapi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
)

func TestStateAfterIsThereIfAskedFor(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, nil).NextBatch
		w.send(alice, room, "no state")
		r := w.sync(alice, query{"since": since, "use_state_after": "true"}).Rooms.Join[room]
		if r.StateAfter == nil || len(r.StateAfter.Events) != 0 || r.State != nil {
			t.Errorf("got state %v and state_after %v, want an empty state_after", r.State, r.StateAfter)
		}
		must(t, w.rooms.Invite(ctx, who(alice), roomserver.Move{Room: room, Target: bob}))
		since = w.sync(bob, nil).NextBatch
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		r = w.sync(bob, query{"since": since, "use_state_after": "true"}).Rooms.Leave[room]
		if r.StateAfter == nil {
			t.Fatalf("refused invite: got no state_after, want one")
		}
		want(t, "state_after of a refused invite", bodies(r.StateAfter.Events), "leave @bob:test")
	})
}

// Members that changed in a gap are told, whether or not they speak in the timeline.
func TestLazyClientsLearnOfMembersInGaps(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		w.join(room, bob, carol)
		filter := `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":2}}}`
		since := w.sync(alice, query{"filter": filter}).NextBatch
		must(t, w.rooms.Leave(ctx, who(carol), room, ""))
		for i := range 3 {
			w.send(alice, room, fmt.Sprint(i))
		}
		r := w.sync(alice, query{"since": since, "filter": filter}).Rooms.Join[room]
		if got := strings.Join(members(r.State), " "); !strings.Contains(got, "leave @carol:test") {
			t.Errorf("members: got %q, want carol's leave in it", got)
		}
	})
}

// What is filtered out of the timeline, or hidden in it, still moves the state.
func TestStateOfEventsNotShown(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		since := w.sync(bob, nil).NextBatch
		w.send(alice, room, "before")
		w.state(alice, room, "m.room.topic", `{"topic":"x"}`)
		w.send(alice, room, "after")
		filter := `{"room":{"timeline":{"not_types":["m.room.topic"]}}}`
		r := w.sync(bob, query{"since": since, "filter": filter}).Rooms.Join[room]
		want(t, "timeline", bodies(r.Timeline.Events), "before", "after")
		if r.State == nil {
			t.Fatalf("filtered: got no state, want the topic")
		}
		want(t, "state", bodies(r.State.Events), "m.room.topic")

		w.state(alice, room, "m.room.history_visibility", `{"history_visibility":"joined"}`)
		since = w.sync(bob, nil).NextBatch
		w.state(alice, room, "m.room.name", `{"name":"seen"}`)
		must(t, w.rooms.Leave(ctx, who(bob), room, ""))
		w.state(alice, room, "m.room.name", `{"name":"hidden"}`)
		w.join(room, bob)
		r = w.sync(bob, query{"since": since}).Rooms.Join[room]
		want(t, "timeline after coming back", bodies(r.Timeline.Events), "leave @bob:test", "join @bob:test")
		var names []string
		for _, e := range r.State.Events {
			if e.Type == "m.room.name" {
				names = append(names, string(e.Content))
			}
		}
		want(t, "name", names, `{"name":"hidden"}`)
		if !r.Timeline.Limited {
			t.Errorf("got a timeline that claims to be whole, want it limited")
		}
	})
}

// Two requests of a device may be under way at once: only the answer that the client goes on from counts.
func TestLazyMembersOfAnAnswerThatWasNotTaken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		w.join(room, carol, bob)
		q := query{"filter": `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`}
		first := w.sync(bob, q)
		w.send(alice, room, "taken")
		q["since"] = first.NextBatch
		taken := w.sync(bob, q)
		w.send(carol, room, "lost")
		lost := w.sync(bob, q)
		want(t, "members of the lost answer", members(lost.Rooms.Join[room].State), "join @carol:test")
		q["since"] = taken.NextBatch
		r := w.sync(bob, q).Rooms.Join[room]
		if got := members(r.State); len(got) != 1 || got[0] != "join @carol:test" {
			t.Errorf("members after going on from the other: got %q, want carol's", got)
		}
	})
}

func TestUnusableTokensAreAnsweredWhole(t *testing.T) {
	w := newWorld(t, "sqlite")
	room := w.create(alice, roomserver.CreateRoom{})
	r := w.sync(alice, query{"since": "sother_5_5_b1_0"}).Rooms.Join[room]
	if !r.Timeline.Limited || len(r.Timeline.Events) == 0 {
		t.Errorf("got %+v, want the whole room, with a gap before it", r.Timeline)
	}
}

func TestPrivateReceiptsWakeNobodyElse(t *testing.T) {
	w := newWorld(t, "sqlite")
	room := w.create(alice, roomserver.CreateRoom{})
	w.join(room, bob)
	id := w.send(alice, room, "x")
	since := w.sync(bob, query{"set_presence": "offline"}).NextBatch
	must(t, w.rooms.SetReceipt(ctx, who(alice), roomserver.SetReceipt{Room: room, Type: "m.read.private", Event: id}))
	if a := w.sync(bob, query{"since": since, "timeout": "50", "set_presence": "offline"}); len(a.Rooms.Join) != 0 {
		t.Errorf("got %+v, want nothing", a.Rooms.Join)
	}
}

// afterGap marks an event as one that came when others before it were missing.
type afterGap matrix.EventID

// Rows implements storage.Write.
func (id afterGap) Rows(it *storage.Item) {
	it.Exec(`UPDATE events SET after_gap = TRUE WHERE event_id = $1`, string(id))
}

// What is missing before an event may be found later, and is no news then: a timeline that reached over the gap would
// hide it for good.
func TestTimelineBeginsAfterAGap(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, nil).NextBatch
		w.send(alice, room, "before")
		first := w.send(alice, room, "first after the gap")
		w.send(alice, room, "second")
		_, err := w.db.Commit(ctx, afterGap(first))
		must(t, err)
		w.start()
		for name, q := range map[string]query{
			"initial":     {},
			"incremental": {"since": since},
			"filtered":    {"since": since, "filter": `{"room":{"timeline":{"not_types":["m.room.topic"]}}}`},
		} {
			r := w.sync(alice, q).Rooms.Join[room]
			want(t, name, bodies(r.Timeline.Events), "first after the gap", "second")
			if !r.Timeline.Limited {
				t.Errorf("%s: got a timeline that claims to be whole, want it limited", name)
			}
		}
		none := w.sync(alice, query{"since": since, "filter": `{"room":{"timeline":{"not_types":["m.room.message"]}}}`})
		if r := none.Rooms.Join[room]; len(r.Timeline.Events) != 0 || !r.Timeline.Limited {
			t.Errorf("nothing wanted: got %+v, want an empty, limited timeline", r.Timeline)
		}
		since = w.sync(alice, nil).NextBatch
		w.send(alice, room, "third")
		if r := w.sync(alice, query{"since": since}).Rooms.Join[room]; r.Timeline.Limited || len(r.Timeline.Events) != 1 {
			t.Errorf("long after the gap: got %+v, want one event, not limited", r.Timeline)
		}
	})
}
