package view_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// member lets a membership event of somebody come from another server, or an invite of such a user from here.
func (w *world) member(sender, target matrix.UserID, m event.Membership) {
	w.t.Helper()
	room, err := w.s.Room(w.t.Context(), w.room)
	must(w.t, err)
	head, _, err := rooms.HeadOf(w.t.Context(), w.db, room.Num)
	must(w.t, err)
	tips, err := w.s.Events(w.t.Context(), room, head.Extremities)
	must(w.t, err)
	key := string(target)
	p := event.Proto{
		Type: event.TypeMember, StateKey: &key, Sender: sender, RoomID: w.room, Depth: head.Depth + 1,
		OriginServerTS: now.Add(w.passed).UnixMilli(), Content: []byte(`{"membership":"` + string(m) + `"}`),
	}
	for _, tip := range tips {
		p.PrevEvents = append(p.PrevEvents, tip.ID)
	}
	state, err := w.s.Current(w.t.Context(), w.room)
	must(w.t, err)
	found, err := state.Events(w.t.Context(), auth.Needed(room.Version, p.Type, key, sender, p.Content)...)
	must(w.t, err)
	for _, e := range found {
		if e != nil {
			p.AuthEvents = append(p.AuthEvents, e.ID)
		}
	}
	signer, err := signing.Generate(rand.Reader)
	must(w.t, err)
	e, err := event.Build(room.Version, p, sender.Server(), signer)
	must(w.t, err)
	if r := w.s.Receive(w.t.Context(), sender.Server(), w.room, []*event.Event{e})[0]; r.Err != nil {
		w.t.Fatalf("%s of %s by %s: %v", m, target, sender, r.Err)
	}
}

func (w *world) openServer(name matrix.ServerName) *view.ServerViewer {
	w.t.Helper()
	v, err := view.OpenServer(w.t.Context(), w.s, w.db, view.ServerIn{Server: name, Room: w.room})
	must(w.t, err)
	return v
}

const carol = matrix.UserID("@carol:other.org")

func TestServerSees(t *testing.T) {
	for _, c := range []struct {
		visibility string
		whole      string // of the messages below, by number
	}{
		{"world_readable", "012345"}, {"shared", "012345"}, {"invited", "1245"}, {"joined", "25"},
	} {
		for _, version := range []matrix.RoomVersion{"6", "11", "12"} {
			w := newWorld(t, version, c.visibility)
			alice := who("alice").User
			ids := []matrix.EventID{w.say("0")}
			w.member(alice, carol, event.Invite)
			ids = append(ids, w.say("1"))
			w.member(carol, carol, event.Join)
			ids = append(ids, w.say("2"))
			w.member(carol, carol, event.Leave)
			ids = append(ids, w.say("3"))
			w.member(alice, carol, event.Invite)
			ids = append(ids, w.say("4"))
			w.member(carol, carol, event.Join)
			ids = append(ids, w.say("5"))
			v := w.openServer("other.org")
			got := ""
			for i, id := range ids {
				e, _, err := rooms.EventByID(t.Context(), w.db, v.Room, id)
				must(t, err)
				pdu, ok, err := v.PDU(t.Context(), e)
				must(t, err)
				if !ok {
					t.Errorf("%s, version %s: message %d does not go out, want it at least redacted", c.visibility, version, i)
				}
				if string(pdu) == string(e.JSON) {
					got += fmt.Sprint(i)
				} else if string(pdu) != string(e.RedactedJSON()) {
					t.Errorf("%s, version %s: message %d goes out as %s", c.visibility, version, i, pdu)
				}
			}
			if got != c.whole {
				t.Errorf("%s, version %s: got %q whole, want %q", c.visibility, version, got, c.whole)
			}
		}
	}
}

// Each join, invite and change of visibility is seen whole by the server that it lets in.
func TestServerSeesItsOwnEntry(t *testing.T) {
	w := newWorld(t, "11", "joined")
	w.member(carol, carol, event.Join)
	shown := w.set(event.TypeHistoryVisibility, `{"history_visibility":"world_readable"}`)
	v := w.openServer("other.org")
	page, err := rooms.Page(t.Context(), w.db, v.Room, rooms.PageQuery{From: rooms.Order{Anchor: w.db.Position()}, Backward: true, Limit: 100})
	must(t, err)
	whole := map[string]bool{}
	for _, e := range page {
		pdu, _, err := v.PDU(t.Context(), e)
		must(t, err)
		whole[e.Type+" "+string(e.Target())] = string(pdu) == string(e.JSON)
	}
	if !whole[event.TypeMember+" "+string(carol)] || !whole[event.TypeCreate+" "] {
		t.Errorf("got %v, want carol's join and the creation whole", whole)
	}
	if e, _, _ := rooms.EventByID(t.Context(), w.db, v.Room, shown); e == nil {
		t.Error("the change of visibility is not there")
	}
}

func TestServerIsNotIn(t *testing.T) {
	w := newWorld(t, "11", "world_readable")
	refused := func(name matrix.ServerName, room matrix.RoomID) string {
		t.Helper()
		_, err := view.OpenServer(t.Context(), w.s, w.db, view.ServerIn{Server: name, Room: room})
		if matrix.CodeOf(err) != matrix.Forbidden {
			t.Errorf("%s in %s: got %v, want M_FORBIDDEN", name, room, err)
			return ""
		}
		return strings.ReplaceAll(err.Error(), string(room), "")
	}
	if a, b := refused("other.org", w.room), refused("other.org", "!none:example.org"); a != b {
		t.Errorf("a room that is there: %q, one that is not: %q; want the same", a, b)
	}
	w.member(who("alice").User, carol, event.Invite)
	refused("other.org", w.room)
	w.member(carol, carol, event.Join)
	w.openServer("other.org")
	refused("ther.org", w.room) // the end of a name is another name
	w.member("@dave:other.org:8448", "@dave:other.org:8448", event.Join)
	refused("8448", w.room) // a port is no name
	w.member(carol, carol, event.Leave)
	refused("other.org", w.room)
}

// What has no place in the timeline goes out if it is state, and not if it broke the rules.
func TestServerAndOutliers(t *testing.T) {
	w := newWorld(t, "11", "shared")
	w.member(carol, carol, event.Join)
	v := w.openServer("other.org")
	key := ""
	state := &event.Event{Type: "m.room.topic", StateKey: &key, JSON: []byte(`{"topic":1}`), Version: v.Room.Version}
	message := &event.Event{Type: "m.room.message", JSON: []byte(`{"content":{"body":"x"},"type":"m.room.message"}`), Version: v.Room.Version}
	for _, c := range []struct {
		name string
		e    rooms.Event
		goes bool
	}{
		{"state", rooms.Event{Event: state, Kind: rooms.Outlier, StateUnknown: true}, true},
		{"a message", rooms.Event{Event: message, Kind: rooms.Outlier, StateUnknown: true}, false},
		{"rejected state", rooms.Event{Event: state, Kind: rooms.Rejected}, false},
		{"backfilled, of unknown state", rooms.Event{Event: message, Kind: rooms.Backfilled, StateUnknown: true}, true},
	} {
		pdu, goes, err := v.PDU(t.Context(), &c.e)
		if err != nil || goes != c.goes {
			t.Errorf("%s: got %v, %v, want %v", c.name, goes, err, c.goes)
		}
		if goes && !c.e.IsState() && string(pdu) == string(c.e.JSON) {
			t.Errorf("%s: goes out whole, want it redacted", c.name)
		}
	}
}
