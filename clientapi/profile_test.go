package clientapi

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

const aliceProfile = "/profile/@alice:example.org"

func TestProfile(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	w.outcast.get(aliceProfile).is(`{}`)
	alice.put(aliceProfile+"/displayname", object{"displayname": "Alice"}).is(`{}`)
	alice.put(aliceProfile+"/avatar_url", object{"avatar_url": "mxc://example.org/a"}).is(`{}`)
	alice.put(aliceProfile+"/org.example.hobbies", `{"org.example.hobbies":["chess",1.5,null]}`).is(`{}`)
	w.outcast.get(aliceProfile + "/displayname").is(`{"displayname":"Alice"}`)
	w.outcast.get(aliceProfile + "/org.example.hobbies").is(`{"org.example.hobbies":["chess",1.5,null]}`)
	w.outcast.get(aliceProfile).
		is(`{"displayname":"Alice","avatar_url":"mxc://example.org/a","org.example.hobbies":["chess",1.5,null]}`)
	w.outcast.get("/_matrix/client/r0" + aliceProfile + "/avatar_url").is(`{"avatar_url":"mxc://example.org/a"}`)

	alice.delete(aliceProfile+"/org.example.hobbies", nil).is(`{}`)
	alice.delete(aliceProfile+"/org.example.hobbies", nil).is(`{}`)
	alice.put(aliceProfile+"/avatar_url", object{"avatar_url": ""}).is(`{}`)
	w.outcast.get(aliceProfile).is(`{"displayname":"Alice"}`)
	w.outcast.get(aliceProfile+"/avatar_url").fails(404, "M_NOT_FOUND")
}

func TestProfileRefused(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	bob.put(aliceProfile+"/displayname", object{"displayname": "Bob's"}).fails(403, "M_FORBIDDEN")
	bob.delete(aliceProfile+"/displayname", nil).fails(403, "M_FORBIDDEN")
	w.outcast.get("/profile/@nobody:example.org").fails(404, "M_NOT_FOUND")
	w.outcast.get("/profile/@nobody:example.org/displayname").fails(404, "M_NOT_FOUND")
	w.outcast.get("/profile/alice").fails(400, "M_INVALID_PARAM")
	w.outcast.get("/profile/alice/displayname").fails(400, "M_INVALID_PARAM")
	tests := []struct {
		name, field, body string
		code              matrix.ErrorCode
	}{
		{"another member", "displayname", `{"name":"x"}`, "M_MISSING_PARAM"},
		{"no member", "displayname", `{}`, "M_MISSING_PARAM"},
		{"no body", "displayname", ``, "M_MISSING_PARAM"},
		{"not a text", "displayname", `{"displayname":7}`, "M_BAD_JSON"},
		{"not an object", "displayname", `[]`, "M_BAD_JSON"},
		{"not JSON", "displayname", `{"displayname"`, "M_NOT_JSON"},
		{"a bad name", "Upper", `{"Upper":1}`, "M_INVALID_PARAM"},
		{"a long name", strings.Repeat("a", 256), `{"` + strings.Repeat("a", 256) + `":1}`, "M_KEY_TOO_LARGE"},
		{"a long value", "org.example.a", `{"org.example.a":"` + strings.Repeat("x", 64<<10) + `"}`, "M_PROFILE_TOO_LARGE"},
	}
	for _, test := range tests {
		a := alice.put(aliceProfile+"/"+test.field, test.body)
		if a.status != 400 || a.at("errcode") != string(test.code) {
			t.Errorf("%s: got %d %s, want 400 %s", test.name, a.status, a.text, test.code)
		}
	}
}

// https://spec.matrix.org/v1.19/client-server-api/#events-on-change-of-profile-information
func TestProfileIsShownInRooms(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	rooms := []matrix.RoomID{w.room(alice), w.room(bob, alice)}
	steps := []struct {
		do           func() *answer
		name, avatar string
	}{
		{func() *answer { return alice.put(aliceProfile+"/displayname", object{"displayname": "Alice"}) }, `"Alice"`, ""},
		{func() *answer { return alice.put(aliceProfile+"/avatar_url", object{"avatar_url": "mxc://a/b"}) }, `"Alice"`, `"mxc://a/b"`},
		{func() *answer { return alice.delete(aliceProfile+"/displayname", nil) }, "", `"mxc://a/b"`},
	}
	for i, step := range steps {
		step.do().is(`{}`)
		for _, room := range rooms {
			content := w.member(room, alice).Content
			name, avatar := canonical.Get(content, "displayname"), canonical.Get(content, "avatar_url")
			if string(name) != step.name || string(avatar) != step.avatar {
				t.Errorf("step %d: member event: got %s, want name %s and avatar %s", i, content, step.name, step.avatar)
			}
		}
	}
	before := w.member(rooms[0], alice).ID
	alice.put(aliceProfile+"/m.tz", object{"m.tz": "Europe/London"}).is(`{}`)
	if after := w.member(rooms[0], alice).ID; after != before {
		t.Error("a field that rooms do not show made a new member event")
	}
}

func TestProfileOfGuests(t *testing.T) {
	w := newWorld(t)
	guest := w.guest()
	path := "/profile/" + string(guest.user)
	guest.put(path+"/displayname", object{"displayname": "A guest"}).is(`{}`)
	guest.put(path+"/avatar_url", object{"avatar_url": "mxc://a/b"}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	guest.delete(path+"/m.tz", nil).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	guest.delete(path+"/displayname", nil).is(`{}`)
}
