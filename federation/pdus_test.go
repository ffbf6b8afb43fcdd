package federation_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// read gives events to a room, as if they had been sent.
func (w *world) receive(room rooms.Room, events ...*event.Event) {
	w.t.Helper()
	for _, r := range w.rooms.Receive(w.t.Context(), events[0].Sender.Server(), room.ID, events) {
		if r.Err != nil {
			w.t.Fatalf("%s: %v", r.Event, r.Err)
		}
	}
}

// pdusOf reads events from an answer in any form, with their IDs.
func pdusOf(t *testing.T, room rooms.Room, a answer, field string) (ids []matrix.EventID, redacted map[matrix.EventID]bool) {
	t.Helper()
	var out map[string]json.RawMessage
	a.into(&out)
	var list []json.RawMessage
	must(t, json.Unmarshal(out[field], &list))
	redacted = map[matrix.EventID]bool{}
	for _, raw := range list {
		e, err := event.Parse(room.Version, raw)
		must(t, err)
		ids = append(ids, e.ID)
		redacted[e.ID] = e.Redacted
	}
	return ids, redacted
}

func eventPath(id matrix.EventID) string { return path("v1", "event", string(id)) }
func statePath(endpoint string, room rooms.Room, id matrix.EventID) string {
	return path("v1", endpoint, string(room.ID)) + "?event_id=" + string(id)
}

func backfillPath(room rooms.Room, limit int, from ...matrix.EventID) string {
	uri := path("v1", "backfill", string(room.ID)) + fmt.Sprintf("?limit=%d", limit)
	for _, id := range from {
		uri += "&v=" + string(id)
	}
	return uri
}

// Others look for the creation of a room in every auth chain, also where the room is named after it and no event lists it.
func TestAuthChainsHaveTheCreation(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"11", "12"} {
		w := newWorld(t)
		them := w.them()
		room := w.roomOf(version, "shared")
		join := them.member(room, event.Join)
		welcome, _ := pdusOf(t, room, them.put(roomPath("v2", "send_join", room, string(join.ID)), []byte(join.JSON)), "auth_chain")
		said := w.say(room, "hello")
		auth, _ := pdusOf(t, room, them.get(roomPath("v1", "event_auth", room, string(said))), "auth_chain")
		state, _ := pdusOf(t, room, them.get(statePath("state", room, said)), "auth_chain")
		var ids remote.StateIDs
		them.get(statePath("state_ids", room, said)).into(&ids)
		now, err := w.rooms.Current(t.Context(), room.ID)
		must(t, err)
		create, err := now.Event(t.Context(), event.Key{Type: event.TypeCreate})
		must(t, err)
		for name, chain := range map[string][]matrix.EventID{"send_join": welcome, "event_auth": auth, "state": state, "state_ids": ids.AuthChain} {
			if !slices.Contains(chain, create.ID) {
				t.Errorf("version %s, %s: got %v, want %s among them", version, name, chain, create.ID)
			}
			if each := slices.Compact(slices.Sorted(slices.Values(chain))); len(each) != len(chain) {
				t.Errorf("version %s, %s: got %v, want each once", version, name, chain)
			}
		}
		of, _ := pdusOf(t, room, them.get(roomPath("v1", "event_auth", room, string(create.ID))), "auth_chain")
		if len(of) != 0 {
			t.Errorf("version %s: event_auth of the creation: got %v, want none", version, of)
		}
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	join := them.join(room)
	var said []matrix.EventID
	for i := range 30 {
		said = append(said, w.say(room, fmt.Sprint(i)))
	}
	ids, redacted := pdusOf(t, room, them.get(eventPath(said[3])), "pdus")
	if len(ids) != 1 || ids[0] != said[3] || redacted[said[3]] {
		t.Errorf("event: got %v, want %s whole", ids, said[3])
	}
	chain, _ := pdusOf(t, room, them.get(roomPath("v1", "event_auth", room, string(said[3]))), "auth_chain")
	if len(chain) != 4 && len(chain) != 3 {
		t.Errorf("event_auth: got %v, want creation, power levels, alice's join and perhaps the rules", chain)
	}
	state, _ := pdusOf(t, room, them.get(statePath("state", room, said[3])), "pdus")
	var byID remote.StateIDs
	them.get(statePath("state_ids", room, said[3])).into(&byID)
	slices.Sort(state)
	slices.Sort(byID.State)
	if !slices.Equal(state, byID.State) || !slices.Contains(state, join.ID) || slices.Contains(state, said[2]) || len(byID.AuthChain) < 4 {
		t.Errorf("state: got %v and %v, want the same, with bob's join", state, byID)
	}
	var before remote.StateIDs
	them.get(statePath("state_ids", room, join.ID)).into(&before)
	if slices.Contains(before.State, join.ID) || len(before.State) != len(byID.State)-1 {
		t.Errorf("the state before the join: got %v, want it without the join", before.State)
	}

	back, _ := pdusOf(t, room, them.get(backfillPath(room, 20, said[25])), "pdus")
	want := slices.Clone(said[6:26])
	slices.Reverse(want)
	if !slices.Equal(back, want) {
		t.Errorf("backfill: got %v, want %v", back, want)
	}
	all, _ := pdusOf(t, room, them.get(backfillPath(room, 10_000, said[29], said[2])), "pdus")
	if len(all) < 36 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("backfill of everything: got %d events, want all, each once", len(all))
	}
	missing, _ := pdusOf(t, room, them.post(path("v1", "get_missing_events", string(room.ID)), remote.MissingEventsRequest{
		Earliest: said[10:11], Latest: said[16:17], Limit: 20,
	}), "events")
	if !slices.Equal(missing, said[11:16]) {
		t.Errorf("get_missing_events: got %v, want %v", missing, said[11:16])
	}
	missing, _ = pdusOf(t, room, them.post(path("v1", "get_missing_events", string(room.ID)), remote.MissingEventsRequest{
		Earliest: said[2:3], Latest: said[16:17],
	}), "events")
	if !slices.Equal(missing, said[6:16]) {
		t.Errorf("get_missing_events without a limit: got %v, want the ten before", missing)
	}
	missing, _ = pdusOf(t, room, them.post(path("v1", "get_missing_events", string(room.ID)), remote.MissingEventsRequest{
		Latest: said[16:17], Limit: 50, MinDepth: w.stored(room, said[14]).Depth,
	}), "events")
	if !slices.Equal(missing, said[14:16]) {
		t.Errorf("get_missing_events with a depth: got %v, want %v", missing, said[14:16])
	}
}

