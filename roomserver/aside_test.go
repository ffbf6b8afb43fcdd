package roomserver_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

// draft makes the invite of a user of guest to a room of x.
func (x *site) draft(guest *site, room matrix.RoomID, name string) roomserver.Invite {
	x.t.Helper()
	invite, err := x.DraftInvite(background, x.as("alice"), roomserver.Move{Room: room, Target: guest.user(name)}, false)
	if err != nil {
		x.t.Fatal(err)
	}
	return invite
}

// told is the state of an invite as federation hands it on.
func told(invite roomserver.Invite) (state []json.RawMessage) {
	for _, ev := range invite.State {
		text, _ := json.Marshal(map[string]any{
			"type": ev.Type, "state_key": *ev.StateKey, "sender": ev.Sender, "content": json.RawMessage(ev.Content)})
		state = append(state, text)
	}
	return state
}

func TestReceiveInvite(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		host, guest := newSite(t, "host.org"), siteOn(t, "guest.org", db)
		room := host.create(roomserver.CreateRoom{Preset: "private_chat", Name: "the den"})
		invite := host.draft(guest, room, "bob")
		before := db.Position()
		for range 2 {
			signed, err := guest.ReceiveInvite(background, invite.Event, told(invite))
			if err != nil {
				t.Fatal(err)
			}
			if err := event.VerifySignature(signed, guest.name, guest.key.ID(), guest.key.Public()); err != nil {
				t.Error(err)
			}
			if string(signed.RedactedJSON()) == "" || signed.ID != invite.Event.ID {
				t.Errorf("signed %s, want the invite", signed.ID)
			}
			if err := host.InviteSigned(background, signed); err != nil {
				t.Fatal(err)
			}
		}
		if got := db.Position(); got != before+1 {
			t.Errorf("%d news, want 1: a repeat is none", got-before)
		}
		news, _ := db.Since(before, 10)
		if len(news) != 1 || news[0].Kind != storage.NewsInvite || news[0].User != guest.user("bob") || news[0].Room != room {
			t.Errorf("news %+v, want an invite of bob", news)
		}
		m := guest.stands(room, guest.user("bob"))
		if m.Membership != event.Invite || !json.Valid(m.Stripped) || !strings.Contains(string(m.Stripped), `"the den"`) {
			t.Errorf("bob stands so: %+v", m)
		}
		standing, err := guest.Standing(background, guest.user("bob"), room)
		if err != nil || standing.Resident || standing.Inviter != host.user("alice") {
			t.Errorf("standing %+v, %v; want invited by alice, not resident", standing, err)
		}
		// The join that follows finds the invite judged.
		if err := guest.adopt(host, room, "bob"); err != nil {
			t.Fatal(err)
		}
		if got := guest.stands(room, guest.user("bob")).Membership; got != event.Join {
			t.Errorf("bob is %q, want join", got)
		}
		stored, _, err := rooms.EventByID(background, db, mustRoom(t, guest, room), invite.Event.ID)
		if err != nil || stored.Kind != rooms.Outlier {
			t.Errorf("the invite is %+v, %v; want it an outlier", stored, err)
		}
	})
}

