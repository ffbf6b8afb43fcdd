package federation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func (w *world) rows() int64 {
	w.t.Helper()
	n, _, err := storage.One[int64](w.t.Context(), w.db, `SELECT COUNT(*) FROM staged_transactions`)
	must(w.t, err)
	return n
}

func TestSend(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		w.run()
		them := w.them()
		one, two := w.room("shared"), w.room("shared")
		them.join(one)
		them.join(two)
		a, b := them.message(one, "to one"), them.message(two, "to two")
		if got := them.send([]*event.Event{a, b}); len(got) != 2 || got[a.ID]+got[b.ID] != "" {
			t.Errorf("got %v, want two events without an error", got)
		}
		w.settle()
		for room, e := range map[rooms.Room]*event.Event{one: a, two: b} {
			if had := w.stored(room, e.ID); had == nil || had.Kind != rooms.Live {
				t.Errorf("%s: got %v, want it in the timeline", e.ID, had)
			}
		}
	})
}

// A transaction of garbage is answered per PDU and stores nothing.
func TestGarbage(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	good := them.message(room, "good")
	unknown := them.message(room, "x")
	elsewhere := json.RawMessage(canonical.AppendWith(nil, unknown.JSON, "room_id", []byte(`"!none:us.example"`)))
	noDepth := json.RawMessage(canonical.AppendWithout(nil, good.JSON, "depth"))
	large := them.draft(room, event.TypeMessage, `{}`)
	tooLarge := json.RawMessage(canonical.AppendWith(nil, them.build(room, large).JSON, "content", []byte(`{"x":"`+strings.Repeat("x", event.MaxBytes)+`"}`)))
	got := them.sendRaw("1", []json.RawMessage{
		[]byte(`{}`), []byte(`{"room_id":1}`), []byte(`{"room_id":"x","event_id":"$a:b"}`), []byte(`"x"`), []byte(`null`), []byte(`[]`),
		flip(t, good), elsewhere, noDepth, tooLarge,
	}, `{}`, `1`, `{"edu_type":"m.typing"}`, `{"edu_type":"m.receipt","content":[]}`, `{"edu_type":"m.presence","content":{"push":[1]}}`, `null`)
	if got[good.ID] == "" || got["$a:b"] == "" || len(got) < 4 {
		t.Errorf("got %v, want an error for each event that has an ID", got)
	}
	for id, why := range got {
		if why == "" {
			t.Errorf("%s was taken, want it refused", id)
		}
	}
	if n := w.rows(); n != 0 {
		t.Errorf("got %d rows, want nothing stored", n)
	}
	for name, body := range map[string]any{
		"not JSON":       []byte(`{`),
		"no object":      []byte(`[]`),
		"PDUs no list":   []byte(`{"pdus":{}}`),
		"too many PDUs":  them.transaction(make([]json.RawMessage, inbox.MaxPDUs+1)),
		"too many EDUs":  them.transaction(nil, make50("{}", 101)...),
		"another origin": []byte(`{"origin":"third.example","pdus":[]}`),
	} {
		a := them.put(path("v1", "send", "2"), body)
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: got %d %s, want a refusal", name, a.status, a.body)
		}
	}
	them.put(path("v1", "send", strings.Repeat("x", 256)), them.transaction(nil)).fails(400, matrix.InvalidParam)
	them.put(path("v1", "send", "3"), []byte(`{}`)).is(`{"pdus":{}}`)
	if n := w.rows(); n != 0 {
		t.Errorf("got %d rows, want nothing stored", n)
	}
}

func make50(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func TestOnePoisonEventIsAlone(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	good := them.message(room, "good")
	bad := them.message(room, "bad")
	got := them.sendRaw("1", []json.RawMessage{flip(t, bad), good.JSON})
	if got[bad.ID] == "" || got[good.ID] != "" {
		t.Errorf("got %v, want an error for the bad one only", got)
	}
	w.settle()
	if w.stored(room, good.ID) == nil || w.stored(room, bad.ID) != nil {
		t.Error("want the good event stored, and the bad one not")
	}
}

// A repeat is answered alike, and not worked on again.
func TestRepeat(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		them := w.them()
		room := w.room("shared")
		them.join(room)
		good, bad := them.message(room, "good"), them.message(room, "bad")
		pdus := []json.RawMessage{good.JSON, flip(t, bad)}
		first := them.put(path("v1", "send", "t"), them.transaction(pdus))
		w.pass(time.Minute)
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				if again := them.put(path("v1", "send", "t"), them.transaction(nil)); string(again.body) != string(first.body) {
					t.Errorf("again: got %s, want %s", again.body, first.body)
				}
			})
		}
		wait.Wait()
		if n := w.rows(); n != 1 {
			t.Errorf("got %d rows, want 1", n)
		}
		// Another server may use the same ID.
		third := w.peer("third.example", 3)
		third.put(path("v1", "send", "t"), third.transaction(nil)).is(`{"pdus":{}}`)
	})
}

