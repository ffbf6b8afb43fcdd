package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// What memory has let go of is read again when the room comes to it.
func TestReload(t *testing.T) {
	d := newDesk(t, sqlite(t))
	a, b := d.message(here), d.message("!there:us.example")
	d.stage(here, []*event.Event{a}, Receipt{User: bob, Event: a.ID, TS: 5})
	d.stage("!there:us.example", []*event.Event{b})
	for _, l := range d.backlog.lines {
		for _, p := range l.parcels {
			d.backlog.held -= p.bytes
			p.events, p.receipts, p.loaded, p.bytes = nil, nil, false, 0
		}
	}
	d.run()
	d.settle()
	if !d.has(a) || !d.has(b) {
		t.Error("an event is not in its room")
	}
	if len(d.receipts) != 1 || d.receipts[0].Event != a.ID || d.receipts[0].TS != 5 {
		t.Errorf("receipts: got %v, want one", d.receipts)
	}
	if d.backlog.held != 0 || d.backlog.bytes != 0 {
		t.Errorf("got %d bytes held, %d waiting, want none", d.backlog.held, d.backlog.bytes)
	}
}

// A staged row that makes no sense keeps nobody waiting.
func TestStagedNonsense(t *testing.T) {
	d := newDesk(t, sqlite(t))
	for i, work := range []string{
		`x`, `{"rooms":1}`, `{"rooms":[]}`, `{"rooms":[{"room_id":"!r:a","room_version":"99"}]}`,
		`{"rooms":[{"room_id":"!r:a","room_version":"11","pdus":[{}]}]}`,
	} {
		_, err := d.db.Commit(t.Context(), servers.StagedTransaction{
			Num: d.db.NextNumber(), Origin: them, ID: fmt.Sprint(i), Answer: []byte(`{}`), Work: []byte(work),
		})
		must(t, err)
	}
	d.build(d.take)
	must(t, d.load(t.Context()))
	if n := len(d.backlog.lines); n != 0 {
		t.Errorf("got %d rooms with work, want none", n)
	}
	d.noteFinished()
	waitFor(t, "the end of the work", func() bool { return d.staged() == 0 })
}

// That a transaction is done is noted with the next one, or at the end, and again if the next is not stored.
func TestFinished(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		d := newDesk(t, db)
		d.stage(here, []*event.Event{d.message(here)})
		d.stage(here, []*event.Event{d.message(here)})
		first, err := servers.Staged(t.Context(), db, 0, 1)
		must(t, err)
		d.finish(first[0].Num)
		d.txns-- // the same again: it is not stored
		d.stage(here, []*event.Event{d.message(here)})
		if got := d.staged(); got != 2 {
			t.Errorf("%d staged after a repeat, want 2", got)
		}
		d.stage(here, []*event.Event{d.message(here)})
		if left, err := servers.Staged(t.Context(), db, first[0].Num, 9); err != nil || len(left) != 2 || d.staged() != 2 {
			t.Errorf("got %d staged, want the two that are not done (%v)", d.staged(), err)
		}
		stop := d.run()
		d.settle()
		stop()
		waitFor(t, "the note of the last", func() bool { return d.staged() == 0 })
	})
}

// change is a statement that changes the database under the inbox.
type change string

func (c change) Rows(it *storage.Item) { it.Exec(string(c)) }

// That a transaction is done is noted later, if it cannot be noted now.
func TestFinishedWhileTheDatabaseFails(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		d := newDesk(t, db)
		d.stage(here, []*event.Event{d.message(here)})
		all, err := servers.Staged(t.Context(), db, 0, 1)
		must(t, err)
		d.finish(all[0].Num)
		_, err = db.Commit(t.Context(), change(`ALTER TABLE staged_transactions RENAME TO away`))
		must(t, err)
		d.noteFinished()
		waitFor(t, "the number of the transaction", func() bool {
			d.Inbox.mu.Lock()
			defer d.Inbox.mu.Unlock()
			return len(d.finished) == 1
		})
		_, err = db.Commit(t.Context(), change(`ALTER TABLE away RENAME TO staged_transactions`))
		must(t, err)
		d.noteFinished()
		waitFor(t, "the note", func() bool { return d.staged() == 0 })
	})
}

// A transaction that was taken in by this run is not taken up as one of the run before.
func TestLoadLeavesNewOnes(t *testing.T) {
	d := newDesk(t, sqlite(t))
	d.stage(here, []*event.Event{d.message(here)})
	must(t, d.load(t.Context()))
	if n := len(d.backlog.lines[here].parcels); n != 1 {
		t.Errorf("got %d parcels, want 1", n)
	}
}

// What was staged is there after a crash, and forgotten some time after it is done.
func TestRestart(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		d := newDesk(t, db)
		e := d.message(here)
		d.stage(here, []*event.Event{e})
		d.build(d.take) // the process that was there is gone
		stop := d.run()
		waitFor(t, "the event", func() bool { return d.has(e) })
		d.settle()
		stop()
		waitFor(t, "the end of the work", func() bool { return d.staged() == 0 })
		if n := d.rows(); n != 1 {
			t.Errorf("got %d rows, want the answer kept", n)
		}
		d.pass(2 * answersKept)
		if err := d.forgetOld(t.Context()); err != nil || d.rows() != 0 {
			t.Errorf("old transactions: got %d, %v, want none", d.rows(), err)
		}
	})
}