// CVE-2025-68667: a server signed whatever came as an invite. Nothing is signed that is not an invite of a user of ours
// by another server.
func TestReceiveInviteSignsNothingElse_CVE_2025_68667(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	v, _ := event.VersionOf("11")
	bob, stranger := string(guest.user("bob")), "@x:third.org"
	good := event.Proto{
		Type: event.TypeMember, StateKey: &bob, Sender: host.user("alice"), RoomID: "!r:host.org", Content: []byte(`{"membership":"invite"}`),
		PrevEvents: []matrix.EventID{"$p"}, AuthEvents: []matrix.EventID{"$a"}, Depth: 5, OriginServerTS: 1,
	}
	for _, c := range []struct {
		name   string
		change func(*event.Proto)
		by     *site
	}{
		{"another type", func(p *event.Proto) { p.Type = "m.room.power_levels" }, host},
		{"a join", func(p *event.Proto) { p.Content = []byte(`{"membership":"join"}`) }, host},
		{"a ban", func(p *event.Proto) { p.Content = []byte(`{"membership":"ban"}`) }, host},
		{"a membership that is no text", func(p *event.Proto) { p.Content = []byte(`{"membership":["invite"]}`) }, host},
		{"no state", func(p *event.Proto) { p.StateKey = nil }, host},
		{"a user of another server", func(p *event.Proto) { p.StateKey = &stranger }, host},
		{"by a user of ours", func(p *event.Proto) { p.Sender = guest.user("alice") }, guest},
		{"signed by another server", func(*event.Proto) {}, guest},
	} {
		p := good
		c.change(&p)
		ev, err := event.Build(v, p, c.by.name, c.by.key)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := guest.ReceiveInvite(background, ev, nil)
		if matrix.CodeOf(err) != matrix.InvalidParam || signed != nil {
			t.Errorf("%s: got %v, %v; want it refused", c.name, signed, err)
		}
	}
	if m := guest.stands("!r:host.org", guest.user("bob")); m.Membership != "" {
		t.Errorf("bob is %s", m.Membership)
	}
	ev, err := event.Build(v, good, host.name, host.key)
	if err != nil {
		t.Fatal(err)
	}
	redacted, err := event.Parse(v, []byte(strings.Replace(string(ev.JSON), `"membership":"invite"`, `"membership":"invite","x":1`, 1)))
	if err != nil || !redacted.Redacted {
		t.Fatalf("%+v, %v", redacted, err)
	}
	if _, err := guest.ReceiveInvite(background, redacted, nil); matrix.CodeOf(err) != matrix.InvalidParam {
		t.Errorf("a wrong content hash: got %v", err)
	}
}

// CVE-2024-52815: what came with an invite broke the sync of the invited. What a room is said to be is shown without
// what would be shown in the place of the invite itself.
func TestReceiveInviteState_CVE_2024_52815(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	invite := host.draft(guest, room, "bob")
	forged := json.RawMessage(`{"content":{"membership":"invite"},"sender":"@friend:guest.org","state_key":"@bob:guest.org","type":"m.room.member"}`)
	large := json.RawMessage(`{"content":{"topic":"` + strings.Repeat("x", 200<<10) + `"},"sender":"@a:host.org","state_key":"","type":"m.room.topic"}`)
	if _, err := guest.ReceiveInvite(background, invite.Event, append(told(invite), forged, large)); err != nil {
		t.Fatal(err)
	}
	got := guest.stands(room, guest.user("bob")).Stripped
	if !json.Valid(got) || strings.Contains(string(got), "friend") || len(got) > 130<<10 {
		t.Errorf("bob is shown %.300s", got)
	}
}

