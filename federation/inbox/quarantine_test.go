package inbox

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
		d := newDesk(t, db)
		poison, good := d.message(here), d.message(here)
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
		d.build(receive)
		stop := d.run()
		d.stage(here, []*event.Event{poison, good})
		for range 3 { // all at once, the poison alone, what is left
			waitFor(t, "a pause", func() bool { return d.isResting(here) || d.staged() == 0 })
			d.pass(2 * fencedPause)
		}
		if got := <-taken; got != good.ID {
			t.Errorf("taken: got %s, want the good event", got)
		}
		d.settle()
		stop()
		if n := panics.Load(); n != quarantineAfter {
			t.Errorf("got %d panics, want %d", n, quarantineAfter)
		}
		waitFor(t, "the end of the work", func() bool { return d.staged() == 0 })
		if !d.IsQuarantined(here, poison.ID) || d.IsQuarantined(here, good.ID) {
			t.Error("want the poison kept out, and the good event not")
		}
		// It is known after a restart.
		d.build(receive)
		must(t, d.load(t.Context()))
		if !d.IsQuarantined(here, poison.ID) {
			t.Error("after a restart: the poison is let in, want it kept out")
		}
		all, err := servers.SuspectEvents(t.Context(), d.db, 10)
		if err != nil || len(all) != 1 || all[0].Event != poison.ID {
			t.Errorf("suspects: got %v, %v, want the poison alone", all, err)
		}
	})
}

// isResting says whether nothing is tried in a room for the moment.
func (d *desk) isResting(room matrix.RoomID) bool {
	d.Inbox.mu.Lock()
	defer d.Inbox.mu.Unlock()
	l := d.backlog.lines[room]
	return l != nil && !l.working && d.clock().Before(l.notBefore)
}

// An event that ends the process is found out by who starts again and again.
func TestQuarantineOverCrashes(t *testing.T) {
	d := newDesk(t, sqlite(t))
	poison, good := d.message(here), d.message(here)
	d.stage(here, []*event.Event{poison, good})
	for crashes := range 10 {
		crashed, taken := false, false
		d.build(func(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
			for _, e := range events {
				if e.ID == poison.ID {
					crashed = true
					panic("the process is gone") // what is done about it in memory is gone, too
				}
				taken = taken || e.ID == good.ID
			}
			return allAre(roomserver.Accepted, events)
		})
		must(t, d.load(t.Context()))
		for !crashed {
			batch := d.backlog.take(d.clock())
			if batch == nil {
				break
			}
			if batch[0].careful {
				d.work(t.Context(), batch)
			} else if _, panicked := d.guard(t.Context(), batch[0], batch[0].events); !panicked {
				t.Fatal("the poison did no harm")
			}
		}
		if taken {
			if crashes > 4 {
				t.Errorf("it took %d crashes, want at most 4", crashes)
			}
			return
		}
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
		d := newDesk(t, sqlite(t))
		tries := 0
		d.build(func(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
			if tries++; tries == c.most {
				return allAre(roomserver.Accepted, events)
			}
			return allAre(c.outcome, events)
		})
		d.stage(here, []*event.Event{d.message(here)})
		for range 100 {
			d.backlog.promote(d.clock())
			if batch := d.backlog.take(d.clock()); batch != nil {
				d.work(t.Context(), batch)
			}
			d.pass(lastPause)
		}
		if tries != c.most {
			t.Errorf("%s: got %d tries, want %d", c.name, tries, c.most)
		}
		if len(d.backlog.lines) != 0 || d.backlog.bytes != 0 || d.backlog.held != 0 {
			t.Errorf("%s: got %+v, want an empty backlog", c.name, d.backlog)
		}
	}
}
