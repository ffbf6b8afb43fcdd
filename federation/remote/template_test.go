package remote_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

const (
	hashedRoom = "!MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA"
	hash       = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA"
)

// proposal is a template as an honest server makes it; set changes a member, and a nil value takes it away.
func proposal(set map[string]any) []byte {
	fields := map[string]any{
		"type": "m.room.member", "room_id": "!room:them.example", "sender": alice, "state_key": alice,
		"content": map[string]any{"membership": "join"}, "depth": 12, "origin": them, "origin_server_ts": 1,
		"prev_events": []string{"$p1", "$p2"}, "auth_events": []string{"$a1", "$a2"},
	}
	for key, value := range set {
		fields[key] = value
		if value == nil {
			delete(fields, key)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return text
}

func template(version matrix.RoomVersion, m event.Membership, set map[string]any) remote.Template {
	return remote.Template{
		Visit:      remote.Visit{Server: them, Room: "!room:them.example", User: alice},
		Membership: m, RoomVersion: version, Event: proposal(set),
	}
}

const ours = `{"membership":"join","displayname":"Alice","reason":"why not"}`

func TestTemplateProto(t *testing.T) {
	v, p, err := template("11", event.Join, nil).Proto([]byte(ours), 77)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(v.ID, p.Type, *p.StateKey, p.Sender, p.RoomID, string(p.Content), p.PrevEvents, p.AuthEvents, p.Depth,
		p.OriginServerTS, p.Redacts)
	want := fmt.Sprintln(v.ID, "m.room.member", string(alice), alice, "!room:them.example",
		`{"displayname":"Alice","membership":"join","reason":"why not"}`, "[$p1 $p2]", "[$a1 $a2]", 12, 77, "")
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := event.Build(v, p, us, newKey(t, "ed25519:us", 1)); err != nil {
		t.Errorf("Build: %v", err)
	}
}

// CVE-2026-24471: what another server proposes must not be signed.
func TestTemplateHostile(t *testing.T) {
	thousand := make([]string, 1000)
	for i := range thousand {
		thousand[i] = fmt.Sprintf("$e%d", i)
	}
	join := func(extra string) json.RawMessage { return json.RawMessage(`{"membership":"join"` + extra + `}`) }
	for _, c := range []struct {
		name    string
		version matrix.RoomVersion
		set     map[string]any
	}{
		{"foreign sender", "11", map[string]any{"sender": "@admin:us.example"}},
		{"no sender", "11", map[string]any{"sender": nil}},
		{"foreign state key", "11", map[string]any{"state_key": "@admin:us.example"}},
		{"no state key", "11", map[string]any{"state_key": nil}},
		{"state key is a number", "11", map[string]any{"state_key": 1}},
		{"other type", "11", map[string]any{"type": "m.room.power_levels"}},
		{"other room", "11", map[string]any{"room_id": "!other:us.example"}},
		{"no room", "11", map[string]any{"room_id": nil}},
		{"other membership", "11", map[string]any{"content": map[string]any{"membership": "ban"}}},
		{"content is a list", "11", map[string]any{"content": []int{1}}},
		{"huge depth", "11", map[string]any{"depth": json.Number("9007199254740992")}},
		{"huge depth of an old version", "1", map[string]any{"depth": json.Number("9223372036854775808")}},
		{"negative depth", "11", map[string]any{"depth": -1}},
		{"depth is a float", "11", map[string]any{"depth": json.Number("1.5")}},
		{"depth is a string", "11", map[string]any{"depth": "12"}},
		{"no depth", "11", map[string]any{"depth": nil}},
		{"1000 prev events", "11", map[string]any{"prev_events": thousand}},
		{"21 prev events", "11", map[string]any{"prev_events": thousand[:21]}},
		{"no prev events", "11", map[string]any{"prev_events": []string{}}},
		{"prev events is a string", "11", map[string]any{"prev_events": "$p"}},
		{"a prev event twice", "11", map[string]any{"prev_events": []string{"$p", "$p"}}},
		{"a prev event that is no event ID", "11", map[string]any{"prev_events": []string{"!room:them.example"}}},
		{"a prev event that is an object", "11", map[string]any{"prev_events": []any{map[string]any{}}}},
		{"11 auth events", "11", map[string]any{"auth_events": thousand[:11]}},
		{"no list of auth events", "11", map[string]any{"auth_events": nil}},
		{"plain references in version 1", "1", nil},
		{"hashed references in version 11", "11", map[string]any{"prev_events": [][]any{{"$p", map[string]any{"sha256": hash}}}}},
		{"foreign authoriser", "11", map[string]any{
			"content": join(`,"join_authorised_via_users_server":"@admin:us.example"`)}},
		{"authoriser is no user", "11", map[string]any{"content": join(`,"join_authorised_via_users_server":{}`)}},
	} {
		_, _, err := template(c.version, event.Join, c.set).Proto([]byte(ours), 77)
		if !errors.Is(err, remote.ErrBadAnswer) {
			t.Errorf("%s: got error %v, want %v", c.name, err, remote.ErrBadAnswer)
		}
	}
}

func TestTemplateIsNotAnObject(t *testing.T) {
	for _, text := range []string{``, `null`, `[]`, `"x"`, `{`, `{"type":"m.room.member"}{}`} {
		tpl := template("11", event.Join, nil)
		tpl.Event = []byte(text)
		_, _, err := tpl.Proto([]byte(ours), 77)
		checkError(t, text, err, remote.ErrBadAnswer)
	}
}

// What a template has beyond what is needed never gets into the event.
func TestTemplateExtras(t *testing.T) {
	tpl := template("10", event.Join, map[string]any{
		"content": json.RawMessage(`{"membership":"join","displayname":"Mallory","users":{"@m:them.example":100},"evil":1}`),
		"redacts": "$x", "origin_server_ts": 5, "unsigned": map[string]any{"evil": 1}, "evil": true,
		"hashes": map[string]any{"sha256": "x"}, "signatures": map[string]any{"us.example": map[string]any{}},
	})
	v, p, err := tpl.Proto([]byte(ours), 77)
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Build(v, p, us, newKey(t, "ed25519:us", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"evil", "Mallory", "redacts", "users\""} {
		if strings.Contains(string(e.JSON), word) {
			t.Errorf("the event has %s: %s", word, e.JSON)
		}
	}
	if e.OriginServerTS != 77 {
		t.Errorf("origin_server_ts: got %d, want 77", e.OriginServerTS)
	}
}

func TestTemplateAuthoriser(t *testing.T) {
	const field = "join_authorised_via_users_server"
	for _, c := range []struct {
		name    string
		version matrix.RoomVersion
		m       event.Membership
		ours    string
		want    string
	}{
		{"version 8", "8", event.Join, `{"membership":"join"}`, string(bob)},
		{"ours is not taken", "8", event.Join, `{"membership":"join","join_authorised_via_users_server":"@x:us.example"}`, string(bob)},
		{"version without", "7", event.Join, `{"membership":"join"}`, ""},
		{"knock", "10", event.Knock, `{"membership":"knock"}`, ""},
		{"leave", "10", event.Leave, `{"membership":"leave"}`, ""},
	} {
		tpl := template(c.version, c.m, map[string]any{"content": map[string]any{"membership": c.m, field: bob}})
		_, p, err := tpl.Proto([]byte(c.ours), 77)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got, _ := canonical.String(canonical.Get(p.Content, field)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTemplateVersion(t *testing.T) {
	hashed := remote.Visit{Server: them, Room: hashedRoom, User: alice}
	for _, c := range []struct {
		name    string
		version matrix.RoomVersion
		m       event.Membership
		visit   remote.Visit
		want    string
	}{
		{"unknown version", "no.such.version", event.Join, remote.Visit{Room: "!r:them.example"}, "M_UNSUPPORTED_ROOM_VERSION"},
		{"none is the first", "", event.Join, remote.Visit{Room: "!r:them.example"}, "1"},
		{"none of a knock", "", event.Knock, remote.Visit{Room: "!r:them.example"}, "M_UNSUPPORTED_ROOM_VERSION"},
		{"knock in an old version", "6", event.Knock, remote.Visit{Room: "!r:them.example"}, "M_UNKNOWN"},
		{"hash for a room with a name", "12", event.Join, remote.Visit{Room: "!r:them.example"}, "M_UNKNOWN"},
		{"name for a room with a hash", "11", event.Join, hashed, "M_UNKNOWN"},
		{"hash", "12", event.Join, hashed, "12"},
		{"knock", "7", event.Knock, remote.Visit{Room: "!r:them.example"}, "7"},
	} {
		v, err := remote.Template{Visit: c.visit, Membership: c.m, RoomVersion: c.version}.Version()
		got := string(matrix.CodeOf(err))
		if err == nil {
			got = string(v.ID)
		}
		if got != c.want {
			t.Errorf("%s: got %s (%v), want %s", c.name, got, err, c.want)
		}
	}
}

func TestTemplateHashedReferences(t *testing.T) {
	good := []any{"$p:them.example", map[string]any{"sha256": hash}}
	tpl := template("2", event.Join, map[string]any{"prev_events": []any{good}, "auth_events": []any{good}})
	v, p, err := tpl.Proto([]byte(ours), 77)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Build(v, p, us, newKey(t, "ed25519:us", 1)); err != nil {
		t.Errorf("Build: %v", err)
	}
	for name, reference := range map[string]any{
		"no hash":       []any{"$p:them.example", map[string]any{}},
		"short hash":    []any{"$p:them.example", map[string]any{"sha256": "AAAA"}},
		"three":         []any{"$p:them.example", map[string]any{"sha256": hash}, 1},
		"alone":         []any{"$p:them.example"},
		"hash a number": []any{"$p:them.example", 1},
		"empty":         []any{},
	} {
		tpl := template("2", event.Join, map[string]any{"prev_events": []any{reference}, "auth_events": []any{good}})
		_, _, err := tpl.Proto([]byte(ours), 77)
		checkError(t, name, err, remote.ErrBadAnswer)
	}
}

func TestTemplateOurContent(t *testing.T) {
	for name, content := range map[string]string{
		"other membership": `{"membership":"leave"}`, "none": `{}`, "not an object": `[]`, "not JSON": `{`,
		"a float": `{"membership":"join","x":1.5}`,
	} {
		if _, _, err := template("11", event.Join, nil).Proto([]byte(content), 77); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// Whatever the template is, only what was asked for is signed.
func FuzzTemplate(f *testing.F) {
	f.Add("11", proposal(nil))
	f.Add("1", proposal(map[string]any{"prev_events": []any{[]any{"$p:them.example", map[string]any{"sha256": hash}}}}))
	f.Add("8", proposal(map[string]any{"content": map[string]any{
		"membership": "join", "join_authorised_via_users_server": bob}}))
	key := newKey(f, "ed25519:us", 1)
	f.Fuzz(func(t *testing.T, version string, text []byte) {
		tpl := template(matrix.RoomVersion(version), event.Join, nil)
		tpl.Event = text
		v, p, err := tpl.Proto([]byte(ours), 77)
		if err != nil {
			return
		}
		e, err := event.Build(v, p, us, key)
		if err != nil {
			t.Fatalf("Build: %v of %+v", err, p)
		}
		content := canonical.AppendWithout(nil, e.Content, "join_authorised_via_users_server")
		if e.Type != event.TypeMember || e.Sender != alice || e.Target() != alice || e.RoomID != "!room:them.example" ||
			e.OriginServerTS != 77 || e.Redacts != "" ||
			string(content) != `{"displayname":"Alice","membership":"join","reason":"why not"}` {
			t.Errorf("signed something else: %s", e.JSON)
		}
		if via, ok := e.JoinAuthoriser(); ok && via.Server() != them {
			t.Errorf("authoriser: got %q, want one of %s", via, them)
		}
	})
}

func TestMakeMembership(t *testing.T) {
	w := newWorld(t)
	visit := remote.Visit{Server: them, Room: "!room:them.example", User: alice}
	w.saysJSON(map[string]any{"room_version": "11", "event": json.RawMessage(proposal(nil))})
	tpl, err := w.client.MakeJoin(t.Context(), visit)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tpl.Proto([]byte(ours), 77); err != nil {
		t.Errorf("Proto: %v", err)
	}
	versions := "ver=1&ver=2&ver=3&ver=4&ver=5&ver=6&ver=7&ver=8&ver=9&ver=10&ver=11&ver=12"
	const path = "/%21room:them.example/@alice:us.example"
	w.checkAsked("GET /_matrix/federation/v1/make_join" + path + "?" + versions)
	w.says(`{"room_version":"11","event":{}}`)
	if tpl, err = w.client.MakeLeave(t.Context(), visit); err != nil || tpl.Membership != event.Leave {
		t.Errorf("MakeLeave: got %q, %v", tpl.Membership, err)
	}
	if tpl, err = w.client.MakeKnock(t.Context(), visit); err != nil || tpl.Membership != event.Knock {
		t.Errorf("MakeKnock: got %q, %v", tpl.Membership, err)
	}
	w.checkAsked("GET /_matrix/federation/v1/make_leave"+path, "GET /_matrix/federation/v1/make_knock"+path+"?"+versions)
	w.says(`{"room_version":11}`)
	_, err = w.client.MakeJoin(t.Context(), visit)
	checkError(t, "wrong type", err, remote.ErrBadAnswer)
}
