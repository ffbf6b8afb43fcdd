package roomserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

var background = context.Background()

// A site is one of several servers in a test.
type site struct {
	*roomserver.Server
	t    testing.TB
	name matrix.ServerName
	key  signing.Key
	db   *storage.DB
	net  *script
}

// newSite opens a server with users alice and bob on a database of its own.
func newSite(t testing.TB, name matrix.ServerName) *site {
	t.Helper()
	return siteOn(t, name, storagetest.Open(t, storagetest.SQLite))
}

func siteOn(t testing.TB, name matrix.ServerName, db *storage.DB) *site {
	t.Helper()
	set := settings(t, db)
	set.ServerName = name
	p := &people{}
	for _, user := range []string{"alice", "bob"} {
		p.rename(matrix.UserID("@"+user+":"+string(name)), strings.ToUpper(user))
	}
	x := &site{t: t, name: name, key: set.Key, db: db, net: newScript()}
	set.Profiles, set.Remote = p, x.net
	x.Server = roomserver.New(set)
	return x
}

func (x *site) create(in roomserver.CreateRoom) matrix.RoomID {
	x.t.Helper()
	id, err := x.Create(background, x.as("alice"), in)
	if err != nil {
		x.t.Fatal(err)
	}
	return id
}

func (x *site) user(name string) matrix.UserID {
	return matrix.UserID("@" + name + ":" + string(x.name))
}

func (x *site) as(name string) matrix.Requester {
	return matrix.Requester{Account: x.user(name), User: x.user(name), Device: "D"}
}

func (x *site) visit(room matrix.RoomID, name string) roomserver.Visit {
	return roomserver.Visit{Origin: x.name, Room: room, User: x.user(name), Versions: allVersions()}
}

func allVersions() (ids []matrix.RoomVersion) {
	for _, v := range event.Versions() {
		ids = append(ids, v.ID)
	}
	return ids
}

// build makes the event of a template, as a server does that takes over what it may.
func (x *site) build(t roomserver.Template, change func(*event.Proto)) *event.Event {
	x.t.Helper()
	obj, err := canonical.JSON(t.Event, canonical.Lenient)
	if err != nil {
		x.t.Fatal(err)
	}
	told, err := event.Load(t.Version, "", obj)
	if err != nil {
		x.t.Fatal(err)
	}
	p := event.Proto{
		Type: told.Type, StateKey: told.StateKey, Sender: told.Sender, RoomID: told.RoomID, Content: told.Content,
		PrevEvents: told.PrevEvents, AuthEvents: told.AuthEvents, Depth: told.Depth, OriginServerTS: testClock.Now().UnixMilli(),
		ReferenceHashes: hashesIn(x.t, obj),
	}
	if change != nil {
		change(&p)
	}
	ev, err := event.Build(t.Version, p, x.name, x.key)
	if err != nil {
		x.t.Fatal(err)
	}
	return ev
}

// hashesIn reads the hashes of the events that a template names in old versions.
func hashesIn(t testing.TB, obj []byte) map[matrix.EventID][32]byte {
	t.Helper()
	hashes := make(map[matrix.EventID][32]byte)
	for _, list := range []string{"prev_events", "auth_events"} {
		var pairs [][2]json.RawMessage
		if json.Unmarshal(canonical.Get(obj, list), &pairs) != nil {
			continue
		}
		for _, pair := range pairs {
			id, _ := canonical.String(pair[0])
			text, _ := canonical.String(canonical.Get(pair[1], "sha256"))
			hash, err := signing.DecodeBase64(text)
			if err != nil || len(hash) != 32 {
				t.Fatalf("%s has the hash %q", id, text)
			}
			hashes[matrix.EventID(id)] = [32]byte(hash)
		}
	}
	return hashes
}

func (x *site) sent(room matrix.RoomID, ev *event.Event) roomserver.Sent {
	return roomserver.Sent{Origin: x.name, Room: room, ID: ev.ID, Event: ev}
}

// join lets a user of x into a room of host, and returns what x is given.
func (x *site) join(host *site, room matrix.RoomID, name string) (roomserver.Welcome, error) {
	t, err := host.MakeJoin(background, x.visit(room, name))
	if err != nil {
		return roomserver.Welcome{}, err
	}
	return host.SendJoin(background, x.sent(room, x.build(t, nil)), false)
}

// adopt is join, and the taking in of what is given.
func (x *site) adopt(host *site, room matrix.RoomID, name string) error {
	w, err := x.join(host, room, name)
	if err != nil {
		return err
	}
	return x.Adopt(background, answerOf(w))
}

