package roomserver_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// TestArrivalOrderDoesNotMatter sends the events of random graphs to two servers, in different orders and
// portions, and holds the states before each of them against each other.
func TestArrivalOrderDoesNotMatter(t *testing.T) {
	one, two := storagetest.Open(t, storagetest.SQLite), storagetest.Open(t, storagetest.SQLite)
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			version := []matrix.RoomVersion{"1", "2", "6", "10", "11", "12"}[r.IntN(6)]
			w := found(t, one, version, 4)
			mirror := &wire{t: t, db: two, room: w.room, remote: w.remote, after: maps.Clone(w.after)}
			set := settings(t, two)
			set.Remote = w.remote
			mirror.key, mirror.s = set.Key, roomserver.New(set)
			in := w.answer(w.base)
			for _, each := range []*wire{w, mirror} {
				if err := each.s.Adopt(context.Background(), in); err != nil {
					t.Fatal(err)
				}
				each.tie(w.room.ID)
			}
			all := w.randomGraph(r, 60)
			for _, each := range []*wire{w, mirror} {
				order := r.Perm(len(all))
				for len(order) > 0 {
					n := min(1+r.IntN(10), len(order))
					some := make([]*event.Event, n)
					for i := range some {
						some[i] = all[order[i]]
					}
					order = order[n:]
					each.receive(some...)
				}
				each.outcomes(all...)
				each.audit()
			}
			for i, ev := range all {
				got, want := w.stateBefore(ev), mirror.stateBefore(ev)
				if !maps.Equal(got, want) {
					t.Fatalf("v%s, event %d, %s of %s: the states before it differ:\n%v\n%v", version, i, ev.Type, ev.Sender, got, want)
				}
			}
		})
	}
}

// randomGraph makes events that follow one, two or three of those before them, by users that come, go, and
// change what others may.
func (w *wire) randomGraph(r *rand.Rand, n int) (all []*event.Event) {
	leaves := []*event.Event{w.base}
	who := func() string {
		return []string{bobThere, "member0:elsewhere.org", "member1:elsewhere.org", "dan:third.org"}[r.IntN(4)]
	}
	for len(all) < n {
		prevs := []*event.Event{leaves[r.IntN(len(leaves))]}
		for range r.IntN(3) {
			if ev := leaves[r.IntN(len(leaves))]; ev != prevs[0] && len(prevs) == 1 {
				prevs = append(prevs, ev)
			}
		}
		var ev *event.Event
		switch r.IntN(8) {
		case 0:
			ev = w.member(bobThere, who(), []string{"ban", "leave"}[r.IntN(2)], prevs...)
		case 1, 2:
			ev = w.join(who(), prevs...)
		case 3:
			levels := fmt.Sprintf(`{"users":{"@member0:elsewhere.org":%d,"@bob:elsewhere.org":100}}`, r.IntN(3)*50)
			if w.room.Version.CreatorsOutOfLevels {
				levels = fmt.Sprintf(`{"users":{"@member0:elsewhere.org":%d}}`, r.IntN(3)*50)
			}
			ev = w.set(bobThere, "m.room.power_levels", levels, prevs...)
		case 4, 5:
			ev = w.topic(who(), fmt.Sprint("topic ", len(all)), prevs...)
		default:
			ev = w.say(who(), fmt.Sprint("message ", len(all)), prevs...)
		}
		all = append(all, ev)
		if leaves = append(leaves, ev); len(leaves) > 6 {
			leaves = leaves[1:]
		}
	}
	return all
}

// stateBefore is the state before an event, and, as a piece of it, whether it was rejected.
func (w *wire) stateBefore(ev *event.Event) map[event.Key]matrix.EventID {
	w.t.Helper()
	stored := w.stored(ev)
	if stored == nil {
		w.t.Fatalf("%s is not stored", ev.ID)
	}
	events, err := w.s.StateAt(w.room, stored.StateBefore).All(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	state := make(map[event.Key]matrix.EventID)
	for _, each := range events {
		state[each.StateID()] = each.ID
	}
	if stored.Kind == rooms.Rejected {
		state[event.Key{Type: "rejected"}] = "yes"
	}
	return state
}
