package rooms

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

var ctx = context.Background()

// world is a database with rooms that are written by hand: no rules apply here.
type world struct {
	t   testing.TB
	db  *storage.DB
	key signing.Key

	latestMS map[int64]int64 // by room: of the timely events that timed has stored
}

func each(t *testing.T, f func(w *world)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { f(newWorld(t, db)) })
}

func newWorld(t testing.TB, db *storage.DB) *world {
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, db: db, key: key, latestMS: map[int64]int64{}}
}

func (w *world) room(name string) Room {
	v, _ := event.VersionOf("11")
	return Room{Num: w.db.NextNumber(), ID: matrix.RoomID("!" + name + ":example.org"), Version: v}
}

// event makes a message, or a member event if who has a membership: "bob join".
func (w *world) event(room Room, what string) NewEvent {
	w.t.Helper()
	return w.eventAt(room, what, 0)
}

// eventAt makes such an event with a time that it carries.
func (w *world) eventAt(room Room, what string, ms int64) NewEvent {
	w.t.Helper()
	p := event.Proto{
		Type: "m.room.message", Sender: "@alice:example.org", RoomID: room.ID, Depth: 1, OriginServerTS: ms,
		Content: fmt.Appendf(nil, `{"body":%q}`, what), PrevEvents: []matrix.EventID{}, AuthEvents: []matrix.EventID{},
	}
	if name, membership, ok := strings.Cut(what, " "); ok {
		target := "@" + name + ":example.org"
		p.Type, p.StateKey, p.Content = event.TypeMember, &target, fmt.Appendf(nil, `{"membership":%q}`, membership)
	}
	ev, err := event.Build(room.Version, p, "example.org", w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	n := NewEvent{Event: &Event{Event: ev, Num: w.db.NextNumber(), RoomNum: room.Num, StateBefore: 1, StateWith: 1, StateAfter: 1}}
	if ev.IsState() {
		n.Members = []Membership{{RoomNum: room.Num, User: ev.Target(), Membership: ev.Membership(), EventNum: n.Num}}
	}
	return n
}

func (w *world) commit(write storage.Write) storage.Position {
	w.t.Helper()
	first, err := w.db.Commit(ctx, write)
	if err != nil {
		w.t.Fatalf("commit %T: %v", write, err)
	}
	return first
}

// begin stores a new room with events, and returns them as they are read back.
func (w *world) begin(room Room, joined int64, what ...string) []*Event {
	w.t.Helper()
	a := Append{Room: room, NewRoom: true, Head: &Head{Root: 7, Depth: 3, Joined: joined}}
	var nums []int64
	for _, each := range what {
		ev := w.event(room, each)
		a.Events = append(a.Events, ev)
		nums = append(nums, ev.Num)
	}
	a.Head.Extremities = nums[len(nums)-1:]
	w.commit(a)
	events, err := EventsByNumber(ctx, w.db, room, nums)
	if err != nil || len(events) != len(what) {
		w.t.Fatalf("read back: %d events, %v", len(events), err)
	}
	return events
}

func body(ev *Event) string {
	text, _ := canonical.String(canonical.Get(ev.Content, "body"))
	return text
}

func bodies(events []*Event) string {
	var all []string
	for _, ev := range events {
		all = append(all, body(ev))
	}
	return strings.Join(all, " ")
}

// backfill stores history before a live event.
func (w *world) backfill(room Room, before storage.Position, what ...string) {
	var a Append
	for i, each := range what {
		ev := w.event(room, each)
		ev.Kind, ev.Order, ev.StateUnknown = Backfilled, Order{before, int64(-1 - i)}, true
		a.Events = append(a.Events, ev)
	}
	a.Room = room
	w.commit(a)
}

func TestRoomAndHead(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		events := w.begin(room, 5, "hello", "again")
		got, found, err := ByID(ctx, w.db, room.ID)
		if err != nil || !found || got != room {
			w.t.Errorf("by ID: got %v, %v, %v; want %v", got, found, err, room)
		}
		byNum, err := ByNumbers(ctx, w.db, []int64{room.Num, 1 << 50})
		if err != nil || len(byNum) != 1 || byNum[room.Num] != room {
			w.t.Errorf("by number: got %v, %v", byNum, err)
		}
		head, found, err := HeadOf(ctx, w.db, room.Num)
		want := Head{
			RoomNum: room.Num, Position: events[1].Position, Root: 7, Depth: 3,
			Extremities: []int64{events[1].Num}, Joined: 5,
		}
		if err != nil || !found || !reflect.DeepEqual(head, want) {
			w.t.Errorf("head: got %+v, %v; want %+v", head, err, want)
		}
		if _, found, err := ByID(ctx, w.db, "!other:example.org"); found || err != nil {
			w.t.Errorf("a room that is not there: %v, %v", found, err)
		}
		if _, found, err := HeadOf(ctx, w.db, 1<<50); found || err != nil {
			w.t.Errorf("a head that is not there: %v, %v", found, err)
		}
	})
}