func answerOf(w roomserver.Welcome) roomserver.JoinAnswer {
	in := roomserver.JoinAnswer{Room: w.Join.RoomID, Version: w.Join.Version, Join: w.Join}
	for _, ev := range w.State {
		in.State = append(in.State, ev.Event)
	}
	for _, ev := range w.AuthChain {
		in.AuthChain = append(in.AuthChain, ev.Event)
	}
	return in
}

// membership is what the current state of a room says of a user.
func (x *site) membership(room matrix.RoomID, user matrix.UserID) event.Membership {
	x.t.Helper()
	state, err := x.Current(background, room)
	if err != nil {
		x.t.Fatal(err)
	}
	m, _, err := state.Member(background, user)
	if err != nil {
		x.t.Fatal(err)
	}
	return m
}

// stands is what the table of memberships says of a user.
func (x *site) stands(room matrix.RoomID, user matrix.UserID) rooms.Membership {
	x.t.Helper()
	r, found, err := rooms.ByID(background, x.db, room)
	if err != nil {
		x.t.Fatal(err)
	}
	if !found {
		return rooms.Membership{}
	}
	m, _, err := rooms.MembershipOf(background, x.db, r.Num, user)
	if err != nil {
		x.t.Fatal(err)
	}
	return m
}

func wantCode(t testing.TB, what string, err error, want matrix.ErrorCode) {
	t.Helper()
	if got := matrix.CodeOf(err); got != want {
		t.Errorf("%s: got %v, want the code %q", what, err, want)
	}
}

func TestResidentJoin(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "2", "5", "8", "11", "12"} {
		t.Run(string(version), func(t *testing.T) {
			host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
			room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: version})
			w, err := guest.join(host, room, "bob")
			if err != nil {
				t.Fatal(err)
			}
			if got := host.membership(room, guest.user("bob")); got != event.Join {
				t.Errorf("bob is %q in the room, want join", got)
			}
			if fmt.Sprint(w.Servers) != "[host.org]" || w.MembersOmitted {
				t.Errorf("servers %v, members omitted %v; want [host.org], false", w.Servers, w.MembersOmitted)
			}
			checkWelcome(t, w)
			stored, found, err := rooms.EventByID(background, host.db, mustRoom(t, host, room), w.Join.ID)
			if err != nil || !found || !stored.Relayed || stored.Kind != rooms.Live {
				t.Errorf("stored %+v, %v: want it live, and marked to be passed on", stored, err)
			}
			if err := guest.Adopt(background, answerOf(w)); err != nil {
				t.Fatal(err)
			}
			if got := guest.membership(room, host.user("alice")); got != event.Join {
				t.Errorf("at the guest alice is %q, want join", got)
			}
		})
	}
}

func TestResidentOnBothDatabases(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		host, guest := siteOn(t, "host.org", db), newSite(t, "guest.org")
		room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
		w, err := guest.join(host, room, "bob")
		if err != nil {
			t.Fatal(err)
		}
		checkWelcome(t, w)
		told, err := host.MakeLeave(background, guest.visit(room, "bob"))
		if err != nil {
			t.Fatal(err)
		}
		leave := guest.build(told, nil)
		if err := host.SendLeave(background, guest.sent(room, leave)); err != nil {
			t.Fatal(err)
		}
		ours, err := host.Send(background, host.as("alice"), send(room, "hello"))
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[matrix.EventID]bool{w.Join.ID: true, leave.ID: true, ours: false} {
			ev, _, err := rooms.EventByID(background, db, mustRoom(t, host, room), id)
			if err != nil || ev.Relayed != want {
				t.Errorf("%s is to be passed on: %v (%v), want %v", id, ev.Relayed, err, want)
			}
		}
	})
}