// A room for which nothing can be done does not keep others waiting.
func TestRoomsDoNotWaitForEachOther(t *testing.T) {
	const slow, quick = here, matrix.RoomID("!there:us.example")
	d := newDesk(t, sqlite(t))
	release := make(chan struct{})
	done := make(chan matrix.RoomID, 10)
	d.build(func(ctx context.Context, _ matrix.ServerName, room matrix.RoomID, events []*event.Event) []roomserver.Result {
		if room == slow {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		done <- room
		return allAre(roomserver.Accepted, events)
	})
	d.run()
	for range 2 {
		d.stage(slow, []*event.Event{d.message(slow)})
		d.stage(quick, []*event.Event{d.message(quick)})
	}
	if got := <-done; got != quick {
		t.Errorf("done first: got %s, want the quick room", got)
	}
	close(release)
	d.settle()
}

// Of one server that sends more than is worked off, no more is taken; of others it is.
func TestBackPressure(t *testing.T) {
	d := newDesk(t, sqlite(t))
	if !d.backlog.reserve(them, maxBacklogOriginBytes) {
		t.Fatal("an empty backlog took nothing")
	}
	v, _ := event.VersionOf("11")
	in := Transaction{
		Origin: them, ID: "1", Answer: []byte(`{}`), Items: []Item{{Room: here, Version: v, Events: []*event.Event{d.message(here)}}},
	}
	if _, err := d.Stage(t.Context(), in); matrix.CodeOf(err) != matrix.LimitExceeded || d.rows() != 0 {
		t.Errorf("got %v, %d rows, want %s and nothing stored", err, d.rows(), matrix.LimitExceeded)
	}
	other := in
	other.Origin = "third.example"
	_, err := d.Stage(t.Context(), other)
	must(t, err)
	d.release(them, maxBacklogOriginBytes)
	_, err = d.Stage(t.Context(), in)
	must(t, err)
}

func TestWorkIsReadAsItWasWritten(t *testing.T) {
	d := newDesk(t, sqlite(t))
	v, _ := event.VersionOf("11")
	good := d.message(here)
	receipts := []Receipt{{User: bob, Event: good.ID, TS: 1}}
	in := Transaction{Items: []Item{
		{Room: here, Version: v, Events: []*event.Event{good, d.message(here)}, Receipts: receipts},
		{Room: "!empty:a"}, {Room: `!"odd:a`, Version: v, Receipts: receipts},
	}}
	var work stagedWork
	must(t, json.Unmarshal(in.work(), &work))
	if len(work.Rooms) != 2 || len(in.parcels()) != 2 {
		t.Fatalf("got %d rooms, want 2", len(work.Rooms))
	}
	p, err := work.Rooms[0].read()
	must(t, err)
	if len(p.events) != 2 || p.events[0].ID != good.ID || string(p.events[0].JSON) != string(good.JSON) || p.receipts[0] != receipts[0] || work.Rooms[1].RoomID != `!"odd:a` {
		t.Errorf("got %+v, want what was written", p)
	}
	if (Transaction{}).work() != nil {
		t.Error("no work: got some")
	}
}

// A transaction whose row is there already is answered as it was.
func TestStagedTwice(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		d := newDesk(t, db)
		v, _ := event.VersionOf("11")
		in := Transaction{
			Origin: them, ID: "1", Answer: []byte(`{"first":true}`),
			Items: []Item{{Room: here, Version: v, Events: []*event.Event{d.message(here)}}},
		}
		for _, answer := range []string{`{"first":true}`, `{"first":false}`} {
			in.Answer = []byte(answer)
			got, err := d.Stage(t.Context(), in)
			if err != nil || string(got) != `{"first":true}` {
				t.Errorf("got %s, %v, want the answer of the first time", got, err)
			}
			d.pass(time.Second)
		}
		if n := d.rows(); n != 1 || d.backlog.bytes == 0 {
			t.Errorf("got %d rows, want 1", n)
		}
	})
}

// impatient is a context that ends while a commit is waited for, as one does whose time is over.
type impatient struct {
	context.Context
	looks int
}

func (c *impatient) Done() <-chan struct{} {
	if c.looks++; c.looks < 2 { // it is queued
		return nil
	}
	over := make(chan struct{})
	close(over)
	return over
}

func (c *impatient) Err() error {
	if c.looks < 2 {
		return nil
	}
	return context.DeadlineExceeded
}

// A transaction that is stored after its request was given up goes into its rooms, too: when it comes again it is known.
func TestStagedTooLate(t *testing.T) {
	d := newDesk(t, sqlite(t))
	v, _ := event.VersionOf("11")
	e := d.message(here)
	in := Transaction{Origin: them, ID: "1", Answer: []byte(`{}`), Items: []Item{{Room: here, Version: v, Events: []*event.Event{e}}}}
	_, _ = d.Stage(&impatient{Context: t.Context()}, in)
	d.run()
	waitFor(t, "the transaction", func() bool { return d.rows() == 1 })
	waitFor(t, "its event", func() bool { return d.has(e) })
}
