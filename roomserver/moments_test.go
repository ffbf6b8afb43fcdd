package roomserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// remembered lets alice join a room in which bob has said things, and the others know all about these.
func (w *wire) remembered(messages int) (said []*event.Event, join *rooms.Event) {
	w.t.Helper()
	said = w.row(bobThere, messages, w.base)
	in := w.answer(said[messages-1])
	if err := w.s.Adopt(context.Background(), in); err != nil {
		w.t.Fatal(err)
	}
	w.tie(w.room.ID)
	for _, each := range in.State {
		w.remote.know(each, nil)
	}
	for _, ev := range said {
		w.remote.states[ev.ID] = in.State
	}
	w.remote.moments = make(map[matrix.ServerName]matrix.EventID)
	return said, w.stored(in.Join)
}

func (w *wire) jump(to *event.Event, backward bool, over rooms.Order) bool {
	w.t.Helper()
	w.remote.moments[elsewhere] = to.ID
	found, err := w.s.BackfillAt(context.Background(), w.room.ID, roomserver.Jump{
		Moment: rooms.Moment{AtMS: to.OriginServerTS, Backward: backward}, Over: over,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// What is leapt over, and what lies between two leaps, is filled in at its own place, in whatever order it is asked for.
func TestBackfillAt(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		ctx := context.Background()
		said, join := w.remembered(120)
		for _, i := range []int{30, 80} {
			if !w.jump(said[i], i == 80, join.Order) {
				t.Fatalf("a jump to message %d: nothing was found", i)
			}
			if got := w.stored(said[i]); got == nil || got.Kind != rooms.Backfilled || got.StateUnknown {
				t.Fatalf("message %d: got %+v, want it in the timeline", i, got)
			}
			if got := w.stored(said[i+1]); got != nil {
				t.Fatalf("message %d: got %+v, want it missing", i+1, got)
			}
		}
		if w.jump(said[80], false, join.Order) {
			t.Error("a jump to what is here: something was found")
		}
		for _, next := range []struct {
			before        *event.Event
			limit, gained int
		}{
			{said[80], 10, 10}, {join.Event, 15, 15}, {said[30], 100, 17}, {join.Event, 100, 24}, {join.Event, 100, 20},
			{join.Event, 100, 0},
		} {
			gained, err := w.s.Backfill(ctx, w.room.ID, w.stored(next.before).Order, next.limit)
			if gained != next.gained || err != nil {
				t.Fatalf("%d before %s: got %d, %v; want %d", next.limit, next.before.Content, gained, err, next.gained)
			}
		}
		if missing, err := rooms.HasGaps(ctx, w.db, w.room.Num); missing || err != nil {
			t.Fatalf("all was fetched, and something is missing: %v, %v", missing, err)
		}
		w.checkHistory(said[119])
		w.audit()
	})
}

// What other servers say of time is held against the events themselves.
func TestBackfillAtIsLiedTo(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		said, join := w.remembered(60)
		at := func(ev *event.Event, backward bool) rooms.Moment {
			return rooms.Moment{AtMS: ev.OriginServerTS, Backward: backward}
		}
		near := said[40].OriginServerTS
		for name, c := range map[string]struct {
			told matrix.EventID
			jump roomserver.Jump
		}{
			"later than asked for":     {said[31].ID, roomserver.Jump{Moment: at(said[30], true)}},
			"earlier than asked for":   {said[29].ID, roomserver.Jump{Moment: at(said[30], false)}},
			"no nearer, forward":       {said[40].ID, roomserver.Jump{Moment: at(said[30], false), Have: &near}},
			"no nearer, backward":      {said[39].ID, roomserver.Jump{Moment: at(said[50], true), Have: &near}},
			"an event that is not":     {"$nothing", roomserver.Jump{Moment: at(said[30], true)}},
			"an event that we have":    {join.ID, roomserver.Jump{Moment: at(said[30], false)}},
			"history before which all": {said[30].ID, roomserver.Jump{Moment: at(said[30], false), Over: rooms.Order{Anchor: 1}}},
		} {
			w.remote.moments[elsewhere] = c.told
			if c.jump.Over == (rooms.Order{}) {
				c.jump.Over = join.Order
			}
			gained, err := w.s.BackfillAt(t.Context(), w.room.ID, c.jump)
			if want := name == "history before which all"; gained != want || err != nil {
				t.Errorf("%s: got %v, %v; want %v", name, gained, err, want)
			}
		}
	})
}

