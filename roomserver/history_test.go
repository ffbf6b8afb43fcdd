package roomserver_test

import (
	"context"
	"fmt"
	"maps"
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

// found makes a room of bob elsewhere, of which we know nothing, with members and messages.
func found(t testing.TB, db *storage.DB, version matrix.RoomVersion, members int) *wire {
	t.Helper()
	w := &wire{t: t, db: db, remote: newScript(), after: make(map[matrix.EventID]map[event.Key]*event.Event)}
	set := settings(t, db)
	set.Remote = w.remote
	w.key = set.Key
	w.s = roomserver.New(set)
	v, _ := event.VersionOf(version)
	w.room = rooms.Room{Version: v}
	if v.RoomIDs == event.ChosenRoomIDs {
		w.room.ID = matrix.RoomID(fmt.Sprintf("!room%d:elsewhere.org", db.NextNumber()))
	}
	key := ""
	create := w.make(proto{
		by: bobThere, typ: "m.room.create", stateKey: &key, depth: 1,
		content: fmt.Sprintf(`{"room_version":%q,"creator":"@bob:elsewhere.org","n":%d}`, version, db.NextNumber()),
	})
	w.room.ID = create.RoomID
	ev := w.join(bobThere, create)
	ev = w.set(bobThere, "m.room.join_rules", `{"join_rule":"public"}`, ev)
	for i := range members {
		ev = w.join(fmt.Sprintf("member%d:elsewhere.org", i), ev)
	}
	w.base = ev
	return w
}

// answer is what bob's server says to the join of alice after an event.
func (w *wire) answer(prev *event.Event) roomserver.JoinAnswer {
	w.t.Helper()
	in := roomserver.JoinAnswer{Room: w.room.ID, Version: w.room.Version, State: slices.Collect(maps.Values(w.after[prev.ID]))}
	slices.SortFunc(in.State, func(a, b *event.Event) int { return strings.Compare(string(a.ID), string(b.ID)) })
	in.AuthChain = in.State
	in.Join = w.join("alice", prev)
	return in
}

func TestAdopt(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		said := w.row(bobThere, 5, w.base)
		in := w.answer(said[4])
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		w.audit()
		if w.base.ID != in.Join.ID {
			t.Errorf("the room ends with %s, want the join", w.base.ID)
		}
		if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, "hello")); err != nil {
			t.Error(err)
		}
		w.must(roomserver.Accepted, w.say(bobThere, "welcome", w.base))
		// The history is fetched when it is wanted, and then there is no more.
		for _, each := range in.State {
			w.remote.know(each, nil)
		}
		join := w.stored(in.Join)
		for _, ev := range []*event.Event{said[4], said[3], said[2], said[1], said[0]} {
			w.tellState(ev, w.base)
			w.remote.states[ev.ID] = in.State
		}
		if n, err := w.s.Backfill(ctx, w.room.ID, join.Order, 3); n != 3 || err != nil {
			t.Fatalf("backfill: got %d, %v; want 3", n, err)
		}
		if n, err := w.s.Backfill(ctx, w.room.ID, join.Order, 100); n != 2+len(in.State) || err != nil {
			t.Fatalf("backfill: got %d, %v; want %d", n, err, 2+len(in.State))
		}
		if n, err := w.s.Backfill(ctx, w.room.ID, join.Order, 100); n != 0 || err != nil {
			t.Fatalf("backfill at the beginning: got %d, %v; want none", n, err)
		}
		w.checkHistory(said[4])
		w.audit()
	})
}

// checkHistory: the timeline is in order, from the beginning on; what is history has no position.
func (w *wire) checkHistory(last *event.Event) {
	w.t.Helper()
	all, err := rooms.Page(context.Background(), w.db, w.room, rooms.PageQuery{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	seen := make(map[matrix.EventID]bool)
	for _, ev := range all {
		for _, prev := range ev.PrevEvents {
			if !seen[prev] {
				w.t.Errorf("%s %s comes before %s, which it follows", ev.Type, ev.ID, prev)
			}
		}
		seen[ev.ID] = true
		if (ev.Kind == rooms.Backfilled) != (ev.Position == 0) {
			w.t.Errorf("%s: kind %d with position %d", ev.ID, ev.Kind, ev.Position)
		}
		if ev.StateUnknown {
			w.t.Errorf("%s: the state before it is not known", ev.ID)
		}
	}
	if !seen[last.ID] || all[0].Type != event.TypeCreate {
		w.t.Errorf("the timeline begins with %s, want the create event", all[0].Type)
	}
}

func onFound(t *testing.T, f func(t *testing.T, w *wire)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, version := range []matrix.RoomVersion{"1", "6", "11", "12"} {
			t.Run("v"+string(version), func(t *testing.T) { f(t, found(t, db, version, 3)) })
		}
	})
}

