package federation_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/audience"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// completePartial makes all partial rooms whole, at once.
func (h *house) completePartial(ctx context.Context) error {
	joins, err := rooms.OpenPartials(ctx, h.db)
	for _, join := range joins {
		err = errors.Join(err, h.rooms.CompletePartial(ctx, join.RoomNum, 0))
	}
	return err
}

// crowd makes a room of a house that is large enough for its members to be left out of the answer to a join.
func (h *house) crowd(n int) matrix.RoomID {
	h.t.Helper()
	room := h.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	for i := range n {
		by := matrix.Requester{User: h.user(fmt.Sprintf("u%03d", i)), Device: "D"}
		if err := h.rooms.Join(h.t.Context(), by, room, ""); err != nil {
			h.t.Fatal(err)
		}
	}
	return room
}

func (h *house) isPartial(id matrix.RoomID) bool {
	h.t.Helper()
	room, err := h.rooms.Room(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	partial, err := h.rooms.IsPartial(h.t.Context(), room)
	if err != nil {
		h.t.Fatal(err)
	}
	return partial
}

// lastPlace is the last event of a room.
func (h *house) lastPlace(id matrix.RoomID) remote.Place {
	h.t.Helper()
	room, err := h.rooms.Room(h.t.Context(), id)
	must(h.t, err)
	head, _, err := rooms.HeadOf(h.t.Context(), h.db, room.Num)
	must(h.t, err)
	events, err := h.rooms.Events(h.t.Context(), room, head.Extremities)
	must(h.t, err)
	return remote.Place{Room: remote.Room{ID: id, Version: room.Version}, Event: events[0].ID}
}

// A join to a large room is answered without its members; while they are unknown, what would need them is refused to others,
// and the servers in the room are told of what happens there.
func TestPartialJoinOverNetwork(t *testing.T) {
	w := newTown(t)
	host, second, guest := w.house("host.example"), w.house("second.example"), w.house("guest.example")
	room := host.crowd(120)
	must(t, second.join("alice", room, "host.example"))
	must(t, second.completePartial(t.Context()))
	must(t, guest.join("alice", room, "host.example"))
	if !guest.isPartial(room) {
		t.Fatal("all members came with the join")
	}
	told, err := audience.NewRooms(guest.db, guest.rooms).Servers(t.Context(), room)
	if err != nil || !slices.Contains(told, "second.example") || !slices.Contains(told, "host.example") {
		t.Errorf("who is told of events: got %v, %v; want both others", told, err)
	}
	// Another user comes in on the word of a server that knows the members.
	must(t, guest.join("bob", room, "host.example"))
	if !guest.isPartial(room) {
		t.Error("the second join waited for the members")
	}
	at := guest.lastPlace(room)
	_, err = second.remote.StateIDs(t.Context(), "guest.example", at)
	refused(t, "state_ids", err)
	_, err = second.remote.State(t.Context(), "guest.example", at)
	refused(t, "state", err)
	_, err = second.remote.MakeJoin(t.Context(), remote.Visit{Server: "guest.example", Room: room, User: second.user("bob")})
	wantCode(t, "make_join", remote.Explain(err), matrix.NotFound)
	if got, err := second.remote.Event(t.Context(), "guest.example", at); err != nil || got == nil {
		t.Errorf("an event: got %v, %v", got, err)
	}
	must(t, guest.completePartial(t.Context()))
	if guest.isPartial(room) {
		t.Fatal("the room is still partial")
	}
	now, err := guest.rooms.Current(t.Context(), room)
	must(t, err)
	members, err := now.Members(t.Context())
	if err != nil || len(members) != 1+120+1+2 {
		t.Errorf("members: got %d, %v; want 124", len(members), err)
	}
	if ids, err := second.remote.StateIDs(t.Context(), "guest.example", at); err != nil || len(ids.State) < 123 {
		t.Errorf("state_ids of the whole room: got %d, %v", len(ids.State), err)
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	var answer *outbound.RemoteError
	if !errors.As(err, &answer) || answer.Status != 404 || answer.Code != matrix.UnableDueToPartialState ||
		!strings.Contains(answer.Message, "still being fetched") {
		t.Errorf("%s: got %v, want 404 %s, and why", what, err, matrix.UnableDueToPartialState)
	}
}

// All servers that were in a room hear that this server leaves it before it knew who they are.
func TestPartialJoinLeftIsTold(t *testing.T) {
	w := newTown(t)
	host, second, guest := w.house("host.example"), w.house("second.example"), w.house("guest.example")
	room := host.crowd(120)
	must(t, second.join("alice", room, "host.example"))
	must(t, guest.join("alice", room, "host.example"))
	must(t, guest.rooms.Leave(t.Context(), guest.as("alice"), room, ""))
	must(t, guest.completePartial(t.Context())) // gives it up
	if guest.isPartial(room) {
		t.Fatal("the room was not given up")
	}
	at := guest.lastPlace(room)
	known, err := guest.rooms.Room(t.Context(), room)
	must(t, err)
	leave, found, err := rooms.EventByID(t.Context(), guest.db, known, at.Event)
	if err != nil || !found || leave.Membership() != event.Leave {
		t.Fatalf("the last event: got %+v, %v; want the leave", leave, err)
	}
	told, err := audience.NewRooms(guest.db, guest.rooms).Owed(t.Context(), leave)
	if err != nil || !slices.Contains(told, "second.example") || !slices.Contains(told, "host.example") {
		t.Errorf("who is told of the leave: got %v, %v; want both others", told, err)
	}
}

// A resident server that leaves members out, though nobody else is named, or lies about which, is believed no longer than
// until others have told.
func TestPartialJoinHostileResident(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.crowd(120)
	for _, c := range []struct {
		name   string
		change func(answer map[string]any)
		joins  bool
	}{
		{"no servers", func(a map[string]any) { delete(a, "servers_in_room") }, false},
		{"servers that are none", func(a map[string]any) { a["servers_in_room"] = []string{"not a server", ""} }, false},
		{"members omitted, but not said so", func(a map[string]any) { a["members_omitted"] = false }, true},
		{"said to be omitted, but whole", func(a map[string]any) {}, true},
	} {
		host.tamperWithJoins(c.change)
		err := guest.join("alice", room, "host.example")
		if (err == nil) != c.joins {
			t.Errorf("%s: got %v, want joined %v", c.name, err, c.joins)
		}
		if err == nil {
			must(t, guest.rooms.Leave(t.Context(), matrix.Requester{User: guest.user("alice"), Device: "D"}, room, ""))
			must(t, guest.completePartial(t.Context()))
		}
	}
}

// tamperWithJoins lets a house lie to who joins.
func (h *house) tamperWithJoins(change func(answer map[string]any)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tamper = func(path string, body []byte) []byte {
		var answer map[string]any
		if !strings.Contains(path, "/send_join/") || json.Unmarshal(body, &answer) != nil {
			return body
		}
		change(answer)
		body, _ = json.Marshal(answer)
		return body
	}
}

// A resident server that names others who are not in the room makes us write to some of them, each once for an event, and
// only until the members are known. Those of whom a user is known to be there are told whatever it says.
func TestPartialJoinNamesVictims(t *testing.T) {
	const most = 1000
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	room := host.crowd(120)
	var names []any
	for i := range 5 * most {
		names = append(names, fmt.Sprintf("victim%d.example", i), "again.example")
	}
	host.tamperWithJoins(func(a map[string]any) { a["servers_in_room"] = append(names, "second.example") })
	must(t, guest.join("alice", room, "host.example"))
	told := func() []matrix.ServerName {
		t.Helper()
		in, err := audience.NewRooms(guest.db, guest.rooms).Servers(t.Context(), room)
		must(t, err)
		return in
	}
	in := told()
	if len(in) > most+2 || !slices.Contains(in, "host.example") || !slices.Contains(in, "again.example") {
		t.Errorf("got %d servers, want the one that let us in and %d of those that it names at most", len(in), most)
	}
	if slices.Contains(in, "second.example") {
		t.Fatal("the last of those that are named is told; want it to be known before")
	}
	must(t, w.house("second.example").join("alice", room, "host.example"))
	host.deliver(guest, room)
	if !slices.Contains(told(), "second.example") {
		t.Error("a server that has joined meanwhile is not told")
	}
	must(t, guest.completePartial(t.Context()))
	if in = told(); len(in) != 3 {
		t.Errorf("of the whole room: got %v, want those who are there", in)
	}
}

// Whether a user of ours is banned from a partial room is not known here. Only the server that let us in is believed that one
// is not, lest whom it has banned names another that says so.
func TestPartialJoinIsVouchedForByHost(t *testing.T) {
	w := newTown(t)
	host, guest, l := w.house("host.example"), w.house("guest.example"), w.liar()
	room := host.crowd(120)
	ban := roomserver.Move{Room: room, Target: guest.user("bob")}
	must(t, host.rooms.Ban(t.Context(), host.as("alice"), ban))
	must(t, guest.join("alice", room, "host.example"))
	if !guest.isPartial(room) {
		t.Fatal("all members came with the join")
	}
	for _, content := range []string{
		`{"membership":"join"}`, `{"membership":"join","join_authorised_via_users_server":"@x:liar.example"}`,
	} {
		l.template = func(string) string {
			return fmt.Sprintf(`{"room_version":"11","event":{"type":"m.room.member","room_id":%q,"sender":%q,"state_key":%q,`+
				`"content":%s,"prev_events":["$p"],"auth_events":["$a"],"depth":7}}`, room, guest.user("bob"), guest.user("bob"), content)
		}
		wantCode(t, content, guest.join("bob", room, liarName, "host.example"), matrix.Forbidden)
		if len(l.got) > 0 {
			t.Errorf("%s: the liar was sent %s", content, l.got)
		}
	}
	if stands := guest.stands("bob", room).Membership; stands == event.Join {
		t.Error("bob, who is banned, has joined")
	}
	host.door.dead.Store(true)
	if err := guest.join("bob", room, liarName); err == nil || len(l.got) > 0 {
		t.Errorf("with a host that is away: got %v, want that nobody else is believed", err)
	}
}

// Into a restricted room that is partial, any server brings a user that may vouch by the rules of the room: it has to sign.
func TestPartialJoinOfRestrictedRoom(t *testing.T) {
	w := newTown(t)
	host, second, guest := w.house("host.example"), w.house("second.example"), w.house("guest.example")
	club := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	room := host.crowd(120)
	for _, h := range []*house{second, guest} {
		must(t, h.join("alice", club, "host.example"))
	}
	must(t, guest.join("bob", club, "host.example"))
	guest.deliver(second, club)
	must(t, second.join("alice", room, "host.example"))
	must(t, second.completePartial(t.Context()))
	host.set(room, event.TypePowerLevels, `{"users":{"@alice:host.example":100,"@alice:second.example":50}}`)
	host.set(room, event.TypeJoinRules, fmt.Sprintf(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}`, club))
	host.deliver(second, room)
	must(t, guest.join("alice", room, "host.example"))
	if !guest.isPartial(room) {
		t.Fatal("all members came with the join")
	}
	host.door.dead.Store(true)
	must(t, guest.join("bob", room, "second.example"))
	must(t, guest.completePartial(t.Context()))
	wantMember(t, "bob", guest.stands("bob", room).Membership, event.Join)
}