func TestUnknownVersion(t *testing.T) {
	w := newWorld(t, storagetest.Open(t, storagetest.SQLite))
	room := w.room("one")
	future := *room.Version
	future.ID = "org.example.future"
	room.Version = &future
	w.begin(room, 0, "hello")
	if _, _, err := ByID(ctx, w.db, room.ID); err == nil || !strings.Contains(err.Error(), "org.example.future") {
		t.Errorf("got %v, want an error that names the version", err)
	}
	if _, err := LogAfter(ctx, w.db, 0, 10); err == nil {
		t.Error("the log was read without the rules of a room")
	}
}

// Backfilled history stands before the live event that it leads to, and has no position.
func TestPageWithHistory(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		events := w.begin(room, 0, "a", "b", "c")
		b := events[1].Position
		w.backfill(room, b, "b-1", "b-2")
		page := func(p PageQuery) func() ([]*Event, error) {
			return func() ([]*Event, error) { return Page(ctx, w.db, room, p) }
		}
		for _, c := range []struct {
			name, want string
			read       func() ([]*Event, error)
		}{
			{"all", "a b-2 b-1 b c", page(PageQuery{Limit: 10})},
			{"all, backward", "c b b-1 b-2 a", page(PageQuery{From: events[2].Order, Backward: true, Limit: 10})},
			{"after b-2", "b-1 b", page(PageQuery{From: Order{b, -2}, Limit: 2})},
			{"before b-1", "b-1 b-2 a", page(PageQuery{From: Order{b, -1}, Backward: true, Limit: 10})},
			{"between", "b c", page(PageQuery{From: Order{b, -1}, To: events[2].Order, Limit: 10})},
			{"timeline", "c b a", func() ([]*Event, error) { return Timeline(ctx, w.db, room, storage.Span{UpTo: 1 << 40}, 10) }},
			{"log", "b c", func() ([]*Event, error) { return LogAfter(ctx, w.db, events[0].Position, 10) }},
			{"log, one", "a", func() ([]*Event, error) { return LogAfter(ctx, w.db, 0, 1) }},
		} {
			got, err := c.read()
			if err != nil || bodies(got) != c.want {
				w.t.Errorf("%s: got %q, %v; want %q", c.name, bodies(got), err, c.want)
			}
		}
		history, err := Page(ctx, w.db, room, PageQuery{From: events[0].Order, Limit: 1})
		if err != nil || history[0].Kind != Backfilled || history[0].Position != 0 || history[0].Order != (Order{b, -2}) || history[0].StateBefore != 0 {
			w.t.Errorf("backfilled: got %+v, %v", history[0], err)
		}
	})
}

// The IDs of versions 1 and 2 are unique within a room only.
func TestSameEventIDInTwoRooms(t *testing.T) {
	each(t, func(w *world) {
		one, two := w.room("one"), w.room("two")
		a := w.begin(one, 0, "a")[0]
		copied := w.event(two, "a")
		same := *copied.Event.Event
		same.ID = a.ID
		copied.Event.Event = &same
		w.commit(Append{Room: two, NewRoom: true, Events: []NewEvent{copied}})
		for _, room := range []Room{one, two} {
			ev, found, err := EventByID(ctx, w.db, room, a.ID)
			if err != nil || !found || ev.RoomNum != room.Num {
				w.t.Errorf("%s: got %+v, %v, %v", room.ID, ev, found, err)
			}
		}
		again := w.event(one, "a")
		again.Event.Event = &same
		_, err := w.db.Commit(ctx, Append{Room: one, Events: []NewEvent{again}})
		if !errors.Is(err, storage.ErrDuplicate) {
			w.t.Errorf("the same ID again: got %v, want ErrDuplicate", err)
		}
	})
}