// Without the state at its oldest event history is kept, and shown to nobody.
func TestBackfillWithoutState(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		said := w.row(bobThere, 5, w.base)
		in := w.answer(said[4])
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		w.remote.hidden[said[1].ID] = true
		if n, err := w.s.Backfill(ctx, w.room.ID, w.stored(in.Join).Order, 100); n != 3 || err != nil {
			t.Fatalf("got %d, %v; want 3", n, err)
		}
		for i, ev := range said[2:] {
			if got := w.stored(ev); got == nil || !got.StateUnknown || got.Kind != rooms.Backfilled {
				t.Errorf("message %d: got %+v, want it backfilled with unknown state", i+2, got)
			}
		}
	})
}

func TestAdoptRefuses(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		forged := w.set("mallory:elsewhere.org", "m.room.power_levels", `{"users":{"@mallory:elsewhere.org":100}}`, w.base)
		in := w.answer(w.base)
		in.State = append(in.State, forged)
		for name, spoil := range map[string]func(in *roomserver.JoinAnswer){
			"no create event": func(in *roomserver.JoinAnswer) {
				in.State = slices.DeleteFunc(slices.Clone(in.State), func(ev *event.Event) bool { return ev.Type == event.TypeCreate })
			},
			"two for one place": func(in *roomserver.JoinAnswer) { in.State = append(slices.Clone(in.State), in.State[0]) },
			"another room":      func(in *roomserver.JoinAnswer) { in.Room = "!other:elsewhere.org" },
			"no join":           func(in *roomserver.JoinAnswer) { in.Join = in.State[0] },
			"nobody may join": func(in *roomserver.JoinAnswer) {
				in.State = slices.DeleteFunc(slices.Clone(in.State), func(ev *event.Event) bool { return ev.Type == event.TypeJoinRules })
			},
		} {
			bad := in
			spoil(&bad)
			if err := w.s.Adopt(ctx, bad); err == nil {
				t.Errorf("%s: no error", name)
			}
			if _, err := w.s.Current(ctx, w.room.ID); matrix.CodeOf(err) != matrix.NotFound {
				t.Errorf("%s: the room is there: %v", name, err)
			}
		}
		// What its auth events do not allow is left out of an answer that is good else.
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		if got := w.state("m.room.power_levels", "", "users"); got != "unset" {
			t.Errorf("forged power levels are state: %s", got)
		}
		w.tie(w.room.ID)
		w.audit()
	})
}

func TestRejoin(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		if err := w.s.Adopt(ctx, w.answer(w.base)); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		if err := w.s.Leave(ctx, as("alice"), w.room.ID, ""); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		// The room goes on without us.
		topic := w.topic(bobThere, "new", w.join("dan:third.org", w.base))
		in := w.answer(topic)
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{in.Join.ID}) {
			t.Errorf("extremities: got %v, want the join alone", got)
		}
		if topic, dan := w.state("m.room.topic", "", "topic"), w.memberState("dan:third.org"); topic != "new" || dan != "join" {
			t.Errorf("topic %s, dan %s: want what came meanwhile", topic, dan)
		}
		w.audit()
	})
}

// Others may already have gone on from our join when its answer is taken up. Then the join takes its place before them,
// with the state that was told for them.
func TestRejoinIsFollowed(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		if err := w.s.Adopt(ctx, w.answer(w.base)); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		if err := w.s.Leave(ctx, as("alice"), w.room.ID, ""); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		topic := w.topic(bobThere, "new", w.base)
		in := w.answer(topic)
		welcome := w.say(bobThere, "welcome", in.Join)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(in.Join, topic)
		w.must(roomserver.Accepted, welcome)
		before := w.stored(in.Join).StateBefore
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		if got := w.extremities(); !slices.Contains(got, welcome.ID) || slices.Contains(got, in.Join.ID) {
			t.Errorf("extremities: got %v, want the welcome %s among them and not the join", got, welcome.ID)
		}
		if got := w.stored(in.Join); got.Kind != rooms.Live || got.StateBefore != before {
			t.Errorf("the join: got %+v, want it live, with the state before it as it was", got)
		}
		if topic, alice := w.state("m.room.topic", "", "topic"), w.memberState("alice"); topic != "new" || alice != "join" {
			t.Errorf("topic %s, alice %s: want what was told", topic, alice)
		}
		w.audit()
	})
}
