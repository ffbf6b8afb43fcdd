package outbox

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

const us = matrix.ServerName("us.example")

// village is a database with rooms, and knows who is in them. No rules apply here.
type village struct {
	t  testing.TB
	db *storage.DB

	mu      sync.Mutex
	rooms   map[matrix.RoomID]*testRoom
	owes    map[matrix.EventID][]matrix.ServerName
	events  []*testEvent
	failing map[matrix.EventID]bool // events that Owed cannot bear
}

type testRoom struct {
	rooms.Room
	in []matrix.ServerName
}

type testEvent struct {
	id       matrix.EventID
	room     matrix.RoomID
	body     string
	position storage.Position
	owed     []matrix.ServerName
}

func newVillage(t testing.TB, db *storage.DB) *village {
	return &village{
		t: t, db: db, rooms: map[matrix.RoomID]*testRoom{}, owes: map[matrix.EventID][]matrix.ServerName{},
		failing: map[matrix.EventID]bool{},
	}
}

// Owed implements Rooms.
func (v *village) Owed(_ context.Context, ev *rooms.Event) ([]matrix.ServerName, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failing[ev.ID] {
		panic(fmt.Sprintf("the state before %s is broken", ev.ID))
	}
	return v.owes[ev.ID], nil
}

// Servers implements Rooms.
func (v *village) Servers(_ context.Context, room matrix.RoomID) ([]matrix.ServerName, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.rooms[room].in), nil
}

// Sharing implements Rooms.
func (v *village) Sharing(context.Context, matrix.UserID) ([]matrix.ServerName, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []matrix.ServerName
	for _, r := range v.rooms {
		all = append(all, r.in...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// room makes a room with servers in it.
func (v *village) room(name string, in ...matrix.ServerName) *testRoom {
	v.t.Helper()
	version, _ := event.VersionOf("11")
	id := matrix.RoomID("!" + name + ":us.example")
	r := &testRoom{Room: rooms.Room{Num: v.db.NextNumber(), ID: id, Version: version}, in: in}
	v.rooms[id] = r
	v.commit(rooms.Append{Room: r.Room, NewRoom: true})
	return r
}

func (v *village) commit(w storage.Write) storage.Position {
	v.t.Helper()
	p, err := v.db.Commit(context.Background(), w)
	if err != nil {
		v.t.Fatalf("commit %T: %v", w, err)
	}
	return p
}

// event makes an event for r.
func (v *village) event(r *testRoom, body string) rooms.NewEvent {
	v.t.Helper()
	num := v.db.NextNumber()
	id := matrix.EventID(fmt.Sprintf("$%d", num))
	json := fmt.Sprintf(`{"auth_events":[],"content":{"body":%q},"depth":1,"hashes":{},"origin_server_ts":%d,`+
		`"prev_events":[],"room_id":%q,"sender":"@a:us.example","signatures":{},"type":"m.room.message"}`, body, num, r.ID)
	ev, err := event.Load(r.Version, id, []byte(json))
	if err != nil {
		v.t.Fatal(err)
	}
	return rooms.NewEvent{Event: &rooms.Event{Event: ev, Num: num, RoomNum: r.Num}}
}

// send stores an event that is owed to servers.
func (v *village) send(r *testRoom, body string, owed ...matrix.ServerName) *testEvent {
	v.t.Helper()
	n := v.event(r, body)
	v.mu.Lock()
	v.owes[n.ID] = slices.Clone(owed)
	v.mu.Unlock()
	p := v.commitEvent(r, n)
	e := &testEvent{n.ID, r.ID, body, p, slices.Clone(owed)}
	v.events = append(v.events, e)
	return e
}

func (v *village) commitEvent(r *testRoom, n rooms.NewEvent) storage.Position {
	v.t.Helper()
	return v.commit(rooms.Append{Room: r.Room, Events: []rooms.NewEvent{n}})
}

// say stores an event that is owed to all who are in the room.
func (v *village) say(r *testRoom, body string) *testEvent { return v.send(r, body, r.in...) }

// join and kick store events after which a server is in the room, or is not.
func (v *village) join(r *testRoom, s matrix.ServerName) *testEvent {
	v.mu.Lock()
	if !slices.Contains(r.in, s) {
		r.in = append(slices.Clone(r.in), s)
	}
	v.mu.Unlock()
	return v.say(r, "join "+string(s))
}

func (v *village) kick(r *testRoom, s matrix.ServerName) *testEvent {
	e := v.say(r, "kick "+string(s))
	v.mu.Lock()
	r.in = slices.DeleteFunc(slices.Clone(r.in), func(in matrix.ServerName) bool { return in == s })
	v.mu.Unlock()
	return e
}

func (v *village) read(r *testRoom, user matrix.UserID, thread string, e matrix.EventID) {
	v.t.Helper()
	v.commit(rooms.SetReceipt{Room: r.ID, Receipt: rooms.Receipt{
		RoomNum: r.Num, User: user, Type: "m.read", Thread: thread, Event: e, TS: 7,
	}})
}

// outbox makes an outbox of the village.
func (v *village) outbox(s Sender, now func() time.Time) *Outbox {
	return New(Settings{
		DB: v.db, ServerName: us, Rooms: v, Sender: s, Now: now, Rand: rand.New(rand.NewPCG(1, 2)),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func names(n int, prefix string) []matrix.ServerName {
	var all []matrix.ServerName
	for i := range n {
		all = append(all, matrix.ServerName(fmt.Sprintf("%s%d.example", prefix, i)))
	}
	return all
}
