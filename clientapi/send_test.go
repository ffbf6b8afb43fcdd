package clientapi

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestSendOnce(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	phone := w.login("alice")
	r, other := alice.newRoom(object{}), alice.newRoom(object{})
	first := alice.put(r.path+"/send/m.room.message/abc", object{"body": "first"}).ok().str("event_id")
	again := func(c *client, path string, same bool) {
		t.Helper()
		if got := c.put(path, object{"body": "second"}).ok().str("event_id"); (got == first) != same {
			t.Errorf("%s by %s: got %s after %s, want the same: %v", path, c.device, got, first, same)
		}
	}
	again(alice, r.path+"/send/m.room.message/abc", true)
	again(alice, "/_matrix/client/r0"+r.path+"/send/m.room.message/abc", true)
	again(alice, r.path+"/send/m%2Eroom.message/ab%63", true)
	again(alice, r.path+"/send/m.room.message/def", false)
	again(alice, r.path+"/send/org.example.other/abc", false)
	again(alice, other.path+"/send/m.room.message/abc", false)
	again(phone, r.path+"/send/m.room.message/abc", false)

	alice.get(r.path+"/event/"+first).has("abc", "unsigned", "transaction_id")
	phone.get(r.path+"/event/"+first).has(nil, "unsigned", "transaction_id")
}

func TestSendRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	for body, want := range map[string]matrix.ErrorCode{
		`{"body":9007199254740992}`:  "M_BAD_JSON",
		`{"body":-9007199254740992}`: "M_BAD_JSON",
		`{"body":1.1}`:               "M_BAD_JSON",
		`{"body":1,"body":2}`:        "M_BAD_JSON",
		`{"body":"\ud800"}`:          "M_BAD_JSON",
		`{"body":Infinity}`:          "M_NOT_JSON",
		`{"body":NaN}`:               "M_NOT_JSON",
		`{"body":`:                   "M_NOT_JSON",
		"{\"body\":\"\xff\"}":        "M_NOT_JSON",
		``:                           "M_NOT_JSON",
		`[]`:                         "M_BAD_JSON",
		`"text"`:                     "M_BAD_JSON",
		`null`:                       "M_BAD_JSON",
		strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat(`}`, 200): "M_BAD_JSON",
	} {
		for _, path := range []string{"/send/org.example.a/t", "/state/org.example.a"} {
			if a := alice.put(r.path+path, body); a.status != 400 || a.at("errcode") != string(want) {
				t.Errorf("%s %.60q: got %d %s, want 400 %s", path, body, a.status, a.text, want)
			}
		}
	}
	large := object{"body": strings.Repeat("a", 65_536)}
	alice.put(r.path+"/send/m.room.message/1", large).fails(413, "M_TOO_LARGE")
	alice.put(r.path+"/state/marvel.universe.fate", large).fails(413, "M_TOO_LARGE")
	alice.put(r.path+"/send/"+strings.Repeat("t", 256)+"/1", object{}).fails(400, "M_INVALID_PARAM")
	alice.put(r.path+"/send/m.room.message/"+strings.Repeat("t", 256), object{}).fails(400, "M_INVALID_PARAM")
	alice.put(r.path+"/send//1", object{}).fails(400, "M_INVALID_PARAM")
}

// U+0000 is allowed in the strings of JSON.
func TestSendNUL(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	id := r.send(alice, "org.example.a", `{"a\u0000b":"c\u0000d"}`)
	alice.get(r.path+"/event/"+id).has(object{"a\x00b": "c\x00d"}, "content")
	r.set(alice, "org.example.b", `{"body":"\u0000"}`)
	alice.get(r.path+"/state/org.example.b").has("\x00", "body")
	alice.put(r.path+"/state/org.example.b/a%00b", object{"x": 1}).ok()
	alice.get(r.path+"/state/org.example.b/a%00b").has(1.0, "x")
}

func TestRedact(t *testing.T) {
	for _, version := range []string{"10", "12"} {
		w := newWorld(t)
		alice, bob := w.register("alice"), w.register("bob")
		r := alice.newRoom(object{"preset": "public_chat", "room_version": version})
		r.join(bob)
		id := r.say(alice, "oops")
		bob.get(r.path+"/event/"+id).has("oops", "content", "body")
		bob.put(r.path+"/redact/"+id+"/1", object{}).fails(403, "M_FORBIDDEN")
		redaction := alice.put(r.path+"/redact/"+id+"/1", object{"reason": "typo"}).ok().str("event_id")
		wants(t, "the same once more", alice.put(r.path+"/redact/"+id+"/1", nil).str("event_id"), redaction)
		bob.get(r.path+"/event/"+id).has(object{}, "content").
			has(redaction, "unsigned", "redacted_because", "event_id").
			has("typo", "unsigned", "redacted_because", "content", "reason")
		bob.get(r.path+"/event/"+redaction).has(id, "redacts").has(id, "content", "redacts")

		mine := r.say(bob, "mine")
		byOther := r.send(alice, "m.room.redaction", object{"redacts": mine, "reason": "spam"})
		bob.get(r.path+"/event/"+mine).has(object{}, "content").has(byOther, "unsigned", "redacted_because", "event_id")
		alice.put(r.path+"/send/m.room.redaction/9", object{}).fails(400, "M_BAD_JSON")
		alice.put(r.path+"/redact/$nothing/2", object{}).ok() // others may have it
		bob.put(r.path+"/redact/$nothing/2", object{}).fails(404, "M_NOT_FOUND")
		alice.put(r.path+"/redact/nonsense/2", object{}).fails(400, "M_INVALID_PARAM")
		alice.put(r.path+"/redact/"+id+"/3", object{"reason": 7}).fails(400, "M_BAD_JSON")
	}
}

func TestSendingIsActivity(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	w.must(w.ephemeral.SetPresence(alice.user, "unavailable", ""))
	r.say(alice, "hello")
	if p := w.ephemeral.Presence(alice.user); p.State != "online" {
		t.Errorf("presence after sending: got %v, want online", p)
	}
}
