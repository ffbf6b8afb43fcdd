package clientapi

import (
	"net/url"
	"testing"
)

func TestJoin(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(object{"preset": "public_chat", "room_alias_name": "café/#1"})
	joined := `{"room_id":"` + r.id + `"}`
	bob.post(r.path+"/join", object{"reason": "Looking for support"}).is(joined)
	alice.get(r.path+"/state/m.room.member/"+string(bob.user)).has("join", "membership").has("Looking for support", "reason")
	bob.post(r.path+"/join", nil).is(joined) // who is in is in
	r.leave(bob)
	bob.post("/join/%23caf%C3%A9%2F%231:example.org?server_name=elsewhere.org", nil).is(joined)
	carol.post("/join/"+r.id+"?via=elsewhere.org", object{}).is(joined)
	carol.get("/joined_rooms").is(`{"joined_rooms":["` + r.id + `"]}`)
	w.register("dave").get("/joined_rooms").is(`{"joined_rooms":[]}`)
}

func TestJoinSaysMore(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	bob.post(r.path+"/join", object{
		"org.example.mood": "glad", "membership": "ban", "join_authorised_via_users_server": alice.user,
	}).ok()
	alice.get(r.path + "/state/m.room.member/" + string(bob.user)).is(`{"membership":"join","org.example.mood":"glad"}`)
}

func TestJoinRefusals(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(object{})
	bob.post(r.path+"/join", object{}).fails(403, "M_FORBIDDEN")
	bob.post("/join/"+r.id, object{"reason": 1}).fails(400, "M_BAD_JSON")
	bob.post("/join/nonsense", object{}).fails(400, "M_INVALID_PARAM")
	bob.post("/join/%23nonsense", object{}).fails(400, "M_INVALID_PARAM")
	bob.post("/join/%23nowhere:example.org", object{}).fails(404, "M_NOT_FOUND")
	bob.post("/join/%23pub:elsewhere.org", object{}).fails(404, "M_NOT_FOUND")
	bob.post("/join/!room:elsewhere.org?via=elsewhere.org", object{}).fails(404, "M_NOT_FOUND")
	bob.post("/rooms/%23pub:example.org/join", object{}).fails(400, "M_INVALID_PARAM")
	r.move(alice, "ban", bob).ok()
	bob.post(r.path+"/join", object{}).fails(403, "M_FORBIDDEN")
}

func TestGuestsJoinWhereTheyMay(t *testing.T) {
	w := newWorld(t)
	alice, guest := w.register("alice"), w.guest()
	r := alice.newRoom(publicChat)
	guest.post(r.path+"/join", object{}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	guest.post("/join/"+url.PathEscape(r.id), object{}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	r.set(alice, "m.room.guest_access", object{"guest_access": "can_join"})
	guest.post(r.path+"/join", object{}).ok()
	other := w.guest()
	other.post("/join/"+url.PathEscape(r.id), object{}).ok()
	r.leave(other)
	r.say(guest, "hello")
	guest.get(r.path + "/messages?dir=b").ok()
	guest.post(r.path+"/invite", object{"user_id": "@bob:example.org"}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	r.leave(guest)
}

func TestKnock(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(object{"room_alias_name": "door"})
	bob.post("/knock/"+r.id, object{}).fails(403, "M_FORBIDDEN")
	r.set(alice, "m.room.join_rules", object{"join_rule": "knock"})
	bob.post("/knock/%23door:example.org?via=example.org", object{"reason": "let me in"}).is(`{"room_id":"` + r.id + `"}`)
	alice.get(r.path+"/state/m.room.member/"+string(bob.user)).has("knock", "membership").has("let me in", "reason")
	bob.get(r.path+"/messages?dir=b").fails(403, "M_FORBIDDEN")
	r.leave(bob) // takes the knock back
	bob.post("/knock/!room:elsewhere.org?server_name=elsewhere.org", object{}).fails(404, "M_NOT_FOUND")
	bob.post("/knock/nonsense", object{}).fails(400, "M_INVALID_PARAM")
}
