package federation_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
)

// A liar is a server that gives out a template, and notes what it gets for it.
type liar struct {
	key      signing.Key
	template func(endpoint string) string

	mu  sync.Mutex
	got [][]byte
}

const liarName = "liar.example"

func (w *town) liar() *liar {
	w.t.Helper()
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	l := &liar{key: key}
	w.settle(liarName, l)
	return l
}

func (l *liar) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch parts := strings.Split(r.URL.Path, "/"); {
	case r.URL.Path == "/_matrix/key/v2/server":
		rw.Write(l.document())
	case r.Method == http.MethodGet && len(parts) > 4 && strings.HasPrefix(parts[4], "make_"):
		fmt.Fprint(rw, l.template(parts[4]))
	case r.Method == http.MethodPut:
		body := make([]byte, 1<<16)
		n, _ := r.Body.Read(body)
		l.mu.Lock()
		l.got = append(l.got, body[:n])
		l.mu.Unlock()
		rw.WriteHeader(403)
		fmt.Fprint(rw, `{"errcode":"M_FORBIDDEN","error":"thank you"}`)
	default:
		rw.WriteHeader(404)
	}
}

func (l *liar) document() []byte {
	obj, err := canonical.Marshal(map[string]any{
		"server_name": liarName, "valid_until_ts": time.Now().Add(time.Hour).UnixMilli(), "old_verify_keys": map[string]any{},
		"verify_keys": map[signing.KeyID]any{l.key.ID(): map[string]string{"key": signing.EncodeBase64(l.key.Public())}},
	})
	if err == nil {
		obj, err = signing.SignJSON(obj, liarName, l.key)
	}
	if err != nil {
		panic(err)
	}
	return obj
}

// CVE-2026-24471: servers signed the templates of others nearly as they were, and so whatever those wanted. Of a
// template only its place in the graph is taken; one that is of anything else than was asked for gets no event at all.
func TestNetworkHostileTemplate_CVE_2026_24471(t *testing.T) {
	w := newTown(t)
	guest, l := w.house("guest.example"), w.liar()
	const room = matrix.RoomID("!r:liar.example")
	good := map[string]any{
		"type": "m.room.member", "room_id": room, "sender": "@bob:guest.example", "state_key": "@bob:guest.example",
		"content": map[string]any{"membership": "join"}, "prev_events": []string{"$p"}, "auth_events": []string{"$a"}, "depth": 7,
	}
	for _, c := range []struct {
		name  string
		alter map[string]any
		sent  bool
	}{
		{"honest", nil, true},
		{"of another type", map[string]any{"type": "m.room.power_levels"}, false},
		{"of another room", map[string]any{"room_id": "!other:victim.example"}, false},
		{"of another sender", map[string]any{"sender": "@alice:guest.example"}, false},
		{"of another state key", map[string]any{"state_key": "@alice:guest.example"}, false},
		{"without a state key", map[string]any{"state_key": nil}, false},
		{"of another membership", map[string]any{"content": map[string]any{"membership": "ban"}}, false},
		{"vouched for by another server", map[string]any{"content": map[string]any{
			"membership": "join", "join_authorised_via_users_server": "@admin:victim.example"}}, false},
		{"without prev events", map[string]any{"prev_events": []string{}}, false},
		{"with a depth out of bounds", map[string]any{"depth": -1}, false},
		{"with more in it", map[string]any{
			"redacts": "$target", "origin": "victim.example", "origin_server_ts": 1, "event_id": "$chosen:guest.example",
			"extra": "evil", "unsigned": map[string]any{"evil": 1}, "hashes": map[string]any{"sha256": "evil"},
			"signatures": map[string]any{"guest.example": map[string]any{"ed25519:evil": "evil"}},
			"content":    map[string]any{"membership": "join", "displayname": "evil", "extra": "evil"}}, true},
	} {
		template := make(map[string]any)
		for _, from := range []map[string]any{good, c.alter} {
			for name, value := range from {
				template[name] = value
			}
		}
		text, err := json.Marshal(map[string]any{"room_version": "11", "event": template})
		if err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		l.got, l.template = nil, func(string) string { return string(text) }
		l.mu.Unlock()
		if err := guest.join("bob", room, liarName); err == nil {
			t.Errorf("%s: bob has joined", c.name)
		}
		if (len(l.got) > 0) != c.sent {
			t.Errorf("%s: sent %d events, want any: %v", c.name, len(l.got), c.sent)
		}
		for _, got := range l.got {
			checkOurs(t, c.name, got)
		}
	}
}

