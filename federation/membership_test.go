package federation_test

import (
	"encoding/json"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

func roomPath(version, endpoint string, room rooms.Room, last string) string {
	return path(version, endpoint, string(room.ID), last)
}

// welcome is the answer of send_join.
type welcome struct {
	Event          json.RawMessage   `json:"event"`
	State          []json.RawMessage `json:"state"`
	AuthChain      []json.RawMessage `json:"auth_chain"`
	MembersOmitted bool              `json:"members_omitted"`
}

func TestJoin(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "10", "11", "12"} {
		w := newWorld(t)
		them := w.them()
		room := w.roomOf(version, "shared")
		var template remote.TemplateResponse
		them.get(roomPath("v1", "make_join", room, string(bob)) + "?ver=1&ver=" + string(version)).into(&template)
		if typ, _ := canonical.String(canonical.Get(canonicalOf(t, template.Event), "type")); template.RoomVersion != version || typ != event.TypeMember {
			t.Errorf("version %s: got a template %s of version %s, want a member event", version, template.Event, template.RoomVersion)
		}
		if version == "1" {
			continue // events of old versions are built from hashes, which this harness has not
		}
		join := them.member(room, event.Join)
		var first welcome
		them.put(roomPath("v2", "send_join", room, string(join.ID)), []byte(join.JSON)).into(&first)
		if len(first.State) < 5 || len(first.AuthChain) < 3 || first.MembersOmitted || string(first.Event) != string(join.JSON) {
			t.Errorf("version %s: got %d of state, %d of the auth chain, want the room", version, len(first.State), len(first.AuthChain))
		}
		var pair [2]json.RawMessage
		them.put(roomPath("v1", "send_join", room, string(join.ID)), []byte(join.JSON)).into(&pair)
		var again welcome
		must(t, json.Unmarshal(pair[1], &again))
		if string(pair[0]) != "200" || len(again.State) != len(first.State) {
			t.Errorf("version %s: the first version of the API: got %s and %d of state, want 200 and the same", version, pair[0], len(again.State))
		}
	}
}

func TestJoinIsRefused(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	uri := roomPath("v1", "make_join", room, string(bob))
	them.get(uri).fails(400, matrix.IncompatibleRoomVersion)
	them.get(uri+"?ver=9&ver=10").fails(400, matrix.IncompatibleRoomVersion)
	them.get(roomPath("v1", "make_join", room, "@carol:third.example")+"?ver=11").fails(403, matrix.Forbidden)
	them.get(roomPath("v1", "make_join", room, "carol")+"?ver=11").fails(400, matrix.InvalidParam)
	them.get(path("v1", "make_join", "!none:us.example", string(bob))+"?ver=11").fails(404, matrix.NotFound)
	them.get(path("v1", "make_join", "none", string(bob))+"?ver=11").fails(400, matrix.InvalidParam)
	w.set(room, event.TypeJoinRules, `{"join_rule":"invite"}`)
	them.get(uri+"?ver=11").fails(403, matrix.Forbidden)
	them.put(path("v2", "send_join", "!none:us.example", "$x"), []byte(`{}`)).fails(404, matrix.NotFound)
	them.put(roomPath("v2", "send_join", room, "$x"), []byte(`{}`)).fails(400, matrix.BadJSON)
	them.put(roomPath("v2", "send_join", room, "$x"), []byte(`{`)).fails(400, matrix.NotJSON)
}

func TestLeaveAndKnock(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	them.get(roomPath("v1", "make_leave", room, string(bob))).into(new(remote.TemplateResponse))
	leave := them.member(room, event.Leave)
	them.put(roomPath("v2", "send_leave", room, string(leave.ID)), []byte(leave.JSON)).is(`{}`)
	them.put(roomPath("v1", "send_leave", room, string(leave.ID)), []byte(leave.JSON)).is(`[200,{}]`)

	w.set(room, event.TypeJoinRules, `{"join_rule":"knock"}`)
	them.get(roomPath("v1", "make_knock", room, string(bob)) + "?ver=11").into(new(remote.TemplateResponse))
	knock := them.member(room, event.Knock)
	var out struct {
		State []json.RawMessage `json:"knock_room_state"`
	}
	them.put(roomPath("v1", "send_knock", room, string(knock.ID)), []byte(knock.JSON)).into(&out)
	if len(out.State) == 0 {
		t.Error("the answer to a knock tells nothing of the room")
	}
	m, _, err := rooms.MembershipOf(t.Context(), w.db, room.Num, bob)
	if err != nil || m.Membership != event.Knock {
		t.Errorf("bob: got %s, %v, want knock", m.Membership, err)
	}
}

