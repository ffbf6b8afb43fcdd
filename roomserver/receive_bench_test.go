package roomserver_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
)

// BenchmarkReceive takes messages that follow each other, one, fifty and more at a time. The time is of an event,
// without the check of its signatures.
func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{1, 50, 500, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			onBoth(b, func(b *testing.B, db *storage.DB) {
				w := lay(b, db, "11")
				all := make([]*event.Event, 0, b.N+1)
				for ev := w.base; len(all) < b.N; {
					ev = w.say(bobThere, "a message of ordinary length, as people write them to each other", ev)
					all = append(all, ev)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for some := range slices.Chunk(all, n) {
					for _, got := range w.receive(some...) {
						if got.Outcome != roomserver.Accepted {
							b.Fatal(got)
						}
					}
				}
			})
		})
	}
}

// BenchmarkMerge takes 20 branches that each set 10 pieces of state, and the event that joins them. "power" has the
// branches interleaved, and what they set decides over others.
func BenchmarkMerge(b *testing.B) {
	for _, members := range []int{1000, 50_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) { benchmarkMerge(b, members, (*wire).fork) })
	}
	b.Run("power", func(b *testing.B) { benchmarkMerge(b, 1000, (*wire).powerFork) })
}

func benchmarkMerge(b *testing.B, members int, fork func(w *wire, branches, keys int) []*event.Event) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		w := found(b, db, "11", 0)
		w.populate(members)
		if err := w.s.Adopt(context.Background(), w.answer(w.base)); err != nil {
			b.Fatal(err)
		}
		w.tie(w.room.ID)
		first := fork(w, 2, 1) // with which the auth graph is read, once for the room
		w.must(roomserver.Accepted, first...)
		w.base = first[len(first)-1]
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			all := fork(w, 20, 10)
			b.StartTimer()
			for _, got := range w.receive(all...) {
				if got.Outcome != roomserver.Accepted {
					b.Fatal(got)
				}
			}
			b.StopTimer()
			w.base = all[len(all)-1]
			b.StartTimer()
		}
	})
}

// BenchmarkFirstMerge takes two branches in a room that was not in memory: the auth graph of all its state is read.
func BenchmarkFirstMerge(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		w := found(b, db, "11", 0)
		w.populate(50_000)
		if err := w.s.Adopt(context.Background(), w.answer(w.base)); err != nil {
			b.Fatal(err)
		}
		w.tie(w.room.ID)
		set := settings(b, db)
		set.Remote = w.remote
		for b.Loop() {
			b.StopTimer()
			all := w.fork(2, 1)
			w.s = roomserver.New(set)
			b.StartTimer()
			for _, got := range w.receive(all...) {
				if got.Outcome != roomserver.Accepted {
					b.Fatal(got)
				}
			}
			b.StopTimer()
			w.base = all[len(all)-1]
			b.StartTimer()
		}
	})
}

// populate adds members to a room that is not adopted yet, without a copy of the state for each.
func (w *wire) populate(members int) {
	w.t.Helper()
	now := w.after[w.base.ID]
	w.after[w.base.ID] = nil
	auth := []matrix.EventID{now[event.Key{Type: "m.room.create"}].ID, now[event.Key{Type: "m.room.join_rules"}].ID}
	for i := range members {
		key := string(user(fmt.Sprintf("member%d:elsewhere.org", i)))
		ev := w.make(proto{
			by: key[1:], typ: "m.room.member", stateKey: &key, content: `{"membership":"join"}`, prevs: []*event.Event{w.base}, auth: auth,
		})
		now[ev.StateID()] = ev
		delete(w.after, ev.ID)
	}
	w.after[w.base.ID] = now
}

// fork makes branches from the base that set state, each the same keys, and an event that joins them.
func (w *wire) fork(branches, keys int) (all []*event.Event) {
	w.t.Helper()
	state := w.after[w.base.ID]
	auth := []matrix.EventID{}
	for _, key := range []event.Key{{Type: "m.room.create"}, {Type: "m.room.member", StateKey: string(user(bobThere))}} {
		auth = append(auth, state[key].ID)
	}
	w.after[w.base.ID] = nil
	var ends []*event.Event
	for range branches {
		at := w.base
		for k := range keys {
			key := fmt.Sprint(k)
			at = w.make(proto{
				by: bobThere, typ: "org.example.state", stateKey: &key, content: fmt.Sprintf(`{"n":%d}`, len(all)),
				prevs: []*event.Event{at}, auth: auth,
			})
			all = append(all, at)
		}
		ends = append(ends, at)
	}
	join := w.make(proto{by: bobThere, typ: "m.room.message", content: `{"body":"joined"}`, prevs: ends, auth: auth})
	w.after[join.ID] = state
	return append(all, join)
}

// powerFork makes branches from the base that all ban the same users, and an event that joins them. They come event by
// event from each branch in turn.
func (w *wire) powerFork(branches, keys int) (all []*event.Event) {
	w.t.Helper()
	state := w.after[w.base.ID]
	ends := make([]*event.Event, branches)
	for i := range ends {
		ends[i] = w.base
	}
	for k := range keys {
		for i := range ends {
			ends[i] = w.member(bobThere, fmt.Sprintf("victim%d:elsewhere.org", k), "ban", ends[i])
		}
		all = append(all, ends...)
	}
	join := w.say(bobThere, "joined", ends...)
	w.after[join.ID] = state
	return append(all, join)
}

// BenchmarkAdopt takes up a room.
func BenchmarkAdopt(b *testing.B) {
	for _, members := range []int{500, 5000, 20_000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			onBoth(b, func(b *testing.B, db *storage.DB) {
				for b.Loop() {
					b.StopTimer()
					w := found(b, db, "11", 0)
					w.populate(members)
					in := w.answer(w.base)
					b.StartTimer()
					if err := w.s.Adopt(context.Background(), in); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
