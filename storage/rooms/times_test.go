package rooms

import (
	"cmp"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

// timed stores a message that carries a time, at a place in the timeline: live if that is zero.
func (w *world) timed(room Room, body string, ms int64, at Order) {
	w.t.Helper()
	n := w.eventAt(room, body, ms)
	if at != (Order{}) {
		n.Kind, n.Order, n.StateUnknown = Backfilled, at, true
	} else if n.Untimely = ms < w.latestMS[room.Num]; !n.Untimely {
		w.latestMS[room.Num] = ms
	}
	w.commit(Append{Room: room, Events: []NewEvent{n}})
}

func (w *world) byTime(room Room, q TimeQuery) string {
	w.t.Helper()
	found, err := ByTime(ctx, w.db, room, q)
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies(found)
}

// Of the same time, what stands nearest in the room's order comes first; what is in no timeline is not found.
func TestByTime(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.commit(Append{Room: room, NewRoom: true})
		other := w.room("two")
		w.commit(Append{Room: other, NewRoom: true})
		first := w.db.Position() + 1
		for _, e := range []struct {
			body string
			ms   int64
		}{{"a", 100}, {"b", 200}, {"c", 200}, {"imported", 50}, {"d", 200}, {"e", 300}} {
			w.timed(room, e.body, e.ms, Order{})
		}
		w.timed(room, "old", 200, Order{Anchor: first, Sub: -1})
		w.timed(room, "older", 10, Order{Anchor: first, Sub: -2})
		w.timed(other, "elsewhere", 200, Order{})
		hidden := w.event(room, "outlier")
		hidden.Kind, hidden.StateUnknown = Outlier, true
		w.commit(Append{Room: room, Events: []NewEvent{hidden}})
		for _, c := range []struct {
			ms       int64
			backward bool
			want     string
		}{
			{-1, false, "older imported a old b c d e"},
			{50, false, "imported a old b c d e"},
			{200, false, "old b c d e"},
			{201, false, "e"},
			{301, false, ""},
			{1<<63 - 1, true, "e d c b old a imported older"},
			{200, true, "d c b old a imported older"},
			{199, true, "a imported older"},
			{9, true, ""},
		} {
			q := TimeQuery{Moment: Moment{AtMS: c.ms, Backward: c.backward}, Limit: 100}
			if got := w.byTime(room, q); got != c.want {
				w.t.Errorf("%d, backward %v: got %q, want %q", c.ms, c.backward, got, c.want)
			}
			// One by one they are the same.
			var got string
			for q.Limit = 1; len(got) < 1000; {
				found, err := ByTime(ctx, w.db, room, q)
				if err != nil {
					w.t.Fatal(err)
				}
				if len(found) == 0 {
					break
				}
				got, q.Beyond = got+" "+body(found[0]), found[0]
			}
			if got != " "+c.want && got+c.want != "" {
				w.t.Errorf("%d, backward %v, one by one: got %q, want %q", c.ms, c.backward, got, c.want)
			}
		}
	})
}

// However times and places are mixed, what is found is what a look at all events would find.
func TestByTimeIsComplete(t *testing.T) {
	each(t, func(w *world) {
		random := mathrand.New(mathrand.NewPCG(1, 2))
		room := w.room("one")
		w.commit(Append{Room: room, NewRoom: true})
		for i := range 120 {
			at := Order{}
			if i > 0 && random.IntN(4) == 0 {
				at = Order{Anchor: w.db.Position(), Sub: -int64(i)}
			}
			w.timed(room, fmt.Sprint("m", i), int64(i/2+random.IntN(3)*random.IntN(20)-10), at)
		}
		all := w.page(room, PageQuery{Limit: 1000})
		slices.SortStableFunc(all, func(a, b *Event) int { return cmp.Compare(a.OriginServerTS, b.OriginServerTS) })
		for range 150 {
			q := TimeQuery{Moment: Moment{AtMS: int64(random.IntN(100) - 15), Backward: random.IntN(2) == 0}, Limit: 1 + random.IntN(9)}
			if random.IntN(2) == 0 {
				q.Beyond = all[random.IntN(len(all))]
			}
			want := slices.DeleteFunc(slices.Clone(all), func(e *Event) bool {
				if q.Beyond == nil {
					return !q.Includes(e.OriginServerTS)
				}
				c := cmp.Or(cmp.Compare(e.OriginServerTS, q.Beyond.OriginServerTS), e.Order.Compare(q.Beyond.Order))
				return c == 0 || q.Backward == (c > 0)
			})
			if q.Backward {
				slices.Reverse(want)
			}
			if got, want := w.byTime(room, q), bodies(want[:min(len(want), q.Limit)]); got != want {
				w.t.Fatalf("%+v: got %q, want %q", q, got, want)
			}
		}
	})
}