// An invitee is a user who is invited by bob of their server, to a room of theirs.
func (p *peer) invitation(version matrix.RoomVersion, change func(*event.Proto)) (*event.Event, []json.RawMessage) {
	p.w.t.Helper()
	v, _ := event.VersionOf(version)
	create := event.Proto{Type: event.TypeCreate, StateKey: new(string), Sender: bob, Depth: 1, RoomID: "!theirs:them.example",
		Content: []byte(`{"creator":"@bob:them.example","room_version":"` + string(version) + `"}`), OriginServerTS: p.w.clock().UnixMilli()}
	if v.RoomIDs == event.CreateHashRoomIDs {
		create.RoomID = ""
	}
	created, err := event.Build(v, create, p.name, p.key)
	must(p.w.t, err)
	target := string(alice)
	proto := event.Proto{Type: event.TypeMember, StateKey: &target, Sender: bob, RoomID: created.RoomID, Depth: 5,
		Content: []byte(`{"membership":"invite"}`), OriginServerTS: p.w.clock().UnixMilli()}
	change(&proto)
	e, err := event.Build(v, proto, p.name, p.key)
	must(p.w.t, err)
	return e, []json.RawMessage{created.JSON}
}

func asItIs(*event.Proto) {}

func (p *peer) invite(version matrix.RoomVersion, e *event.Event, state []json.RawMessage) answer {
	p.w.t.Helper()
	body := map[string]any{"room_version": version, "event": json.RawMessage(e.JSON), "invite_room_state": state}
	return p.put(path("v2", "invite", string(e.RoomID), string(e.ID)), body)
}

func TestInvite(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "10", "12"} {
		w := newWorld(t)
		them := w.them()
		e, state := them.invitation(version, asItIs)
		var out remote.InviteResponse
		them.invite(version, e, state).into(&out)
		if canonical.Get(canonicalOf(t, out.Event), "signatures", string(us)) == nil || len(w.invites.taken) != 1 || len(w.invites.state[0]) != 1 {
			t.Fatalf("version %s: got %s, %d taken, want the event with our signature", version, out.Event, len(w.invites.taken))
		}
		if ts, isInt := canonical.Int(canonical.Get(w.invites.state[0][0], "origin_server_ts")); !isInt || ts == 0 {
			t.Errorf("got %s, want it to say when the room was created", w.invites.state[0][0])
		}
		if string(canonical.Get(w.invites.state[0][0], "type")) != `"m.room.create"` || canonical.Get(w.invites.state[0][0], "hashes") != nil {
			t.Errorf("version %s: got the state %s, want the creation, stripped", version, w.invites.state[0])
		}
	}
	w := newWorld(t)
	them := w.them()
	e, _ := them.invitation("1", asItIs)
	body := canonical.AppendWith(nil, e.JSON, "unsigned", []byte(`{"invite_room_state":[{"type":"m.room.name","state_key":"","sender":"@b:c","content":{"name":"x"}}]}`))
	var out [2]json.RawMessage
	them.put(path("v1", "invite", string(e.RoomID), string(e.ID)), body).into(&out)
	if string(out[0]) != "200" || len(w.invites.state[0]) != 1 {
		t.Errorf("the first version of the API: got %s, %s, want 200 and one state event", out[0], w.invites.state)
	}
}