func mustRoom(t testing.TB, x *site, id matrix.RoomID) rooms.Room {
	t.Helper()
	room, err := x.Room(background, id)
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// checkWelcome looks that the auth chain is closed: each event names only events that are there.
func checkWelcome(t testing.TB, w roomserver.Welcome) {
	t.Helper()
	given := make(map[matrix.EventID]bool)
	all := append(slices.Concat(w.State, w.AuthChain), &rooms.Event{Event: w.Join})
	for _, ev := range all {
		given[ev.ID] = true
	}
	for _, ev := range all {
		for _, id := range ev.AuthEvents {
			if !given[id] {
				t.Errorf("%s (%s) cites %s, which is not in the answer", ev.ID, ev.Type, id)
			}
		}
	}
}

func TestResidentRefusesTemplates(t *testing.T) {
	host, guest, other := newSite(t, "host.org"), newSite(t, "guest.org"), newSite(t, "other.org")
	public := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	private := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	banned := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := host.Ban(background, host.as("alice"), roomserver.Move{Room: banned, Target: guest.user("bob")}); err != nil {
		t.Fatal(err)
	}
	shut := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	_, err := host.SendState(background, host.as("alice"), roomserver.SendState{
		Room: shut, Type: "m.room.server_acl", Content: []byte(`{"allow":["*"],"deny":["guest.org"]}`)})
	if err != nil {
		t.Fatal(err)
	}
	left := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := guest.adopt(host, left, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := host.Leave(background, host.as("alice"), left, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		make  func(context.Context, roomserver.Visit) (roomserver.Template, error)
		visit roomserver.Visit
		want  matrix.ErrorCode
	}{
		{"join a public room", host.MakeJoin, guest.visit(public, "bob"), ""},
		{"join a private room", host.MakeJoin, guest.visit(private, "bob"), matrix.Forbidden},
		{"join, banned", host.MakeJoin, guest.visit(banned, "bob"), matrix.Forbidden},
		{"join, shut out by the ACL", host.MakeJoin, guest.visit(shut, "bob"), matrix.Forbidden},
		{"join a room that does not exist", host.MakeJoin, guest.visit("!none:host.org", "bob"), matrix.NotFound},
		{"join a room that we have left", host.MakeJoin, guest.visit(left, "bob"), matrix.NotFound},
		{"join for the user of another", host.MakeJoin, roomserver.Visit{
			Origin: other.name, Room: public, User: guest.user("bob"), Versions: allVersions()}, matrix.Forbidden},
		{"join, of another version", host.MakeJoin, roomserver.Visit{
			Origin: guest.name, Room: public, User: guest.user("bob"), Versions: []matrix.RoomVersion{"1"}}, matrix.IncompatibleRoomVersion},
		{"leave, not there", host.MakeLeave, guest.visit(public, "bob"), matrix.Forbidden},
		{"leave, banned", host.MakeLeave, guest.visit(banned, "bob"), matrix.Forbidden},
		{"knock on a public room", host.MakeKnock, guest.visit(public, "bob"), matrix.Forbidden},
		{"knock, of another version", host.MakeKnock, roomserver.Visit{
			Origin: guest.name, Room: public, User: guest.user("bob")}, matrix.IncompatibleRoomVersion},
	} {
		_, err := c.make(background, c.visit)
		wantCode(t, c.name, err, c.want)
		var e *matrix.Error
		if c.want == matrix.IncompatibleRoomVersion && (!errors.As(err, &e) || e.Fields["room_version"] != matrix.RoomVersion("12")) {
			t.Errorf("%s: got %v, want the room version with it", c.name, err)
		}
	}
}

// What is sent must be exactly what the endpoint is for. Nothing of what is refused is stored.
//
// CVE-2020-26257: the room of the request is not that of the event. CVE-2019-18835: events of others than the sender's
// server. Synapse 1.2.1 #5744: making others join and leave.
func TestResidentRefusesEvents_CVE_2020_26257_CVE_2019_18835_Synapse5744(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	other := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	alice := string(guest.user("alice"))
	good := guest.sent(room, guest.build(told, nil))
	before, err := host.Current(background, room)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*event.Proto)) roomserver.Sent { return guest.sent(room, guest.build(told, change)) }
	for _, c := range []struct {
		name string
		sent roomserver.Sent
		want matrix.ErrorCode
	}{
		{"another room in the request", roomserver.Sent{Origin: guest.name, Room: other, ID: good.ID, Event: good.Event}, matrix.InvalidParam},
		{"another room in the event", with(func(p *event.Proto) { p.RoomID = other }), matrix.InvalidParam},
		{"another ID", roomserver.Sent{Origin: guest.name, Room: room, ID: "$other", Event: good.Event}, matrix.InvalidParam},
		{"another origin", roomserver.Sent{Origin: "evil.org", Room: room, ID: good.ID, Event: good.Event}, matrix.InvalidParam},
		{"another state key", with(func(p *event.Proto) { p.StateKey = &alice }), matrix.InvalidParam},
		{"no state key", with(func(p *event.Proto) { p.StateKey = nil }), matrix.InvalidParam},
		{"another type", with(func(p *event.Proto) { p.Type = "m.room.name" }), matrix.InvalidParam},
		{"a leave", with(func(p *event.Proto) { p.Content = []byte(`{"membership":"leave"}`) }), matrix.InvalidParam},
		{"a user of the host", with(func(p *event.Proto) { p.Sender = host.user("bob"); k := string(p.Sender); p.StateKey = &k }), matrix.InvalidParam},
		{"vouched for by another server", with(func(p *event.Proto) {
			p.Content = []byte(`{"membership":"join","join_authorised_via_users_server":"@x:evil.org"}`)
		}), matrix.InvalidParam},
		{"vouched for where nobody does", with(func(p *event.Proto) {
			p.Content = []byte(`{"membership":"join","join_authorised_via_users_server":"@alice:host.org"}`)
		}), matrix.Forbidden},
		{"prev events that nobody has", with(func(p *event.Proto) { p.PrevEvents = []matrix.EventID{"$nowhere"} }), matrix.InvalidParam},
		{"auth events that do not fit", with(func(p *event.Proto) { p.AuthEvents = p.AuthEvents[:1] }), matrix.Forbidden},
	} {
		_, err := host.SendJoin(background, c.sent, false)
		wantCode(t, c.name, err, c.want)
		if _, found, err := rooms.EventByID(background, host.db, mustRoom(t, host, room), c.sent.Event.ID); found || err != nil {
			if c.sent.Event != good.Event {
				t.Errorf("%s: stored (%v)", c.name, err)
			}
		}
	}
	wantCode(t, "a join to send_leave", host.SendLeave(background, good), matrix.InvalidParam)
	_, err = host.SendKnock(background, good)
	wantCode(t, "a join to send_knock", err, matrix.InvalidParam)
	if now, err := host.Current(background, room); err != nil || now.Root() != before.Root() {
		t.Errorf("the room has moved (%v)", err)
	}
	if n := host.net.requests(); n > 0 {
		t.Errorf("%d requests were made for events that were refused", n)
	}
	if _, err := host.SendJoin(background, good, false); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// A template that was given before a ban is of no use after it.
func TestResidentBanEvasion(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	join := guest.build(told, nil)
	if err := host.Ban(background, host.as("alice"), roomserver.Move{Room: room, Target: guest.user("bob")}); err != nil {
		t.Fatal(err)
	}
	_, err = host.SendJoin(background, guest.sent(room, join), false)
	wantCode(t, "a join from before the ban", err, matrix.Forbidden)
	if got := host.membership(room, guest.user("bob")); got != event.Ban {
		t.Errorf("bob is %q, want ban", got)
	}
	if _, found, _ := rooms.EventByID(background, host.db, mustRoom(t, host, room), join.ID); found {
		t.Error("the refused join was stored")
	}
}

func TestResidentJoinTwice(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	sent := guest.sent(room, guest.build(told, nil))
	var sizes []string
	for range 2 {
		w, err := host.SendJoin(background, sent, false)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fmt.Sprint(w.Join.ID, len(w.State), len(w.AuthChain), w.Servers))
	}
	if sizes[0] != sizes[1] {
		t.Errorf("the second answer is %s, want %s", sizes[1], sizes[0])
	}
}