// A mark alone is enough: what is read is the redacted form, whether or not the content was erased.
func TestRedactedForm(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		target := w.begin(room, 0, "secret")[0]
		redaction := w.event(room, "redaction")
		redaction.Redactions = []Redaction{{Target: target.Num, By: redaction.Num, JSON: target.JSON}} // not erased
		second := w.event(room, "second")
		second.Redactions = []Redaction{{Target: target.Num, By: second.Num, JSON: target.RedactedJSON()}}
		w.commit(Append{Room: room, Events: []NewEvent{redaction, second}})
		got, _, err := EventByID(ctx, w.db, room, target.ID)
		if err != nil || got.RedactedBy != redaction.Num || string(got.Content) != "{}" || got.ID != target.ID {
			w.t.Errorf("got %s by %d, %v; want {} by %d, the first", got.Content, got.RedactedBy, err, redaction.Num)
		}
	})
}

func TestPendingRedactions(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.begin(room, 0, "a")
		first, second, target := w.event(room, "first"), w.event(room, "second"), w.event(room, "target")
		first.Waiting, second.Waiting = target.ID, target.ID
		w.commit(Append{Room: room, Events: []NewEvent{first, second}})
		pending, err := PendingRedactions(ctx, w.db, room.Num, 10)
		want := map[matrix.EventID][]int64{target.ID: {first.Num, second.Num}}
		if err != nil || !reflect.DeepEqual(pending, want) {
			w.t.Errorf("got %v, %v; want %v", pending, err, want)
		}
		target.Arrived = []matrix.EventID{target.ID}
		w.commit(Append{Room: room, Events: []NewEvent{target}})
		if pending, err := PendingRedactions(ctx, w.db, room.Num, 10); err != nil || len(pending) != 0 {
			w.t.Errorf("after it came: %v, %v", pending, err)
		}
	})
}

func TestTransactionKey(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		w.begin(room, 0, "a")
		sent := w.event(room, "sent")
		sent.TxnKey, sent.TxnDevice, sent.TxnID = -5, "D\x00", "t\x00"
		w.commit(Append{Room: room, Events: []NewEvent{sent}})
		if id, found, err := SentAs(ctx, w.db, -5); err != nil || !found || id != sent.ID {
			w.t.Errorf("got %s, %v, %v; want %s", id, found, err, sent.ID)
		}
		if _, found, err := SentAs(ctx, w.db, 6); err != nil || found {
			w.t.Errorf("another key: %v, %v", found, err)
		}
		got, _, err := EventByID(ctx, w.db, room, sent.ID)
		if err != nil || got.TxnDevice != sent.TxnDevice || got.TxnID != sent.TxnID {
			w.t.Errorf("transaction: got %q %q, %v", got.TxnDevice, got.TxnID, err)
		}
		again := w.event(room, "again")
		again.TxnKey = -5
		if _, err := w.db.Commit(ctx, Append{Room: room, Events: []NewEvent{again}}); !errors.Is(err, storage.ErrDuplicate) {
			w.t.Errorf("the key again: got %v, want ErrDuplicate", err)
		}
	})
}

func TestStateNodes(t *testing.T) {
	each(t, func(w *world) {
		room := w.room("one")
		a := w.event(room, "a")
		a.StateBefore, a.StateWith, a.StateAfter, a.StateMoved = 0, 11, 11, true
		first := w.commit(Append{Room: room, NewRoom: true, Events: []NewEvent{a}, Nodes: []statetree.NewNode{{ID: 11, Data: []byte{0, 1}}, {ID: 12, Data: []byte{2}}}})
		b := w.event(room, "b")
		b.StateBefore, b.StateWith, b.StateAfter, b.StateMoved = 11, 12, 12, true
		w.commit(Append{Room: room, Events: []NewEvent{b}})
		got := make(map[statetree.NodeID]string)
		err := StateNodes(ctx, w.db, []statetree.NodeID{11, 12, 13}, func(id statetree.NodeID, data []byte) error {
			got[id] = string(data)
			return nil
		})
		if want := (map[statetree.NodeID]string{11: "\x00\x01", 12: "\x02"}); err != nil || !reflect.DeepEqual(got, want) {
			w.t.Errorf("got %v, %v; want %v", got, err, want)
		}
		for at, want := range map[storage.Position]statetree.NodeID{first - 1: 0, first: 11, first + 1: 12, first + 9: 12} {
			if root, err := RootAt(ctx, w.db, room.Num, at); err != nil || root != want {
				w.t.Errorf("root at %d: got %d, %v; want %d", at, root, err, want)
			}
		}
	})
}