func TestInviteIsRefused(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	e, state := them.invitation("11", asItIs)
	uri := path("v2", "invite", string(e.RoomID), string(e.ID))
	them.put(uri, map[string]any{"event": json.RawMessage(e.JSON)}).fails(400, matrix.MissingParam)
	them.put(uri, map[string]any{"room_version": "11"}).fails(400, matrix.MissingParam)
	them.put(uri, map[string]any{"room_version": "99", "event": json.RawMessage(e.JSON)}).fails(400, matrix.IncompatibleRoomVersion)
	them.put(uri, map[string]any{"room_version": "11", "event": "x"}).fails(400, matrix.BadJSON)
	nobody, _ := them.invitation("11", func(p *event.Proto) { user := "@nobody:us.example"; p.StateKey = &user })
	them.invite("11", nobody, state).fails(404, matrix.NotFound)
	many := make([]json.RawMessage, 65)
	for i := range many {
		many[i] = state[0]
	}
	them.invite("11", e, many).fails(400, matrix.InvalidParam)
	w.invites.err = matrix.Errorf(matrix.InviteBlocked, "no")
	them.invite("11", e, state).fails(403, matrix.InviteBlocked)
}

// The signature of this server goes onto invites of its users and nothing else.
func TestCVE_2025_68667_OnlyInvitesAreSigned(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	content := func(text string) func(*event.Proto) { return func(p *event.Proto) { p.Content = []byte(text) } }
	for name, change := range map[string]func(*event.Proto){
		"another type":       func(p *event.Proto) { p.Type = event.TypePowerLevels },
		"no state":           func(p *event.Proto) { p.StateKey = nil },
		"a join":             content(`{"membership":"join"}`),
		"no membership":      content(`{}`),
		"membership no text": content(`{"membership":["invite"]}`),
		"another server's":   func(p *event.Proto) { user := "@carol:third.example"; p.StateKey = &user },
		"no user":            func(p *event.Proto) { user := "alice"; p.StateKey = &user },
		"by us":              func(p *event.Proto) { p.Sender = alice },
		"by a third":         func(p *event.Proto) { p.Sender = "@carol:third.example" },
		"third party, by us": func(p *event.Proto) {
			p.Sender, p.Content = alice, []byte(`{"membership":"invite","third_party_invite":{}}`)
		},
		"third party, a third": func(p *event.Proto) {
			p.Sender, p.Content = "@c:third.example", []byte(`{"membership":"invite","third_party_invite":{}}`)
		},
	} {
		e, state := them.invitation("11", change)
		a := them.invite("11", e, state)
		if a.status != 400 || len(w.invites.taken) > 0 {
			t.Errorf("%s: got %d %s, %d signed, want 400 and none", name, a.status, a.body, len(w.invites.taken))
		}
	}
	e, state := them.invitation("11", asItIs)
	body := map[string]any{"room_version": "11", "event": json.RawMessage(e.JSON), "invite_room_state": state}
	them.put(path("v2", "invite", "!other:them.example", string(e.ID)), body).fails(400, matrix.InvalidParam)
	them.put(path("v2", "invite", string(e.RoomID), "$other"), body).fails(400, matrix.InvalidParam)
	body["event"] = flip(t, e)
	them.put(path("v2", "invite", string(e.RoomID), string(e.ID)), body).fails(400, matrix.InvalidParam)
	body["event"] = json.RawMessage(canonical.AppendWith(nil, e.JSON, "content", []byte(`{"membership":"invite","reason":"x"}`)))
	them.put(path("v2", "invite", string(e.RoomID), string(e.ID)), body).fails(400, matrix.InvalidParam)

	room := w.room("shared") // in which the version is known
	there, _ := them.invitation("11", func(p *event.Proto) { p.RoomID = room.ID })
	them.invite("11", there, state).into(new(any))
	older, _ := them.invitation("10", func(p *event.Proto) { p.RoomID = room.ID })
	them.invite("10", older, state).fails(400, matrix.InvalidParam)
	if len(w.invites.taken) != 1 {
		t.Errorf("got %d signed, want the one good invite", len(w.invites.taken))
	}
}