func TestEventRequestsAreChecked(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	for _, uri := range []string{
		path("v1", "backfill", string(room.ID)), path("v1", "backfill", string(room.ID)) + "?limit=0&v=$x",
		path("v1", "backfill", string(room.ID)) + "?limit=x&v=$x", path("v1", "backfill", string(room.ID)) + "?limit=5",
		backfillPath(room, 1, make([]matrix.EventID, 50+1)...), path("v1", "state", "x") + "?event_id=$x",
	} {
		them.get(uri).fails(400, matrix.InvalidParam)
	}
	them.get(backfillPath(room, 5, "$none")).into(new(any))
	them.get(statePath("state", room, "$none")).fails(404, matrix.NotFound)
	them.post(path("v1", "get_missing_events", string(room.ID)), remote.MissingEventsRequest{Limit: -1}).fails(400, matrix.InvalidParam)
	them.post(path("v1", "get_missing_events", string(room.ID)), remote.MissingEventsRequest{
		Latest: make([]matrix.EventID, 100+1),
	}).fails(400, matrix.InvalidParam)
	them.post(path("v1", "get_missing_events", string(room.ID)), []byte(`{"latest_events":{}}`)).fails(400, matrix.BadJSON)
}

// Each request for events is answered to members of the room only, and of events of that room only: "not there" and
// "not yours" are one answer, to the byte.
func TestCVE_2022_39335_NotThereAndNotYours(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	ours, theirs := w.room("shared"), w.room("shared") // bob is in one
	them.join(theirs)
	secret, open := w.say(ours, "secret"), w.say(theirs, "open")
	const absent = matrix.EventID("$0000000000000000000000000000000000000000000")
	ask := func(room, id string) map[string]answer {
		return map[string]answer{
			"event":              them.get(path("v1", "event", id)),
			"event_auth":         them.get(path("v1", "event_auth", room, id)),
			"state":              them.get(path("v1", "state", room) + "?event_id=" + id),
			"state_ids":          them.get(path("v1", "state_ids", room) + "?event_id=" + id),
			"backfill":           them.get(path("v1", "backfill", room) + "?limit=5&v=" + id),
			"get_missing_events": them.post(path("v1", "get_missing_events", room), map[string]any{"latest_events": []string{id}}),
		}
	}
	same := func(what string, got, want map[string]answer, names ...string) {
		t.Helper()
		for endpoint, a := range got {
			text := string(a.body)
			for i := 0; i < len(names); i += 2 {
				text = strings.ReplaceAll(text, names[i], names[i+1])
			}
			if a.status != want[endpoint].status || text != string(want[endpoint].body) {
				t.Errorf("%s, %s: got %d %s, want %d %s", what, endpoint, a.status, text, want[endpoint].status, want[endpoint].body)
			}
		}
	}
	// An event of another room by way of the room that bob is in, and one that does not exist.
	same("of another room", ask(string(theirs.ID), string(secret)), ask(string(theirs.ID), string(absent)), string(secret), string(absent))
	// A room that bob is not in, and one that does not exist.
	same("in another room", ask(string(ours.ID), string(secret)), ask("!none:us.example", string(absent)),
		string(secret), string(absent), string(ours.ID), "!none:us.example")
	// An event of a room that bob is in, by way of one that he is not in: but for event, which names no room.
	byWay := ask(string(ours.ID), string(open))
	delete(byWay, "event")
	same("by way of another room", byWay, ask("!none:us.example", string(open)), string(ours.ID), "!none:us.example")
	for endpoint, a := range ask(string(ours.ID), string(secret)) {
		if strings.Contains(string(a.body), `"body"`) || a.status == 200 {
			t.Errorf("%s: got %d %s, want nothing of the room", endpoint, a.status, a.body)
		}
	}
	leave := them.member(theirs, event.Leave)
	them.put(roomPath("v2", "send_leave", theirs, string(leave.ID)), []byte(leave.JSON)).is(`{}`)
	same("after leaving", ask(string(theirs.ID), string(open)), ask("!none:us.example", string(absent)),
		string(open), string(absent), string(theirs.ID), "!none:us.example")
}