// An outlier that gets its place can be found by its time from then on.
func TestByTimeOfPlaced(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		n := w.event(room, "late")
		outlier := *n.Event
		outlier.Kind, outlier.StateUnknown = Outlier, true
		w.commit(Append{Room: room, NewRoom: true, Events: []NewEvent{{Event: &outlier}}})
		q := TimeQuery{Limit: 9}
		if got := w.byTime(room, q); got != "" {
			w.t.Errorf("an outlier: got %q, want nothing", got)
		}
		w.commit(Append{Room: room, Events: []NewEvent{{Event: n.Event, Known: true}}})
		if got := w.byTime(room, q); got != "late" {
			w.t.Errorf("in its place: got %q, want late", got)
		}
	})
}

// Stretches that are begun one below the other, or between two, leave room on both sides.
func TestStretches(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.commit(Append{Room: room, NewRoom: true})
		w.timed(room, "live", 1, Order{})
		live := Order{Anchor: w.db.Position()}
		below := func(at Order) Order {
			w.t.Helper()
			got, ok, err := StretchBelow(ctx, w.db, room.Num, at)
			if err != nil || !ok || got.Compare(at) >= 0 || got.Stretch() == at.Stretch() {
				w.t.Fatalf("below %v: got %v, %v, %v", at, got, ok, err)
			}
			return got
		}
		lowest := func(at Order, want int64) {
			w.t.Helper()
			if got, err := LowestOf(ctx, w.db, room.Num, at); got != want || err != nil {
				w.t.Errorf("lowest of %v: got %d, %v; want %d", at, got, err, want)
			}
		}
		w.timed(room, "history", 1, Order{live.Anchor, -1})
		oldest := below(live)
		w.timed(room, "oldest", 1, Order{oldest.Anchor, oldest.Sub - 1})
		between := below(live)
		if between.Compare(oldest) <= 0 {
			w.t.Errorf("between: got %v, want it above %v", between, oldest)
		}
		w.timed(room, "between", 1, Order{between.Anchor, between.Sub - 1})
		below(oldest)
		lowest(live, -1)
		lowest(Order{live.Anchor, -1}, -1)
		lowest(between, between.Sub-1)
		lowest(oldest, oldest.Sub-1)
		if got := bodies(w.page(room, PageQuery{Limit: 9})); got != "oldest between history live" {
			w.t.Errorf("got %q", got)
		}
		// The place between two is used up in the end.
		for i := range 64 {
			at, ok, err := StretchBelow(ctx, w.db, room.Num, live)
			if err != nil {
				w.t.Fatal(err)
			}
			if !ok {
				return
			}
			w.timed(room, fmt.Sprint("more", i), 1, Order{at.Anchor, at.Sub - 1})
		}
		w.t.Error("there is always another place between two")
	})
}

func (w *world) page(room Room, p PageQuery) []*Event {
	w.t.Helper()
	found, err := Page(ctx, w.db, room, p)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// Who sends many events with times of long ago makes nobody read them all: what is behind them is not found.
func TestByTimeBehindManyUntimely(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		a := Append{Room: room, NewRoom: true}
		add := func(body string, ms int64, untimely bool) {
			n := w.eventAt(room, body, ms)
			n.Untimely = untimely
			a.Events = append(a.Events, n)
		}
		add("early", 100, false)
		for i := range maxUntimely + 1 {
			add(fmt.Sprint("x", i), int64(i%10), true)
		}
		add("late", 200, false)
		add("later", 300, false)
		w.commit(a)
		for _, c := range []struct {
			ms       int64
			backward bool
			want     string
		}{{150, false, "late later"}, {100, false, "early"}, {400, true, "later late"}} {
			q := TimeQuery{Moment: Moment{AtMS: c.ms, Backward: c.backward}, Limit: 2}
			found, err := timelyEvents(ctx, w.db, room, q)
			if got := bodies(found); err != nil || got != c.want {
				w.t.Errorf("from %d, backward %v: got %q, %v, want %q", c.ms, c.backward, got, err, c.want)
			}
		}
	})
}

// BenchmarkByTime looks for the event nearest to a moment among 2,000.
func BenchmarkByTime(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) { benchmarkByTime(b, newWorld(b, storagetest.Open(b, kind))) })
	}
}

func benchmarkByTime(b *testing.B, w *world) {
	room := w.room("one")
	a := Append{Room: room, NewRoom: true}
	for i := range 2_000 {
		n := w.eventAt(room, fmt.Sprint("m", i), int64(i))
		if a.Events = append(a.Events, n); len(a.Events) == 500 {
			w.commit(a)
			a = Append{Room: room}
		}
	}
	b.ResetTimer()
	for i := range b.N {
		q := TimeQuery{Moment: Moment{AtMS: int64(i) * 7919 % 2_000, Backward: i%2 == 0}, Limit: 1}
		if found, err := ByTime(ctx, w.db, room, q); err != nil || len(found) != 1 || found[0].OriginServerTS != q.AtMS {
			b.Fatalf("%+v: got %v, %v", q, found[0].OriginServerTS, err)
		}
	}
}