// A room that this server is in has an owner, and an invite to it must be allowed there.
func TestReceiveInviteIntoOwnRoom(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat"})
	if err := guest.adopt(host, room, "alice"); err != nil {
		t.Fatal(err)
	}
	evil := newSite(t, "evil.org")
	bob := string(guest.user("bob"))
	state, err := guest.Current(background, room)
	if err != nil {
		t.Fatal(err)
	}
	levels, err := state.Event(background, event.Key{Type: event.TypePowerLevels})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := event.Build(mustRoom(t, guest, room).Version, event.Proto{
		Type: event.TypeMember, StateKey: &bob, Sender: evil.user("mallory"), RoomID: room, Content: []byte(`{"membership":"invite"}`),
		PrevEvents: []matrix.EventID{levels.ID}, AuthEvents: []matrix.EventID{levels.ID}, Depth: 5, OriginServerTS: 1,
	}, evil.name, evil.key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = guest.ReceiveInvite(background, forged, nil)
	wantCode(t, "by who is not in the room", err, matrix.Forbidden)
	if m := guest.stands(room, guest.user("bob")); m.Membership != "" {
		t.Errorf("bob is %s", m.Membership)
	}
}

// A true invite is taken after a false one, unless that would take somebody else's from them.
func TestTrueInviteAfterAFalseOne(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		host, guest, evil := newSite(t, "host.org"), siteOn(t, "guest.org", db), newSite(t, "evil.org")
		room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: "10"})
		lie := func(name string) *event.Event {
			t.Helper()
			v, _ := event.VersionOf("1")
			target := string(guest.user(name))
			ev, err := event.Build(v, event.Proto{
				Type: event.TypeMember, StateKey: &target, Sender: evil.user("mallory"), RoomID: room,
				Content: []byte(`{"membership":"invite"}`), Depth: 5, OriginServerTS: 1,
			}, evil.name, evil.key)
			if err != nil {
				t.Fatal(err)
			}
			return ev
		}
		receive := func(ev *event.Event, want matrix.ErrorCode) {
			t.Helper()
			if _, err := guest.ReceiveInvite(background, ev, nil); matrix.CodeOf(err) != want {
				t.Fatalf("got %v, want %q", err, want)
			}
		}
		inviter := func(name string) matrix.UserID {
			t.Helper()
			standing, err := guest.Standing(background, guest.user(name), room)
			if err != nil {
				t.Fatal(err)
			}
			return standing.Inviter
		}
		receive(lie("bob"), "")
		receive(host.draft(guest, room, "bob").Event, "")
		if got := mustRoom(t, guest, room).Version.ID; got != "10" || inviter("bob") != host.user("alice") {
			t.Errorf("version %s, bob invited by %s: want 10 and alice", got, inviter("bob"))
		}
		receive(lie("alice"), matrix.InvalidParam)
		if got := inviter("bob"); got != host.user("alice") {
			t.Errorf("after a false invite of another bob is invited by %q, want alice", got)
		}
		// Who is rid of a false invite is in nobody's way.
		if err := guest.Left(background, guest.user("bob"), room, nil); err != nil {
			t.Fatal(err)
		}
		receive(lie("alice"), "")
		receive(host.draft(guest, room, "bob").Event, matrix.InvalidParam)
		if err := guest.Left(background, guest.user("alice"), room, nil); err != nil {
			t.Fatal(err)
		}
		invite := host.draft(guest, room, "bob").Event
		receive(invite, "")
		if err := host.InviteSigned(background, invite); err != nil {
			t.Fatal(err)
		}
		if err := guest.adopt(host, room, "bob"); err != nil {
			t.Error(err)
		}
	})
}