// What a server may have of the timeline follows the history visibility at each event, for the endpoints that give
// events: whole, redacted, or not at all.
func TestCVE_2018_12291_HistoryVisibility(t *testing.T) {
	for _, c := range []struct {
		visibility                           string
		before, invited, joined, left, again string // w: whole, r: redacted
	}{
		{"world_readable", "w", "w", "w", "w", "w"},
		{"shared", "w", "w", "w", "w", "w"},
		{"invited", "r", "w", "w", "r", "w"},
		{"joined", "r", "r", "w", "r", "w"},
	} {
		w := newWorld(t)
		them := w.them()
		room := w.room(c.visibility)
		said := map[string]matrix.EventID{"before": w.say(room, "1")}
		ourselves := &peer{w: w, name: us, key: newKey(t, 1)}
		proto, target := ourselves.draft(room, event.TypeMember, `{"membership":"invite"}`), string(bob)
		proto.Sender, proto.StateKey = alice, &target
		w.receive(room, ourselves.build(room, proto))
		said["invited"] = w.say(room, "2")
		them.join(room)
		said["joined"] = w.say(room, "3")
		leave := them.member(room, event.Leave)
		them.put(roomPath("v2", "send_leave", room, string(leave.ID)), []byte(leave.JSON)).is(`{}`)
		said["left"] = w.say(room, "4")
		them.get(eventPath(said["joined"])).fails(404, matrix.NotFound) // nobody of them is in the room now
		them.join(room)
		said["again"] = w.say(room, "5")
		want := map[string]string{"before": c.before, "invited": c.invited, "joined": c.joined, "left": c.left, "again": c.again}
		check := func(endpoint string, redacted map[matrix.EventID]bool, when string) {
			t.Helper()
			got, there := redacted[said[when]]
			if !there || got != (want[when] == "r") {
				t.Errorf("%s, %s, %s: got it %v, redacted %v, want %s", c.visibility, endpoint, when, there, got, want[when])
			}
		}
		_, back := pdusOf(t, room, them.get(backfillPath(room, 100, said["again"])), "pdus")
		_, missing := pdusOf(t, room, them.post(path("v1", "get_missing_events", string(room.ID)),
			map[string]any{"latest_events": []matrix.EventID{said["again"]}, "limit": 50}), "events")
		for when, id := range said {
			_, one := pdusOf(t, room, them.get(eventPath(id)), "pdus")
			check("event", one, when)
			check("backfill", back, when)
			if when != "again" {
				check("get_missing_events", missing, when)
			}
		}
	}
}

// What an event is kept for that broke the rules is not given to anybody.
func TestContinuwuity_SEC26_RejectedEventsStayHere(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	proto := them.draft(room, "m.room.power_levels", `{"users":{"@bob:them.example":100}}`)
	proto.StateKey = new(string)
	rejected := them.build(room, proto)
	w.rooms.Receive(t.Context(), them.name, room.ID, []*event.Event{rejected})
	if had := w.stored(room, rejected.ID); had == nil || had.Kind != rooms.Rejected {
		t.Fatalf("got %+v, want the event rejected", had)
	}
	third := w.peer("third.example", 3)
	third.join(room)
	for _, p := range []*peer{them, third} {
		p.get(eventPath(rejected.ID)).fails(404, matrix.NotFound)
		p.get(roomPath("v1", "event_auth", room, string(rejected.ID))).fails(404, matrix.NotFound)
		p.get(statePath("state_ids", room, rejected.ID)).fails(404, matrix.NotFound)
		if ids, _ := pdusOf(t, room, p.get(backfillPath(room, 50, rejected.ID)), "pdus"); slices.Contains(ids, rejected.ID) {
			t.Error("backfill gave it")
		}
	}
}

// Events that were redacted leave in their redacted form.
func TestRedactedEvents(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	id := w.say(room, "oops")
	_, err := w.rooms.Redact(t.Context(), by(alice), redactionOf(room, id))
	must(t, err)
	a := them.get(eventPath(id))
	if strings.Contains(string(a.body), "oops") {
		t.Errorf("got %s, want it redacted", a.body)
	}
	obj := canonicalOf(t, a.body)
	if origin, _ := canonical.String(canonical.Get(obj, "origin")); origin != string(us) {
		t.Errorf("origin: got %q, want %s", origin, us)
	}
}

func TestRoomOfVersionOne(t *testing.T) {
	w := newWorld(t)
	them := w.them()
	room := w.roomOf("1", "shared")
	id := w.say(room, "x")
	them.get(eventPath(id)).fails(404, matrix.NotFound)
	if server, named := id.Server(); !named || server != us {
		t.Errorf("got the ID %s, want one of ours", id)
	}
}
