package rooms

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

func TestAuthNodes(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		a := Append{Room: room, NewRoom: true}
		first, second, rejected := w.event(room, "alice join"), w.event(room, "bob join"), w.event(room, "carol join")
		first.Accepted, second.Accepted = true, true
		second.Auth = []int64{first.Num}
		rejected.Kind, rejected.Members = Rejected, nil
		first.Kind, first.StateUnknown, first.Members = Outlier, true, nil
		a.Events = []NewEvent{first, second, rejected, w.event(room, "a message")}
		w.commit(a)
		var got []AuthNode
		err := EachAuthNode(ctx, w.db, room.Num, func(n AuthNode) error { got = append(got, n); return nil })
		key := func(name string) event.Key {
			return event.Key{Type: event.TypeMember, StateKey: "@" + name + ":example.org"}
		}
		want := []AuthNode{{first.Num, key("alice"), []int64{}}, {second.Num, key("bob"), []int64{first.Num}}}
		if err != nil || !reflect.DeepEqual(got, want) {
			w.t.Errorf("got %v, %v; want %v", got, err, want)
		}
		rows, err := StateRowsByID(ctx, w.db, room.Num, []matrix.EventID{first.ID, rejected.ID, "$none"})
		slices.SortFunc(rows, func(a, b StateRow) int { return int(a.Num - b.Num) })
		wantRows := []StateRow{{first.ID, first.Num, key("alice"), true}, {rejected.ID, rejected.Num, key("carol"), false}}
		if err != nil || !reflect.DeepEqual(rows, wantRows) {
			w.t.Errorf("got %v, %v; want %v", rows, err, wantRows)
		}
		elsewhere, err := ElsewhereByID(ctx, w.db, Room{Num: room.Num + 1}, []matrix.EventID{first.ID, "$none"})
		if err != nil || !slices.Equal(elsewhere, []matrix.EventID{first.ID}) {
			w.t.Errorf("elsewhere: got %v, %v", elsewhere, err)
		}
	})
}

// An outlier that gets its place is the same row.
func TestPlaceIsAdded(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		ev := w.event(room, "late")
		ev.Kind, ev.StateUnknown, ev.StateBefore, ev.StateWith = Outlier, true, 0, 0
		w.commit(Append{Room: room, NewRoom: true, Events: []NewEvent{ev}})
		if got, _, err := EventByID(ctx, w.db, room, ev.ID); err != nil || !got.StateUnknown || got.Position != 0 || got.Kind != Outlier {
			w.t.Fatalf("got %+v, %v; want an outlier", got, err)
		}
		placed := *ev.Event
		placed.Kind, placed.StateUnknown, placed.StateBefore, placed.StateWith = Live, false, 5, 6
		at := w.commit(Append{Room: room, Events: []NewEvent{{Event: &placed, Known: true}}})
		got, _, err := EventByID(ctx, w.db, room, ev.ID)
		if err != nil || got.Num != ev.Num || got.Kind != Live || got.Position != at || got.StateBefore != 5 || got.StateWith != 6 || got.StateUnknown {
			w.t.Errorf("got %+v, %v; want it live at %d", got, err, at)
		}
	})
}

func TestGaps(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		if has, err := HasGaps(ctx, w.db, room.Num); has || err != nil {
			w.t.Errorf("gaps of a room without events: %v, %v", has, err)
		}
		a := Append{Room: room, NewRoom: true}
		for i := range 3 {
			ev := w.event(room, fmt.Sprint("m", i))
			ev.Lacks = []matrix.EventID{matrix.EventID(fmt.Sprint("$lost", i))}
			a.Events = append(a.Events, ev)
		}
		first := w.commit(a)
		near := func(p int64) string {
			found, err := GapsNear(ctx, w.db, room.Num, Order{Anchor: first, Sub: p}, 10)
			if err != nil {
				w.t.Fatal(err)
			}
			var all []string
			for _, g := range found {
				all = append(all, string(g.Lacks))
			}
			return strings.Join(all, " ")
		}
		for _, c := range []struct {
			sub  int64
			want string
		}{{0, "$lost0"}, {-1, "$lost0 $lost1 $lost2"}} {
			if got := near(c.sub); got != c.want {
				w.t.Errorf("near %d: got %q, want %q", c.sub, got, c.want)
			}
		}
		filling := w.event(room, "found")
		lost := *filling.Event.Event
		lost.ID = "$lost1"
		filling.Event.Event, filling.Fills = &lost, true
		filling.Kind, filling.Order = Backfilled, Order{Anchor: first + 1, Sub: -1}
		w.commit(Append{Room: room, Events: []NewEvent{filling}})
		for id, want := range map[matrix.EventID]bool{"$lost0": true, "$lost1": false} {
			got, err := Lacked(ctx, w.db, room.Num, []matrix.EventID{id})
			if shown, lacked := got[id]; lacked != want || shown != want || err != nil {
				w.t.Errorf("%s: lacked %v, shown %v, %v; want %v", id, lacked, shown, err, want)
			}
		}
		if got, err := LowestOf(ctx, w.db, room.Num, Order{Anchor: first + 1}); got != -1 || err != nil {
			w.t.Errorf("lowest: got %d, %v; want -1", got, err)
		}
		if got, err := LowestOf(ctx, w.db, room.Num, Order{Anchor: first}); got != 0 || err != nil {
			w.t.Errorf("lowest: got %d, %v; want 0", got, err)
		}
	})
}

