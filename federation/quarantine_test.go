package federation

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// What panics again and again is kept out, and what came with it gets in.
func TestQuarantine(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		them := w.them()
		room := w.room("shared")
		them.join(room)
		poison, good := them.message(room, "poison"), them.message(room, "good")
		var panics atomic.Int64
		taken := make(chan matrix.EventID, 100)
		receive := func(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
			for _, e := range events {
				if e.ID == poison.ID {
					panics.Add(1)
					panic("poison")
				}
			}
			for _, e := range events {
				taken <- e.ID
			}
			return allAre(roomserver.Accepted, events)
		}
		w.api.inbox.receive = receive
		stop := w.run()
		them.send([]*event.Event{poison, good})
		for range 3 { // all at once, the poison alone, what is left
			waitFor(t, "a pause", func() bool { return w.isResting(room.ID) || w.stagedTransactions() == 0 })
			w.pass(2 * fencedPause)
		}
		if got := <-taken; got != good.ID {
			t.Errorf("taken: got %s, want the good event", got)
		}
		w.settle()
		stop()
		if n := panics.Load(); n != quarantineAfter {
			t.Errorf("got %d panics, want %d", n, quarantineAfter)
		}
		waitFor(t, "the end of the work", func() bool { return w.stagedTransactions() == 0 })
		if got := them.send([]*event.Event{poison}); got[poison.ID] == "" {
			t.Error("the poison was taken again, want it refused")
		}
		// It is known after a restart.
		w.build()
		w.api.inbox.receive = receive
		must(t, w.api.inbox.load(t.Context()))
		if got := them.send([]*event.Event{poison}); got[poison.ID] == "" {
			t.Error("after a restart: the poison was taken, want it refused")
		}
		all, err := servers.SuspectEvents(t.Context(), w.db, 10)
		if err != nil || len(all) != 1 || all[0].Event != poison.ID {
			t.Errorf("suspects: got %v, %v, want the poison alone", all, err)
		}
	})
}

// isResting says whether nothing is tried in a room for the moment.
func (w *world) isResting(room matrix.RoomID) bool {
	in := w.api.inbox
	in.mu.Lock()
	defer in.mu.Unlock()
	l := in.backlog.lines[room]
	return l != nil && !l.working && in.Now().Before(l.notBefore)
}

// An event that ends the process is found out by who starts again and again.
func TestQuarantineOverCrashes(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	poison, good := them.message(room, "poison"), them.message(room, "good")
	them.send([]*event.Event{poison, good})
	crashes := 0
	for starts := range 10 {
		w.build()
		crashed, taken := false, false
		ctx, crash := context.WithCancelCause(t.Context())
		w.api.inbox.receive = func(ctx context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
			for _, e := range events {
				if e.ID == poison.ID {
					crashed = true
					panic("the process is gone") // what is done about it in memory is gone, too
				}
				taken = taken || e.ID == good.ID
			}
			return allAre(roomserver.Accepted, events)
		}
		must(t, w.api.inbox.load(ctx))
		for !crashed {
			batch := w.api.inbox.backlog.take(w.clock())
			if batch == nil {
				break
			}
			if batch[0].careful {
				w.api.inbox.work(ctx, batch)
			} else if _, panicked := w.api.inbox.guard(ctx, batch[0], batch[0].events); !panicked {
				t.Fatal("the poison did no harm")
			}
		}
		crash(nil)
		if taken {
			if crashes > 4 {
				t.Errorf("it took %d crashes, want at most 4", crashes)
			}
			return
		}
		crashes++
		_ = starts
	}
	t.Error("the good event never got in")
}

// What stands on something that cannot be had is tried again for a while, what fails for a long time.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome roomserver.Outcome
		most    int
	}{{"missing", roomserver.Missing, maxLacking}, {"failed", roomserver.Failed, 8}, {"busy", roomserver.Busy, 8}} {
		w := newWorld(t)
		them := w.them()
		room := w.room("shared")
		them.join(room)
		var tries atomic.Int64
		w.api.inbox.receive = func(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
			if int(tries.Add(1)) == c.most {
				return allAre(roomserver.Accepted, events)
			}
			return allAre(c.outcome, events)
		}
		them.send([]*event.Event{them.message(room, "x")})
		in := w.api.inbox
		for range 100 {
			in.backlog.promote(w.clock())
			if batch := in.backlog.take(w.clock()); batch != nil {
				in.work(t.Context(), batch)
			}
			w.pass(lastPause)
		}
		if n := int(tries.Load()); n != c.most {
			t.Errorf("%s: got %d tries, want %d", c.name, n, c.most)
		}
		if len(in.backlog.lines) != 0 || in.backlog.bytes != 0 || in.backlog.held != 0 {
			t.Errorf("%s: got %+v, want an empty backlog", c.name, in.backlog)
		}
	}
}