func TestSameTransactionSideBySide(t *testing.T) {
	w := newWorld(t)
	var calls atomic.Int64
	w.api.inbox.Receive = func(ctx context.Context, from matrix.ServerName, room matrix.RoomID, events []*event.Event) []roomserver.Result {
		calls.Add(1)
		return w.rooms.Receive(ctx, from, room, events)
	}
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	body := them.transaction([]json.RawMessage{them.message(room, "x").JSON})
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() { them.put(path("v1", "send", "t"), body).into(new(any)) })
	}
	wait.Wait()
	w.settle()
	if n := calls.Load(); n != 1 {
		t.Errorf("the room was given the event %d times, want once", n)
	}
}

// What was answered for is there after a crash between the answer and the room.
func TestRestart(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorldOn(t, db)
		them := w.them()
		room := w.room("shared")
		them.join(room)
		e := them.message(room, "hello")
		if got := them.send([]*event.Event{e}, receiptOf(room, bob, e.ID)); got[e.ID] != "" {
			t.Fatalf("got %v, want the event taken", got)
		}
		if n := w.rows(); n != 1 || w.stored(room, e.ID) != nil {
			t.Fatalf("got %d staged, want the transaction, as nobody works", n)
		}
		w.build() // the process that was there is gone
		stop := w.run()
		waitFor(t, "the event", func() bool { return w.stored(room, e.ID) != nil })
		w.settle()
		receipts, err := rooms.ReceiptsOfUser(t.Context(), w.db, room.Num, bob)
		if err != nil || len(receipts) != 1 || receipts[0].Event != e.ID {
			t.Errorf("bob's receipts: got %v, %v, want the one of the event", receipts, err)
		}
		stop()
	})
}

func receiptOf(room rooms.Room, user matrix.UserID, id matrix.EventID) string {
	return fmt.Sprintf(`{"edu_type":"m.receipt","content":{%q:{"m.read":{%q:{"event_ids":[%q],"data":{"ts":5}}}}}}`, room.ID, user, id)
}

func waitFor(t *testing.T, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

// An invite to a room that this server is not in can be taken back by who made it, and by nobody else.
func TestInviteTakenBack(t *testing.T) {
	w := newWorld(t)
	w.takesInvites = true
	w.build()
	w.run()
	them, third := w.them(), w.peer("third.example", 3)
	e, state := them.invitation("11", asItIs)
	them.invite("11", e, state).into(new(any))
	membership := func() event.Membership {
		t.Helper()
		all, err := rooms.MembershipsOfUser(t.Context(), w.db, alice, 0)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %v, %v, want one membership", all, err)
		}
		return all[0].Membership
	}
	other := *third
	leave, _ := other.invitation("11", func(p *event.Proto) {
		p.Sender, p.RoomID, p.Content = "@bob:third.example", e.RoomID, []byte(`{"membership":"leave"}`)
	})
	message, _ := them.invitation("11", func(p *event.Proto) { p.Type, p.StateKey, p.Content = "m.room.message", nil, []byte(`{}`) })
	if got := third.send([]*event.Event{leave}); got[leave.ID] == "" || membership() != event.Invite {
		t.Errorf("taken back by another server: got %v, %s, want it refused", got, membership())
	}
	if got := them.send([]*event.Event{message}); got[message.ID] == "" {
		t.Error("a message of a room that we are not in: was taken, want it refused")
	}
	leave, _ = them.invitation("11", func(p *event.Proto) {
		p.Content, p.AuthEvents = []byte(`{"membership":"leave"}`), append(p.AuthEvents, e.ID)
	})
	if got := them.send([]*event.Event{leave}); got[leave.ID] != "" || membership() != event.Leave {
		t.Errorf("taken back: got %v, %s, want leave", got, membership())
	}
}

// Nothing is taken for a room that this server has left.
func TestRoomThatWasLeft(t *testing.T) {
	w := newWorld(t)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	e := them.message(room, "1")
	if got := them.send([]*event.Event{e}); got[e.ID] != "" {
		t.Errorf("before: got %v, want it taken", got)
	}
	w.settle()
	must(t, w.rooms.Leave(t.Context(), by(alice), room.ID, ""))
	e = them.message(room, "2")
	if got := them.send([]*event.Event{e}); got[e.ID] == "" || w.stored(room, e.ID) != nil {
		t.Errorf("after: got %v, want it refused", got)
	}
}
