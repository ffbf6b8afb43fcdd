package clientapi

import (
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestCreateRoom(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(object{
		"visibility": "public", "room_alias_name": "thepub", "name": "The Grand Duke Pub", "topic": "All about happy hour",
		"invite": []any{bob.user}, "is_direct": true, "room_version": "11",
		"creation_content":             object{"m.federate": false, "room_version": "nonsense"},
		"initial_state":                []object{{"type": "org.example.style", "content": object{"style": "cosy"}}},
		"power_level_content_override": object{"users_default": 1},
	})
	alice.get(r.path+"/state/m.room.create").has(false, "m.federate").has("11", "room_version")
	alice.get(r.path + "/state/m.room.name").is(`{"name":"The Grand Duke Pub"}`)
	alice.get(r.path+"/state/m.room.topic").has("All about happy hour", "topic").
		has("All about happy hour", "m.topic", "m.text", "0", "body")
	alice.get(r.path + "/state/m.room.join_rules").is(`{"join_rule":"public"}`)
	alice.get(r.path + "/state/m.room.canonical_alias").is(`{"alias":"#thepub:example.org"}`)
	alice.get(r.path + "/state/org.example.style").is(`{"style":"cosy"}`)
	alice.get(r.path+"/state/m.room.power_levels").has(1.0, "users_default").has(100.0, "users", string(alice.user))
	alice.get(r.path+"/state/m.room.member/"+string(bob.user)).has("invite", "membership").has(true, "is_direct")
	alice.get("/directory/list/room/" + r.id).is(`{"visibility":"public"}`)
	alice.get("/directory/room/%23thepub:example.org").has(r.id, "room_id")
}

func TestCreateRoomRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	alice.newRoom(object{"room_alias_name": "taken"})
	for body, want := range map[string]matrix.ErrorCode{
		`{"room_version":1}`: "M_BAD_JSON",
		`{"room_version":"ahfgwjyerhgiuveisbruvybseyrugvi"}`:    "M_UNSUPPORTED_ROOM_VERSION",
		`{"room_version":"\u0000 of no version"}`:               "M_UNSUPPORTED_ROOM_VERSION",
		`{"visibility":"sometimes"}`:                            "M_INVALID_PARAM",
		`{"preset":"nonsense"}`:                                 "M_INVALID_PARAM",
		`{"invite":["bob"]}`:                                    "M_INVALID_PARAM",
		`{"invite":"@bob:example.org"}`:                         "M_BAD_JSON",
		`{"room_alias_name":"taken"}`:                           "M_ROOM_IN_USE",
		`{"room_alias_name":"a b\u0000"}`:                       "M_INVALID_PARAM",
		`{"initial_state":[{"content":{}}]}`:                    "M_BAD_JSON",
		`{"initial_state":[{"type":"a"}]}`:                      "M_BAD_JSON",
		`{"initial_state":[{"type":"a","content":null}]}`:       "M_BAD_JSON",
		`{"initial_state":[{"type":"a","content":[]}]}`:         "M_BAD_JSON",
		`{"initial_state":[{"type":"a","content":{"b":1.5}}]}`:  "M_BAD_JSON",
		`{"creation_content":[]}`:                               "M_BAD_JSON",
		`{"power_level_content_override":{"users_default":[]}}`: "M_BAD_JSON",
		`{"power_level_content_override":{"events_default":101,"users":{}},"room_version":"11","name":"n"}`: "M_INVALID_ROOM_STATE",
		`{"name":7}`: "M_BAD_JSON",
		`[]`:         "M_BAD_JSON",
		`{"name":`:   "M_NOT_JSON",
	} {
		if a := alice.post("/createRoom", body); a.status != 400 || a.at("errcode") != string(want) {
			t.Errorf("createRoom %s: got %d %s, want 400 %s", body, a.status, a.text, want)
		}
	}
	alice.post("/createRoom", object{"invite_3pid": []object{{"medium": "email"}}}).fails(403, "M_THREEPID_DENIED")
	w.guest().post("/createRoom", object{}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	w.outcast.post("/createRoom", object{}).fails(401, "M_MISSING_TOKEN")
	alice.post("/createRoom", `{"creation_content":null,"power_level_content_override":null}`).ok()
	alice.post("/createRoom", "").ok()
}