// What an invite tells of the room reaches clients in its right form only.
func TestCVE_2024_52815_InviteStateOfWrongTypes(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	e, _ := them.invitation("11", asItIs)
	state := []json.RawMessage{
		[]byte(`{"type":"m.room.name","state_key":"","sender":"@b:c","content":{"name":"good"}}`),
		[]byte(`{"type":"m.room.name","state_key":"","sender":"@b:c","content":{"name":"second for its place"}}`),
		[]byte(`{"type":1,"state_key":"","sender":"@b:c","content":{}}`),
		[]byte(`{"type":"a","state_key":null,"sender":"@b:c","content":{}}`),
		[]byte(`{"type":"a","state_key":"","sender":["@b:c"],"content":{}}`),
		[]byte(`{"type":"a","state_key":"","sender":"b","content":{}}`),
		[]byte(`{"type":"a","state_key":"","sender":"@b:c","content":"x"}`),
		[]byte(`{"type":"a","state_key":"","sender":"@b:c"}`),
		[]byte(`[]`), []byte(`null`), []byte(`1`), []byte(`{}`),
	}
	them.invite("11", e, state).into(new(any))
	if got := w.invites.state[0]; len(got) != 1 || string(got[0]) != string(canonicalOf(t, state[0])) {
		t.Errorf("got %s, want the first only", got)
	}
	// In newer rooms all of it must be proved.
	e, proof := them.invitation("12", asItIs)
	for name, bad := range map[string][]json.RawMessage{
		"stripped": {state[0]}, "no creation": {}, "of another room": {otherCreation(t, them)}, "garbage": {[]byte(`1`)},
		"a signature flipped": {flip(t, mustParse(t, "12", proof[0]))},
	} {
		them.invite("12", e, bad).fails(400, matrix.InvalidParam)
		if len(w.invites.taken) != 1 {
			t.Fatalf("%s: was signed, want it refused", name)
		}
	}
}

func mustParse(t *testing.T, version matrix.RoomVersion, raw []byte) *event.Event {
	t.Helper()
	v, _ := event.VersionOf(version)
	e, err := event.Parse(v, raw)
	must(t, err)
	return e
}

func otherCreation(t *testing.T, p *peer) json.RawMessage {
	t.Helper()
	v, _ := event.VersionOf("12")
	e, err := event.Build(v, event.Proto{Type: event.TypeCreate, StateKey: new(string), Sender: bob, Depth: 1, Content: []byte(`{"room_version":"12","x":1}`)}, p.name, p.key)
	must(t, err)
	return e.JSON
}

// The room, the event and the server of a request to enter a room are those of the event.
func TestCVE_2020_26257_AnotherRoomInTheEvent(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room, other := w.room("shared"), w.room("shared")
	w.set(room, event.TypeJoinRules, `{"join_rule":"knock"}`)
	w.set(other, event.TypeJoinRules, `{"join_rule":"knock"}`)
	third := w.peer("third.example", 3)
	for endpoint, m := range map[string]event.Membership{
		"v1/send_join": event.Join, "v2/send_join": event.Join, "v1/send_leave": event.Leave, "v2/send_leave": event.Leave, "v1/send_knock": event.Knock,
	} {
		version, name := endpoint[:2], endpoint[3:]
		e := them.member(other, m)
		them.put(roomPath(version, name, room, string(e.ID)), []byte(e.JSON)).fails(400, matrix.InvalidParam)
		them.put(roomPath(version, name, other, "$other"), []byte(e.JSON)).fails(400, matrix.InvalidParam)
		third.put(roomPath(version, name, other, string(e.ID)), []byte(e.JSON)).fails(400, matrix.InvalidParam)
		if w.stored(other, e.ID) != nil {
			t.Errorf("%s: the event was stored", endpoint)
		}
	}
}