func TestResidentLeaveAndKnock(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat", Name: "the den"})
	_, err := host.SendState(background, host.as("alice"), roomserver.SendState{
		Room: room, Type: "m.room.join_rules", Content: []byte(`{"join_rule":"knock"}`)})
	if err != nil {
		t.Fatal(err)
	}
	told, err := host.MakeKnock(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	knock := guest.build(told, nil)
	state, err := host.SendKnock(background, guest.sent(room, knock))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, ev := range state {
		types = append(types, ev.Type)
	}
	if got := strings.Join(types, " "); got != "m.room.create m.room.join_rules m.room.name" {
		t.Errorf("who knocks is told %s", got)
	}
	if got := host.membership(room, guest.user("bob")); got != event.Knock {
		t.Errorf("bob is %q, want knock", got)
	}
	if told, err = host.MakeLeave(background, guest.visit(room, "bob")); err != nil {
		t.Fatal(err)
	}
	if err := host.SendLeave(background, guest.sent(room, guest.build(told, nil))); err != nil {
		t.Fatal(err)
	}
	if got := host.membership(room, guest.user("bob")); got != event.Leave {
		t.Errorf("bob is %q, want leave", got)
	}
}

// restrict makes a room that the members of another may join.
func (x *site) restrict(allowed matrix.RoomID) matrix.RoomID {
	x.t.Helper()
	room := x.create(roomserver.CreateRoom{Preset: "private_chat", Version: "11"})
	content := fmt.Sprintf(`{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":%q}]}`, allowed)
	_, err := x.SendState(background, x.as("alice"), roomserver.SendState{
		Room: room, Type: "m.room.join_rules", Content: []byte(content)})
	if err != nil {
		x.t.Fatal(err)
	}
	return room
}

func TestResidentRestrictedJoin(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	club := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	room := host.restrict(club)
	unknown := host.restrict("!elsewhere:far.org")

	_, err := host.MakeJoin(background, guest.visit(room, "bob"))
	wantCode(t, "not in the club", err, matrix.Forbidden)
	_, err = host.MakeJoin(background, guest.visit(unknown, "bob"))
	wantCode(t, "a room that we are not in", err, matrix.UnableToAuthoriseJoin)
	if _, err := guest.join(host, club, "bob"); err != nil {
		t.Fatal(err)
	}
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	join := guest.build(told, nil)
	if via, _ := join.JoinAuthoriser(); via != host.user("alice") {
		t.Fatalf("%q vouches, want alice", via)
	}
	w, err := host.SendJoin(background, guest.sent(room, join), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := event.VerifySignature(w.Join, host.name, host.key.ID(), host.key.Public()); err != nil {
		t.Errorf("the signature of the server that vouches: %v", err)
	}
	if err := event.VerifySignature(w.Join, guest.name, guest.key.ID(), guest.key.Public()); err != nil {
		t.Errorf("the signature of the server that joins: %v", err)
	}
	if err := guest.Adopt(background, answerOf(w)); err != nil {
		t.Error(err)
	}
}

// Who has left the club, or lost the one who vouched, between template and join gets no signature.
func TestResidentRestrictedJoinTooLate(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	club := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	room := host.restrict(club)
	if _, err := guest.join(host, club, "bob"); err != nil {
		t.Fatal(err)
	}
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	join := guest.build(told, nil)
	stranger := guest.build(told, func(p *event.Proto) {
		p.Content = []byte(`{"membership":"join","join_authorised_via_users_server":"@bob:host.org"}`)
	})
	_, err = host.SendJoin(background, guest.sent(room, stranger), false)
	wantCode(t, "vouched for by who is not in the room", err, matrix.UnableToGrantJoin)
	if err := host.Kick(background, host.as("alice"), roomserver.Move{Room: club, Target: guest.user("bob")}); err != nil {
		t.Fatal(err)
	}
	_, err = host.SendJoin(background, guest.sent(room, join), false)
	wantCode(t, "no longer in the club", err, matrix.Forbidden)
}

// Nobody here may invite: another server has to be asked.
func TestResidentCannotGrant(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	club := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	room := host.restrict(club)
	if _, err := guest.join(host, club, "bob"); err != nil {
		t.Fatal(err)
	}
	_, err := host.SendState(background, host.as("alice"), roomserver.SendState{
		Room: room, Type: "m.room.power_levels", Content: []byte(`{"invite":100,"users":{"@alice:host.org":50}}`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = host.MakeJoin(background, guest.visit(room, "bob"))
	wantCode(t, "nobody may invite", err, matrix.UnableToGrantJoin)
}

// A large room is given without most members to who asks for that.
func TestResidentOmitsMembers(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	for i := range 120 {
		if err := host.Join(background, host.as(fmt.Sprintf("u%03d", i)), room, ""); err != nil {
			t.Fatal(err)
		}
	}
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := host.SendJoin(background, guest.sent(room, guest.build(told, nil)), true)
	if err != nil {
		t.Fatal(err)
	}
	members := 0
	for _, ev := range w.State {
		if ev.Type == event.TypeMember {
			members++
		}
	}
	if !w.MembersOmitted || members != 5 || fmt.Sprint(w.Servers) != "[host.org]" {
		t.Errorf("omitted %v, %d members, servers %v; want true, the 5 after whom the room is named, [host.org]", w.MembersOmitted, members, w.Servers)
	}
	checkWelcome(t, w)
	for _, ev := range w.AuthChain {
		if slices.Contains(w.State, ev) {
			t.Errorf("%s is in the state and in the auth chain", ev.ID)
		}
	}
}

// What a large room costs to hand out: 5,000 members.
func BenchmarkSendJoin(b *testing.B) {
	host, guest := newSite(b, "host.org"), newSite(b, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	for i := range 5000 {
		if err := host.Join(background, host.as(fmt.Sprintf("u%05d", i)), room, ""); err != nil {
			b.Fatal(err)
		}
	}
	told, err := host.MakeJoin(background, guest.visit(room, "bob"))
	if err != nil {
		b.Fatal(err)
	}
	sent := guest.sent(room, guest.build(told, nil))
	for _, omit := range []bool{false, true} {
		b.Run(fmt.Sprintf("omit=%v", omit), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := host.SendJoin(background, sent, omit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMakeJoin(b *testing.B) {
	host, guest := newSite(b, "host.org"), newSite(b, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	for b.Loop() {
		if _, err := host.MakeJoin(background, guest.visit(room, "bob")); err != nil {
			b.Fatal(err)
		}
	}
}