// checkOurs looks that an event has nothing that is not ours.
func checkOurs(t *testing.T, name string, got []byte) {
	t.Helper()
	if strings.Contains(string(got), "evil") || strings.Contains(string(got), "victim") {
		t.Errorf("%s: signed %s", name, got)
	}
	var fields []string
	for field := range canonical.Fields(got) {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	want := "auth_events content depth hashes origin_server_ts prev_events room_id sender signatures state_key type"
	if strings.Join(fields, " ") != want {
		t.Errorf("%s: signed an event of %v, want %s", name, fields, want)
	}
	v, _ := event.VersionOf("11")
	ev, err := event.Parse(v, got)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if ev.Membership() != event.Join || ev.Sender != "@bob:guest.example" || ev.Target() != ev.Sender || ev.RoomID != "!r:liar.example" {
		t.Errorf("%s: signed %s", name, got)
	}
}

// A template for another room version is not an event that we would sign for this room ID.
func TestNetworkTemplateOfAnotherVersion_CVE_2026_24471(t *testing.T) {
	w := newTown(t)
	guest, l := w.house("guest.example"), w.liar()
	for _, version := range []string{`"12"`, `"99"`, `""`, `1`, `null`} {
		l.template = func(endpoint string) string {
			membership := strings.TrimPrefix(endpoint, "make_")
			return `{"room_version":` + version + `,"event":{"type":"m.room.member","room_id":"!r:liar.example","sender":"@bob:guest.example",
				"state_key":"@bob:guest.example","content":{"membership":"` + membership + `"},"prev_events":["$p"],"auth_events":[],"depth":1}}`
		}
		if err := guest.network.Knock(t.Context(), guest.as("bob"), roomserver.JoinRoom{Room: "!r:liar.example"}, nil); err == nil {
			t.Errorf("version %s: bob has knocked", version)
		}
		if len(l.got) > 0 {
			t.Errorf("version %s: sent %s", version, l.got[0])
		}
	}
}

// Continuwuity 0.5.4: what a resident server says a room is gets checked before anything of it is shown.
func TestNetworkHostileJoinAnswer_continuwuity_0_5_4(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	other := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	for i, c := range []struct {
		name  string
		alter func(state []json.RawMessage) []json.RawMessage
	}{
		{"no create event", func(state []json.RawMessage) []json.RawMessage { return without(state, event.TypeCreate) }},
		{"nothing at all", func([]json.RawMessage) []json.RawMessage { return nil }},
		{"no join rules", func(state []json.RawMessage) []json.RawMessage { return without(state, event.TypeJoinRules) }},
		{"the create event of another room", func(state []json.RawMessage) []json.RawMessage {
			return append(without(state, event.TypeCreate), host.stateOf(other, event.TypeCreate))
		}},
		{"a wrong signature", func(state []json.RawMessage) []json.RawMessage {
			for i, raw := range state {
				if strings.Contains(string(raw), `"type":"m.room.create"`) {
					state[i] = json.RawMessage(strings.Replace(string(raw), `"signatures":{"host.example":{"`, `"signatures":{"host.example":{"ed25519:no":"AAAA","x`, 1))
				}
			}
			return state
		}},
	} {
		room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11", Name: fmt.Sprint(i)})
		host.alter(c.alter)
		if err := guest.join("bob", room); err == nil {
			t.Errorf("%s: bob has joined", c.name)
		}
		if m := guest.stands("bob", room); m.Membership != "" {
			t.Errorf("%s: bob is %s", c.name, m.Membership)
		}
		if m := guest.member(room, guest.user("bob")); m != "" {
			t.Errorf("%s: the room says that bob is %s", c.name, m)
		}
		// It can be joined once the truth is told.
		host.alter(nil)
		if err := guest.join("bob", room); err != nil {
			t.Errorf("%s: after that: %v", c.name, err)
		}
	}
}

// What is false beside the truth is left out of it.
func TestNetworkFalseState_continuwuity_0_5_4(t *testing.T) {
	w := newTown(t)
	host, guest := w.house("host.example"), w.house("guest.example")
	other := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11", Topic: "of another room"})
	room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
	r, err := host.rooms.Room(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	// mallory is not in the room, so nothing authorises her topic.
	key := ""
	forged, err := event.Build(r.Version, event.Proto{
		Type: "m.room.avatar", StateKey: &key, Sender: host.user("mallory"), RoomID: room, Content: []byte(`{"url":"mxc://evil/x"}`),
		Depth: 9, OriginServerTS: time.Now().UnixMilli(),
	}, host.name, host.key)
	if err != nil {
		t.Fatal(err)
	}
	host.alter(func(state []json.RawMessage) []json.RawMessage {
		return append(state, forged.JSON, host.stateOf(other, "m.room.topic"))
	})
	if err := guest.join("bob", room); err != nil {
		t.Fatal(err)
	}
	state, err := guest.rooms.Current(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"m.room.avatar", "m.room.topic"} {
		if ev, err := state.Event(t.Context(), event.Key{Type: typ}); ev != nil || err != nil {
			t.Errorf("%s: got %v, %v; want none", typ, ev, err)
		}
	}
}

// alter changes the state and the auth chain that a house tells to those who join.
func (h *house) alter(f func([]json.RawMessage) []json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tamper = nil
	if f == nil {
		return
	}
	h.tamper = func(path string, body []byte) []byte {
		if !strings.Contains(path, "/send_join/") {
			return body
		}
		var answer map[string]json.RawMessage
		if json.Unmarshal(body, &answer) != nil {
			panic("no answer to a join: " + string(body))
		}
		for _, list := range []string{"state", "auth_chain"} {
			var events []json.RawMessage
			if json.Unmarshal(answer[list], &events) != nil {
				panic("no answer to a join: " + string(body))
			}
			answer[list] = encode(append([]json.RawMessage{}, f(events)...))
		}
		return encode(answer)
	}
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func without(state []json.RawMessage, typ string) []json.RawMessage {
	return slices.DeleteFunc(state, func(raw json.RawMessage) bool {
		return strings.Contains(string(raw), `"type":"`+typ+`"`)
	})
}

// stateOf returns a state event of a room.
func (h *house) stateOf(room matrix.RoomID, typ string) json.RawMessage {
	state, err := h.rooms.Current(h.t.Context(), room)
	if err != nil {
		panic(err)
	}
	ev, err := state.Event(h.t.Context(), event.Key{Type: typ})
	if err != nil || ev == nil {
		panic(fmt.Sprint(typ, " is not in the state: ", err))
	}
	return json.RawMessage(ev.JSON)
}