// The next server is asked if one does not know, or lies.
func TestBackfillAtAsksOn(t *testing.T) {
	onFound(t, func(t *testing.T, w *wire) {
		w.base = w.join("dan:third.org", w.base)
		said, join := w.remembered(30)
		w.remote.moments["third.org"] = said[10].ID
		w.remote.moments[elsewhere] = said[5].ID
		gained, err := w.s.BackfillAt(t.Context(), w.room.ID, roomserver.Jump{
			Moment: rooms.Moment{AtMS: said[10].OriginServerTS}, Over: join.Order,
		})
		if !gained || err != nil || w.stored(said[10]) == nil || w.stored(said[11]) != nil {
			t.Errorf("got %v, %v, want message 10 of another server", gained, err)
		}
	})
}

// Only events that are not timely have their time in the index, and all are found: what claims to be of the future, too, which
// makes nothing else untimely.
func TestTimelyEvents(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		ctx := t.Context()
		say := func(text string, ms int64, prev *event.Event) *event.Event {
			return w.make(proto{by: bobThere, typ: "m.room.message", content: fmt.Sprintf(`{"body":%q}`, text), prevs: []*event.Event{prev}, ts: ms})
		}
		future := say("future", testClock.Now().Add(10*time.Hour).UnixMilli(), w.base)
		past := say("past", 5, future)
		after := say("after", 0, past)
		w.must(roomserver.Accepted, future, past, after)
		set := settings(t, w.db)
		set.Key, set.Remote = w.key, w.remote
		w.s = roomserver.New(set)
		last := say("last", 0, after)
		w.must(roomserver.Accepted, last)
		for _, c := range []struct {
			at       int64
			backward bool
			want     *event.Event
		}{
			{0, false, past}, {5, true, past}, {1 << 60, true, future}, {after.OriginServerTS, false, after},
			{last.OriginServerTS, true, last}, {last.OriginServerTS + 1, false, future}, {last.OriginServerTS - 1, true, after},
		} {
			found, err := rooms.ByTime(ctx, w.db, w.room, rooms.TimeQuery{Moment: rooms.Moment{AtMS: c.at, Backward: c.backward}, Limit: 1})
			if err != nil || len(found) != 1 || found[0].ID != c.want.ID {
				t.Errorf("at %d, backward %v: got %v, %v; want %s", c.at, c.backward, found, err, c.want.Content)
			}
		}
		if n, _, err := storage.One[int64](ctx, w.db, `SELECT COUNT(*) FROM events WHERE ts IS NOT NULL AND room_num = $1`, w.room.Num); n != 2 || err != nil {
			t.Errorf("%d events have their time in the index, %v; want those that are not timely", n, err)
		}
	})
}

// Of a partial room nothing is fetched of the past: each state there would come with all members.
func TestNoJumpsWhilePartial(t *testing.T) {
	onPartial(t, func(t *testing.T, w *wire) {
		w.enterPartly()
		asked := w.remote.requests()
		gap, err := rooms.GapsNear(t.Context(), w.db, w.room.Num, rooms.Order{Anchor: 1 << 60}, 1)
		if err != nil || len(gap) != 1 {
			t.Fatalf("got %v, %v, want history missing before the join", gap, err)
		}
		w.remote.moments = make(map[matrix.ServerName]matrix.EventID)
		before := &event.Event{ID: w.base.PrevEvents[0], OriginServerTS: w.base.OriginServerTS}
		if w.jump(before, true, gap[0].At) || w.remote.requests() != asked {
			t.Errorf("asked %d times", w.remote.requests()-asked)
		}
		w.complete()
	})
}
