package clientapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// a netFake notes what it is asked, and knows one room, one user and one directory of others.
type netFake struct {
	asked []string
	err   error
}

const farRoom = matrix.RoomID("!room:far.org")

func (n *netFake) note(format string, args ...any) error {
	n.asked = append(n.asked, fmt.Sprintf(format, args...))
	return n.err
}

func (n *netFake) Join(_ context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	return n.note("%s joins %s because %q by %v", by.User, in.Room, in.Reason, via)
}

func (n *netFake) Knock(_ context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	return n.note("%s knocks on %s because %q by %v", by.User, in.Room, in.Reason, via)
}

func (n *netFake) Leave(_ context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	return n.note("%s leaves %s because %q", by.User, room, reason)
}

func (n *netFake) Invite(_ context.Context, by matrix.Requester, in roomserver.Move, direct bool) error {
	return n.note("%s invites %s, direct %v", by.User, in.Target, direct)
}

func (n *netFake) Alias(_ context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error) {
	return farRoom, []matrix.ServerName{"far.org", "near.org"}, n.note("alias %s", alias)
}

func (n *netFake) Profile(_ context.Context, user matrix.UserID, field string) (map[string]json.RawMessage, error) {
	return map[string]json.RawMessage{"displayname": json.RawMessage(`"Zoe"`)}, n.note("profile %s %q", user, field)
}

func (n *netFake) PublicRooms(_ context.Context, of matrix.ServerName, in roomserver.DirectoryQuery) (roomserver.DirectoryPage, error) {
	page := roomserver.DirectoryPage{Rooms: []rooms.Published{{Room: farRoom, Name: "far", Joined: 3}}, Next: "n", Total: 1}
	return page, n.note("rooms of %s, %d from %q like %q", of, in.Limit, in.Since, in.Term)
}

func TestNetwork(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	net := &netFake{}
	w.api.network = net
	joined := `{"room_id":"!room:far.org"}`
	for _, c := range []struct {
		name string
		do   func() *answer
		want string // answered
		ask  []string
	}{
		{"join by alias", func() *answer {
			return alice.post("/join/%23pub:far.org?via=a.org&server_name=b.org", object{"reason": "x"})
		},
			joined, []string{"alias #pub:far.org", `@alice:example.org joins !room:far.org because "x" by [a.org b.org far.org near.org]`}},
		{"join by ID", func() *answer { return alice.post("/join/!room:far.org?via=a.org", object{}) },
			joined, []string{`@alice:example.org joins !room:far.org because "" by [a.org]`}},
		{"join in the room", func() *answer { return alice.post("/rooms/!room:far.org/join?via=not%20a%20name", object{}) },
			joined, []string{`@alice:example.org joins !room:far.org because "" by []`}},
		{"knock", func() *answer { return alice.post("/knock/!room:far.org?via=a.org", object{"reason": "y"}) },
			joined, []string{`@alice:example.org knocks on !room:far.org because "y" by [a.org]`}},
		{"leave", func() *answer { return alice.post("/rooms/!room:far.org/leave", object{"reason": "z"}) },
			`{}`, []string{`@alice:example.org leaves !room:far.org because "z"`}},
		{"invite", func() *answer { return alice.post("/rooms/!room:far.org/invite", object{"user_id": "@zoe:far.org"}) },
			`{}`, []string{`@alice:example.org invites @zoe:far.org, direct false`}},
		{"alias", func() *answer { return alice.get("/directory/room/%23pub:far.org") },
			`{"room_id":"!room:far.org","servers":["far.org","near.org"]}`, []string{"alias #pub:far.org"}},
		{"profile", func() *answer { return alice.get("/profile/@zoe:far.org") },
			`{"displayname":"Zoe"}`, []string{`profile @zoe:far.org ""`}},
		{"profile field", func() *answer { return alice.get("/profile/@zoe:far.org/displayname") },
			`{"displayname":"Zoe"}`, []string{`profile @zoe:far.org "displayname"`}},
		{"directory", func() *answer { return alice.get("/publicRooms?server=far.org&limit=5&since=s") },
			`{"chunk":[{"room_id":"!room:far.org","name":"far","num_joined_members":3,"world_readable":false,"guest_can_join":false}],
				"next_batch":"n","total_room_count_estimate":1}`, []string{`rooms of far.org, 5 from "s" like ""`}},
	} {
		net.asked = nil
		c.do().is(c.want)
		if !slices.Equal(net.asked, c.ask) {
			t.Errorf("%s: asked %q, want %q", c.name, net.asked, c.ask)
		}
	}
	alice.get("/publicRooms?server=not%20a%20name").fails(400, "M_INVALID_PARAM")
	net.err = matrix.Errorf(matrix.Unknown, "nobody answers").WithStatus(502)
	alice.post("/join/%23pub:far.org", object{}).fails(502, "M_UNKNOWN")
	alice.get("/profile/@zoe:far.org/displayname").fails(502, "M_UNKNOWN")
	alice.get("/publicRooms?server=far.org").fails(502, "M_UNKNOWN")
}

// A new room is there even if users of other servers cannot be invited to it. Those of a trusted chat have the power of
// its creator before they come.
func TestNewRoomInvitesUsersOfOthers(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	invites := object{
		"preset": "trusted_private_chat", "room_version": "11", "is_direct": true, "invite": []string{"@zoe:far.org", string(bob.user)},
	}
	alice.post("/createRoom", invites).fails(502, "M_UNKNOWN") // alone
	for _, err := range []error{nil, matrix.Errorf(matrix.Forbidden, "no")} {
		net := &netFake{err: err}
		w.api.network = net
		r := alice.newRoom(invites)
		if want := "@alice:example.org invites @zoe:far.org, direct true"; len(net.asked) != 1 || net.asked[0] != want {
			t.Errorf("asked %q, want %q", net.asked, want)
		}
		alice.get(r.path+"/state/m.room.power_levels").has(100.0, "users", "@zoe:far.org")
		alice.get(r.path+"/state/m.room.member/"+string(bob.user)).has("invite", "membership")
	}
}

// An invite that is sent as state goes the same way.
func TestInviteOfOthersAsState(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	net := &netFake{err: matrix.Errorf(matrix.Forbidden, "no")}
	w.api.network = net
	invite := object{"membership": "invite", "is_direct": true}
	alice.put(r.path+"/state/m.room.member/@zoe:far.org", invite).fails(403, "M_FORBIDDEN")
	if want := "@alice:example.org invites @zoe:far.org, direct true"; len(net.asked) != 1 || net.asked[0] != want {
		t.Errorf("asked %q, want %q", net.asked, want)
	}
	net.err = nil
	alice.put(r.path+"/state/m.room.member/@zoe:far.org", invite).fails(404, "M_NOT_FOUND") // the fake stores none
	alice.put(r.path+"/state/m.room.member/@zoe:far.org", object{"membership": "ban"}).ok()
	alice.put(r.path+"/state/m.room.topic", object{"topic": "x"}).ok()
	if len(net.asked) != 2 {
		t.Errorf("asked %q, want two invites", net.asked)
	}
}