// Who says false things of a room's version cannot keep us out of it.
func TestFalseInviteDoesNotPoisonRoom(t *testing.T) {
	host, guest, evil := newSite(t, "host.org"), newSite(t, "guest.org"), newSite(t, "evil.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "10"})
	v, _ := event.VersionOf("1")
	bob := string(guest.user("bob"))
	lie, err := event.Build(v, event.Proto{
		Type: event.TypeMember, StateKey: &bob, Sender: evil.user("mallory"), RoomID: room, Content: []byte(`{"membership":"invite"}`),
		Depth: 5, OriginServerTS: 1,
	}, evil.name, evil.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.ReceiveInvite(background, lie, nil); err != nil {
		t.Fatal(err)
	}
	if got := mustRoom(t, guest, room).Version.ID; got != "1" {
		t.Fatalf("the room has version %s, want the false one", got)
	}
	if err := guest.adopt(host, room, "alice"); err != nil {
		t.Fatal(err)
	}
	if got := mustRoom(t, guest, room).Version.ID; got != "10" {
		t.Errorf("the room has version %s, want 10", got)
	}
	if m := guest.stands(room, guest.user("bob")); m.Membership != "" {
		t.Errorf("bob is %s, want the false invite gone", m.Membership)
	}
	if _, err := guest.Send(background, guest.as("alice"), send(room, "hello")); err != nil {
		t.Error(err)
	}
}

// An invite that nobody could judge is no part of the state with which a room is taken up, unless what authorises it came too.
func TestAdoptLeavesOutAsides(t *testing.T) {
	w := found(t, storagetest.Open(t, storagetest.SQLite), "11", 3)
	carla := string(user("carla"))
	invite := w.make(proto{
		by: "member1:elsewhere.org", typ: "m.room.member", stateKey: &carla, content: `{"membership":"invite"}`,
		prevs: []*event.Event{w.base}, auth: []matrix.EventID{"$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
	})
	set := settings(t, w.db)
	set.Remote, set.Profiles = w.remote, &people{names: map[matrix.UserID]string{user("carla"): "Carla"}}
	w.s = roomserver.New(set)
	if _, err := w.s.ReceiveInvite(t.Context(), invite, nil); err != nil {
		t.Fatal(err)
	}
	in := w.answer(w.base)
	in.State = append(in.State, invite)
	if err := w.s.Adopt(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if got := w.memberState("carla"); got != "unset" {
		t.Errorf("carla: got %q in the state, want that nothing is said of her", got)
	}
}

// Who ends an account rejects invites without asking anybody.
func TestLeaveAllRejectsInvites(t *testing.T) {
	host, guest := newSite(t, "host.org"), newSite(t, "guest.org")
	for _, version := range []matrix.RoomVersion{"1", "3", "12"} {
		room := host.create(roomserver.CreateRoom{Preset: "private_chat", Version: version})
		invite := host.draft(guest, room, "bob")
		if _, err := guest.ReceiveInvite(background, invite.Event, told(invite)); err != nil {
			t.Fatal(err)
		}
		if err := guest.LeaveAll(background, guest.user("bob")); err != nil {
			t.Fatal(err)
		}
		m := guest.stands(room, guest.user("bob"))
		if m.Membership != event.Leave {
			t.Errorf("version %s: bob is %s, want leave", version, m.Membership)
		}
		ev, err := guest.Events(background, mustRoom(t, guest, room), []int64{m.EventNum})
		if err != nil || ev[0].Sender != guest.user("bob") || ev[0].Membership() != event.Leave {
			t.Errorf("version %s: the event is %+v, %v", version, ev, err)
		}
	}
}

// An invite is taken back by the user who made it, and by no other.
func TestUninvited(t *testing.T) {
	host, guest, evil := newSite(t, "host.org"), newSite(t, "guest.org"), newSite(t, "evil.org")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	invite := host.draft(guest, room, "bob")
	if _, err := guest.ReceiveInvite(background, invite.Event, told(invite)); err != nil {
		t.Fatal(err)
	}
	bob := string(guest.user("bob"))
	for _, c := range []struct {
		by    *site
		user  string
		names matrix.EventID
		want  roomserver.Outcome
	}{
		{evil, "alice", invite.Event.ID, roomserver.Refused}, {host, "carol", invite.Event.ID, roomserver.Refused},
		{host, "alice", "$older", roomserver.Refused}, // of a time before the invite
		{host, "alice", invite.Event.ID, roomserver.Accepted}, {host, "alice", invite.Event.ID, roomserver.Refused},
	} {
		kick, err := event.Build(invite.Event.Version, event.Proto{
			Type: event.TypeMember, StateKey: &bob, Sender: c.by.user(c.user), RoomID: room, Content: []byte(`{"membership":"leave"}`),
			PrevEvents: []matrix.EventID{invite.Event.ID}, AuthEvents: []matrix.EventID{c.names}, Depth: 9, OriginServerTS: 1,
		}, c.by.name, c.by.key)
		if err != nil {
			t.Fatal(err)
		}
		got := guest.Receive(background, c.by.name, room, []*event.Event{kick})[0]
		if got.Outcome != c.want {
			t.Errorf("by %s: got outcome %d, %v; want %d", c.by.user(c.user), got.Outcome, got.Err, c.want)
		}
	}
	if m := guest.stands(room, guest.user("bob")); m.Membership != event.Leave {
		t.Errorf("bob is %s, want leave", m.Membership)
	}
	if n := guest.net.requests(); n > 0 {
		t.Errorf("%d requests were made for a room that the server is not in", n)
	}
}

// A knock is refused by whoever has seen it.
func TestKnockRefused(t *testing.T) {
	host, guest, evil := newSite(t, "host.org"), newSite(t, "guest.org"), newSite(t, "evil.org")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	if _, err := host.SendState(background, host.as("alice"), roomserver.SendState{
		Room: room, Type: "m.room.join_rules", Content: []byte(`{"join_rule":"knock"}`),
	}); err != nil {
		t.Fatal(err)
	}
	told, err := host.MakeKnock(background, guest.visit(room, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	knock := guest.build(told, nil)
	if err := guest.Knocked(background, knock, nil); err != nil {
		t.Fatal(err)
	}
	bob := string(guest.user("bob"))
	for _, c := range []struct {
		by    *site
		names matrix.EventID
		want  roomserver.Outcome
	}{
		{evil, "$guessed", roomserver.Refused}, {host, knock.ID, roomserver.Accepted}, {host, knock.ID, roomserver.Refused},
	} {
		kick, err := event.Build(knock.Version, event.Proto{
			Type: event.TypeMember, StateKey: &bob, Sender: c.by.user("alice"), RoomID: room, Content: []byte(`{"membership":"leave"}`),
			PrevEvents: []matrix.EventID{knock.ID}, AuthEvents: []matrix.EventID{c.names}, Depth: 9, OriginServerTS: 1,
		}, c.by.name, c.by.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := guest.Receive(background, c.by.name, room, []*event.Event{kick})[0]; got.Outcome != c.want {
			t.Errorf("by %s, naming %s: got outcome %d, %v; want %d", c.by.name, c.names, got.Outcome, got.Err, c.want)
		}
	}
	if m := guest.stands(room, guest.user("bob")); m.Membership != event.Leave {
		t.Errorf("bob is %s, want leave", m.Membership)
	}
}

// https://spec.matrix.org/v1.19/client-server-api/#invite-permission
func TestInviteBlockedHere(t *testing.T) {
	host := newSite(t, "host.org")
	room := host.create(roomserver.CreateRoom{Preset: "private_chat"})
	for _, c := range []struct {
		config string
		want   matrix.ErrorCode
	}{{`{"default_action":"block"}`, matrix.InviteBlocked}, {`{"default_action":["block"]}`, ""}, {`{}`, ""}} {
		set := users.SetAccountData{User: host.user("bob"), Type: "m.invite_permission_config", Content: []byte(c.config)}
		if _, err := host.db.Commit(background, set); err != nil {
			t.Fatal(err)
		}
		err := host.Invite(background, host.as("alice"), roomserver.Move{Room: room, Target: host.user("bob")})
		wantCode(t, c.config, err, c.want)
	}
}

// An invite that was never in the room can be rejected also when others of this server have come into the room.
func TestFalseInviteCanBeRejected(t *testing.T) {
	host, guest, evil := newSite(t, "host.org"), newSite(t, "guest.org"), newSite(t, "evil.org")
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "10"})
	bob := string(guest.user("bob"))
	lie, err := event.Build(mustRoom(t, host, room).Version, event.Proto{
		Type: event.TypeMember, StateKey: &bob, Sender: evil.user("mallory"), RoomID: room, Content: []byte(`{"membership":"invite"}`),
		Depth: 5, OriginServerTS: 1,
	}, evil.name, evil.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := guest.ReceiveInvite(background, lie, nil); err != nil {
		t.Fatal(err)
	}
	if err := guest.adopt(host, room, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := guest.Leave(background, guest.as("bob"), room, ""); err != nil {
		t.Fatal(err)
	}
	if m := guest.stands(room, guest.user("bob")); m.Membership != event.Leave {
		t.Errorf("bob is %q, want leave", m.Membership)
	}
	wantCode(t, "again", guest.Leave(background, guest.as("bob"), room, ""), matrix.Forbidden)
	// What is false authorises nothing: the room goes on without it.
	if err := guest.Join(background, guest.as("bob"), room, ""); err != nil {
		t.Error(err)
	}
}
