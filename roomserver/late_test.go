package roomserver_test

import (
	"context"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Events from before a gap come late, oldest first. Nothing says of the first of them that others follow them; when
// what they lead to has come, they are no forward extremities.
func TestLateEventsAreNoExtremities(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		first := w.topic("alice", "first", w.base)
		second := w.topic("alice", "second", w.say(bobThere, "between", first))
		edge := w.say(bobThere, "edge", second)
		last := w.say(bobThere, "last", edge)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(edge, second)
		w.must(roomserver.Accepted, last)
		w.must(roomserver.Accepted, first)
		w.remote.between = nil
		w.must(roomserver.Accepted, second)
		w.must(roomserver.Accepted, edge)
		if got := w.extremities(); !slices.Equal(got, []matrix.EventID{last.ID}) {
			t.Errorf("extremities: got %v, want the last event alone", got)
		}
		if got := w.state("m.room.topic", "", "topic"); got != "second" {
			t.Errorf("topic: got %s, want second", got)
		}
	})
}

// What authorises an event of a fetched state may come in the same delivery: the state is whole for all that, or it is
// not taken.
func TestStateAtGapStandsOnDelivery(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		joined := w.join("dan:third.org", w.base)
		key := string(user("dan:third.org"))
		renamed := w.make(proto{
			by: "dan:third.org", typ: "m.room.member", stateKey: &key, content: `{"displayname":"Dan","membership":"join"}`,
			prevs: []*event.Event{joined},
		})
		edge := w.say(bobThere, "edge", w.say(bobThere, "lost", renamed))
		last := w.say(bobThere, "last", edge)
		w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
		w.tellState(edge, renamed)
		w.must(roomserver.Accepted, joined, last)
		before := w.s.StateAt(w.room, w.stored(last).StateBefore)
		if _, ev, err := before.Member(context.Background(), user("dan:third.org")); err != nil || ev == nil || ev.ID != renamed.ID {
			t.Errorf("dan in the state before the last event: got %v, %v; want %s", ev, err, renamed.ID)
		}
	})
}

// An invite that was set aside, since this server was not in the room, is as good as not here for the room: for a state
// that has it, for events that follow it, and for those that it authorises.
func TestAsideIsFetched(t *testing.T) {
	for name, come := range map[string]func(w *wire, invite *event.Event){
		"in a state": func(w *wire, invite *event.Event) {
			edge := w.say(bobThere, "edge", invite)
			w.tellState(edge, invite)
			last := w.say(bobThere, "last", edge)
			w.must(roomserver.Accepted, last)
			before := w.s.StateAt(w.room, w.stored(last).StateBefore)
			if m, _, err := before.Member(context.Background(), user("carla")); err != nil || m != event.Invite {
				w.t.Errorf("carla in the state before the last event: got %q, %v; want invite", m, err)
			}
		},
		"as a prev event": func(w *wire, invite *event.Event) {
			w.tellState(invite, w.base)
			w.must(roomserver.Accepted, w.member(bobThere, "carla", "leave", invite))
		},
		"as an auth event": func(w *wire, invite *event.Event) {
			key := string(user("carla"))
			w.must(roomserver.Accepted, w.make(proto{
				by: bobThere, typ: "m.room.member", stateKey: &key, content: `{"membership":"leave"}`,
				prevs: []*event.Event{w.base}, auth: w.member(bobThere, "carla", "leave", invite).AuthEvents,
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFound(t, func(t *testing.T, w *wire) {
				ctx := context.Background()
				set := settings(t, w.db)
				set.Remote, set.Profiles = w.remote, &people{names: map[matrix.UserID]string{user("carla"): "Carla"}}
				w.s = roomserver.New(set)
				invite := w.member(bobThere, "carla", "invite", w.base)
				if _, err := w.s.ReceiveInvite(ctx, invite, nil); err != nil {
					t.Fatal(err)
				}
				base := w.base
				if err := w.s.Adopt(ctx, w.answer(base)); err != nil { // on another branch
					t.Fatal(err)
				}
				w.tie(w.room.ID)
				w.remote.between = func(roomserver.Gap) []*event.Event { return nil }
				come(w, invite)
			})
		})
	}
}

// A user of ours whose join the room knows, while its answer was lost, is in the room when another brings it here.
func TestAdoptFindsOwnMembers(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		set := settings(t, w.db)
		set.Remote, set.Profiles = w.remote, &people{names: map[matrix.UserID]string{user("carla"): "Carla"}}
		w.s = roomserver.New(set)
		invite := w.member(bobThere, "carla", "invite", w.base)
		if _, err := w.s.ReceiveInvite(ctx, invite, nil); err != nil {
			t.Fatal(err)
		}
		before := w.db.Position()
		in := w.answer(w.join("dora", w.join("carla", invite)))
		in.AuthChain = append(slices.Clone(in.AuthChain), invite)
		if err := w.s.Adopt(ctx, in); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		for _, name := range []string{"carla", "dora"} {
			m, found, err := rooms.MembershipOf(ctx, w.db, w.room.Num, user(name))
			if err != nil || !found || m.Membership != event.Join || m.Position <= before {
				t.Errorf("%s: got %+v, %v; want it joined, as news", name, m, err)
			}
		}
		w.audit()
	})
}
