package federation

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

// What memory has let go of is read again when the room comes to it.
func TestReload(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	one, two := w.room("shared"), w.room("shared")
	them.join(one)
	them.join(two)
	a, b := them.message(one, "1"), them.message(two, "2")
	them.send([]*event.Event{a, b}, receiptOf(one, bob, a.ID))
	for _, l := range w.api.inbox.backlog.lines {
		for _, p := range l.parcels {
			w.api.inbox.backlog.held -= p.bytes
			p.events, p.receipts, p.loaded, p.bytes = nil, nil, false, 0
		}
	}
	w.run()
	w.settle()
	if w.stored(one, a.ID) == nil || w.stored(two, b.ID) == nil {
		t.Error("an event is not in its room")
	}
	if receipts, err := rooms.ReceiptsOfUser(t.Context(), w.db, one.Num, bob); err != nil || len(receipts) != 1 {
		t.Errorf("receipts: got %v, %v, want one", receipts, err)
	}
	if in := w.api.inbox; in.backlog.held != 0 || in.backlog.bytes != 0 {
		t.Errorf("got %d bytes held, %d waiting, want none", in.backlog.held, in.backlog.bytes)
	}
}

// A staged row that makes no sense keeps nobody waiting.
func TestStagedNonsense(t *testing.T) {
	w := newWorld(t)
	for i, work := range []string{
		`x`, `{"rooms":1}`, `{"rooms":[]}`, `{"rooms":[{"room_id":"!r:a","room_version":"99"}]}`,
		`{"rooms":[{"room_id":"!r:a","room_version":"11","pdus":[{}]}]}`,
	} {
		_, err := w.db.Commit(t.Context(), servers.StagedTransaction{
			Num: w.db.NextNumber(), Origin: "them.example", ID: fmt.Sprint(i), Answer: []byte(`{}`), Work: []byte(work),
		})
		must(t, err)
	}
	w.build()
	must(t, w.api.inbox.load(t.Context()))
	if n := len(w.api.inbox.backlog.lines); n != 0 {
		t.Errorf("got %d rooms with work, want none", n)
	}
	waitFor(t, "the end of the work", func() bool { return w.stagedTransactions() == 0 })
}

// A transaction that was taken in by this run is not taken up as one of the run before.
func TestLoadLeavesNewOnes(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	them.send([]*event.Event{them.message(room, "1")})
	must(t, w.api.inbox.load(t.Context()))
	if n := len(w.api.inbox.backlog.lines[room.ID].parcels); n != 1 {
		t.Errorf("got %d parcels, want 1", n)
	}
}

func TestACLsAreBounded(t *testing.T) {
	var l acls
	for i := range maxACLs + 10 {
		l.permits(int64(i), []byte(`{"allow":["*"]}`), "a.org")
	}
	for i := range maxACLVerdicts + 10 {
		if !l.permits(1, []byte(`{"allow":["*"]}`), matrix.ServerName(fmt.Sprint("s", i, ".org"))) {
			t.Fatal("a server was denied")
		}
	}
	if len(l.known) > maxACLs || len(l.known[1].of) > maxACLVerdicts {
		t.Errorf("got %d ACLs and %d verdicts, want no more than %d and %d", len(l.known), len(l.known[1].of), maxACLs, maxACLVerdicts)
	}
	if l.permits(5000, []byte(`{"allow":["*"],"deny":["a.*"]}`), "a.org") || l.permits(5000, nil, "a.org") {
		t.Error("a server that is denied was permitted")
	}
}

func TestWorkIsReadAsItWasWritten(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	v := room.Version
	good := them.message(room, `"quoted" \u2028`)
	r := roomIntake{id: room.ID, version: v, events: []*event.Event{good, them.message(room, "x")}, receipts: []receipt{{User: bob, Event: good.ID, TS: 1}}}
	in := intake{order: []*roomIntake{&r, {id: "!empty:a"}, {id: `!"odd:a`, version: v, receipts: r.receipts}}}
	var work stagedWork
	must(t, json.Unmarshal(in.work(), &work))
	if len(work.Rooms) != 2 || len(in.parcels()) != 2 {
		t.Fatalf("got %d rooms, want 2", len(work.Rooms))
	}
	p, err := work.Rooms[0].read()
	must(t, err)
	if len(p.events) != 2 || p.events[0].ID != good.ID || string(p.events[0].JSON) != string(good.JSON) || p.receipts[0] != r.receipts[0] || work.Rooms[1].RoomID != `!"odd:a` {
		t.Errorf("got %+v, want what was written", p)
	}
	if (&intake{}).work() != nil {
		t.Error("no work: got some")
	}
}