// A gap goes on behind an event that is not in the timeline, as one of all that lacked it.
func TestGapMoves(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		shown, hidden, filling := w.event(room, "shown"), w.event(room, "hidden"), w.event(room, "filling")
		shown.Lacks = []matrix.EventID{filling.ID}
		hidden.Kind, hidden.Lacks = Rejected, []matrix.EventID{filling.ID, "$other"}
		w.commit(Append{Room: room, NewRoom: true, Events: []NewEvent{shown, hidden}})
		got, err := Lacked(ctx, w.db, room.Num, []matrix.EventID{"$other", filling.ID, "$strange"})
		want := map[matrix.EventID]bool{"$other": false, filling.ID: true}
		if !maps.Equal(got, want) || err != nil {
			w.t.Errorf("what is lacked, and whether visibly: got %v, %v; want %v", got, err, want)
		}
		filling.Kind, filling.Fills, filling.Lacks = SoftFailed, true, []matrix.EventID{"$one", "$other"}
		w.commit(Append{Room: room, Events: []NewEvent{filling}})
		for _, c := range []struct {
			of   NewEvent
			want string
		}{{shown, "[$one $other]"}, {hidden, "[$one $other]"}, {filling, "[$one $other]"}} {
			if got, err := LackedBy(ctx, w.db, room.Num, c.of.Num); fmt.Sprint(got) != c.want || err != nil {
				w.t.Errorf("%s lacks %v, %v; want %s", c.of.Content, got, err, c.want)
			}
		}
		if got, err := Lacked(ctx, w.db, room.Num, []matrix.EventID{filling.ID}); len(got) > 0 || err != nil {
			w.t.Errorf("what came is lacked: %v, %v", got, err)
		}
	})
}

// A move of the current state beyond the events is news of its own, after them.
func TestMove(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		ev := w.event(room, "hello")
		ev.Then = &Move{RoomNum: room.Num, Room: room.ID, Root: 9, Members: []Membership{{RoomNum: room.Num, User: bob, Membership: event.Leave, EventNum: ev.Num}}}
		first := w.commit(Append{Room: room, NewRoom: true, Events: []NewEvent{ev}, Head: &Head{Root: 9}})
		if root, err := RootAt(ctx, w.db, room.Num, first+1); root != 9 || err != nil {
			w.t.Errorf("root: got %d, %v", root, err)
		}
		if m, found, err := MembershipOf(ctx, w.db, room.Num, bob); !found || m.Position != first+1 || err != nil {
			w.t.Errorf("membership: got %+v, %v", m, err)
		}
		if head, _, err := HeadOf(ctx, w.db, room.Num); head.Position != first+1 || err != nil {
			w.t.Errorf("head: got %+v, %v", head, err)
		}
		joined, err := JoinedOf(ctx, w.db, room.Num, "example.org", 5)
		if len(joined) != 0 || err != nil {
			w.t.Errorf("joined: got %v, %v", joined, err)
		}
		w.commit(ImportMembers{Members: []Membership{{RoomNum: room.Num, User: bob, Membership: event.Join, EventNum: ev.Num}}})
		if joined, err = JoinedOf(ctx, w.db, room.Num, "example.org", 5); len(joined) != 1 || err != nil {
			w.t.Errorf("joined: got %v, %v", joined, err)
		}
		if servers, err := JoinedServers(ctx, w.db, room.Num, 5); len(servers) != 1 || servers[0] != "example.org" || err != nil {
			w.t.Errorf("servers: got %v, %v", servers, err)
		}
	})
}