// Nobody enters a room with an event that its server has not signed.
func TestCVE_2019_18835_NotSignedByTheSender(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	w.set(room, event.TypeJoinRules, `{"join_rule":"knock"}`)
	stranger := &peer{w: w, name: them.name, key: newKey(t, 66)} // builds as them, with another key
	for endpoint, m := range map[string]event.Membership{
		"v2/send_join": event.Join, "v2/send_leave": event.Leave, "v1/send_knock": event.Knock,
	} {
		version, name := endpoint[:2], endpoint[3:]
		e := stranger.member(room, m)
		them.put(roomPath(version, name, room, string(e.ID)), []byte(e.JSON)).fails(400, matrix.InvalidParam)
		good := them.member(room, m)
		them.put(roomPath(version, name, room, string(good.ID)), []byte(flip(t, good))).fails(400, matrix.InvalidParam)
		if w.stored(room, e.ID) != nil || w.stored(room, good.ID) != nil {
			t.Errorf("%s: the event was stored", endpoint)
		}
	}
	// Who vouches for a join to a restricted room must be one of ours, or our signature is worth nothing.
	proto := them.draft(room, event.TypeMember, `{"join_authorised_via_users_server":"@carol:third.example","membership":"join"}`)
	user := string(bob)
	proto.StateKey = &user
	e := them.build(room, proto)
	them.put(roomPath("v2", "send_join", room, string(e.ID)), []byte(e.JSON)).fails(400, matrix.InvalidParam)
}

// Nobody makes others enter or leave a room.
func TestSynapse_5744_MembershipOfOthers(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	for endpoint, m := range map[string]event.Membership{"send_join": event.Join, "send_leave": event.Leave} {
		for _, target := range []string{"@carol:them.example", string(alice)} {
			proto := them.draft(room, event.TypeMember, `{"membership":"`+string(m)+`"}`)
			proto.StateKey = &target
			e := them.build(room, proto)
			them.put(roomPath("v2", endpoint, room, string(e.ID)), []byte(e.JSON)).fails(400, matrix.InvalidParam)
			if w.stored(room, e.ID) != nil {
				t.Errorf("%s of %s: the event was stored", endpoint, target)
			}
		}
	}
	for _, endpoint := range []string{"make_join", "make_leave", "make_knock"} {
		them.get(roomPath("v1", endpoint, room, string(alice))+"?ver=11").fails(403, matrix.Forbidden)
	}
}

// A server that the room denies gets nothing of it and brings nothing in.
func TestCVE_2018_16515_DeniedByACL(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	id := w.say(room, "hello")
	first := them.message(room, "before")
	w.set(room, event.TypeServerACL, `{"allow":["*"],"deny":["them.*"]}`)
	e := them.message(room, "hello")
	join := them.member(room, event.Join)
	for uri, body := range map[string]any{
		roomPath("v1", "make_join", room, string(bob)) + "?ver=11":           nil,
		roomPath("v1", "make_leave", room, string(bob)):                      nil,
		roomPath("v1", "make_knock", room, string(bob)) + "?ver=11":          nil,
		path("v1", "state", string(room.ID)) + "?event_id=" + string(id):     nil,
		path("v1", "state_ids", string(room.ID)) + "?event_id=" + string(id): nil,
		path("v1", "backfill", string(room.ID)) + "?limit=1&v=" + string(id): nil,
		roomPath("v1", "event_auth", room, string(id)):                       nil,
		path("v1", "get_missing_events", string(room.ID)):                    map[string]any{"latest_events": []string{string(id)}},
		roomPath("v1", "send_join", room, string(join.ID)):                   []byte(join.JSON),
		roomPath("v2", "send_join", room, string(join.ID)):                   []byte(join.JSON),
	} {
		switch body := body.(type) {
		case nil:
			them.get(uri).fails(403, matrix.Forbidden)
		case map[string]any:
			them.post(uri, body).fails(403, matrix.Forbidden)
		default:
			them.put(uri, body).fails(403, matrix.Forbidden)
		}
	}
	for endpoint, m := range map[string]event.Membership{"v1/send_leave": event.Leave, "v2/send_leave": event.Leave, "v1/send_knock": event.Knock} {
		e := them.member(room, m)
		them.put(roomPath(endpoint[:2], endpoint[3:], room, string(e.ID)), []byte(e.JSON)).fails(403, matrix.Forbidden)
	}
	there, state := them.invitation("11", func(p *event.Proto) { p.RoomID = room.ID })
	them.invite("11", there, state).fails(403, matrix.Forbidden)
	if got := them.send([]*event.Event{e, first}); got[e.ID] == "" || got[first.ID] == "" {
		t.Errorf("PDUs of a server that is denied: got %v, want an error for both", got)
	}
}
