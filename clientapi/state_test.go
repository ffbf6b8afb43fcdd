package clientapi

import "testing"

func TestState(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{"name": "first"})
	id := r.set(alice, "m.room.name", object{"name": "second"})
	for _, path := range []string{"/state/m.room.name", "/state/m.room.name/", "/state/m.room.name?format=content"} {
		alice.get(r.path + path).is(`{"name":"second"}`)
	}
	alice.get(r.path+"/state/m.room.name/?format=event").ok().
		has(id, "event_id").has(r.id, "room_id").has("m.room.name", "type").has("", "state_key").has(string(alice.user), "sender").
		has(object{"name": "second"}, "content").has(object{"name": "first"}, "unsigned", "prev_content")
	alice.get(r.path+"/state/m.room.name?format=xml").fails(400, "M_INVALID_PARAM")
	alice.get(r.path+"/state/m.room.topic").fails(404, "M_NOT_FOUND")
	alice.get(r.path+"/state/m.room.name/other").fails(404, "M_NOT_FOUND")

	wants(t, "sent as it is", r.set(alice, "m.room.name", object{"name": "second"}), id)
	alice.put(r.path+"/state/m.room.name/", object{"name": "third"}).ok()
	alice.get(r.path + "/state/m.room.name").is(`{"name":"third"}`)
	alice.put(r.path+"/state/org.example.a/b%2Fc%20d", object{"e": 1}).ok()
	alice.get(r.path + "/state/org.example.a/b%2Fc%20d").is(`{"e":1}`)
	alice.do("POST", r.path+"/state/m.room.name", object{}).fails(405, "M_UNRECOGNIZED")
}

func TestWholeState(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{"name": "n"})
	wants(t, "state", alice.get(r.path+"/state").ok().bodies(), "m.room.create m.room.member m.room.power_levels "+
		"m.room.join_rules m.room.history_visibility m.room.guest_access m.room.name")
	alice.get(r.path+"/state").has(r.id, "0", "room_id").has(r.id, "6", "room_id")
}

func TestStateRefusals(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	r.join(bob)
	bob.put(r.path+"/state/m.room.name", object{"name": "bob's"}).fails(403, "M_FORBIDDEN")
	bob.put(r.path+"/state/m.room.member/"+string(alice.user), object{"membership": "leave"}).fails(403, "M_FORBIDDEN")
	alice.put(r.path+"/state/m.room.member/nobody", object{"membership": "leave"}).fails(400, "M_INVALID_PARAM")
	alice.put(r.path+"/state/m.room.member/"+string(alice.user), object{"membership": 1}).fails(400, "M_BAD_JSON")
	alice.put(r.path+"/state/m.room.power_levels", object{"ban": "x"}).fails(400, "M_BAD_JSON")
	alice.put(r.path+"/state/m.room.power_levels", object{"users": []int{}}).fails(400, "M_BAD_JSON")
	alice.put(r.path+"/state/m.room.canonical_alias", object{"alias": "#missing:example.org"}).fails(400, "M_BAD_ALIAS")
	alice.put(r.path+"/state/m.room.canonical_alias", object{"alias": "%invalid"}).fails(400, "M_INVALID_PARAM")
	alice.put(r.path+"/state/m.room.create", object{}).fails(400, "M_INVALID_PARAM")
}

// Who has left sees the room as it was then, whatever the history visibility.
func TestDeparted(t *testing.T) {
	for _, visibility := range []string{"joined", "shared"} {
		w := newWorld(t)
		alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
		r := alice.newRoom(withVisibility(visibility))
		r.join(bob)
		r.set(alice, "m.room.name", object{"name": "before"})
		r.say(alice, "one")
		r.say(alice, "two")
		r.leave(bob)
		r.set(alice, "m.room.name", object{"name": "after"})
		after := r.say(alice, "three")
		r.join(carol)

		bob.get(r.path + "/state/m.room.name").is(`{"name":"before"}`)
		alice.get(r.path + "/state/m.room.name").is(`{"name":"after"}`)
		wants(t, "members", bob.get(r.path+"/members").users("chunk"), "alice=join bob=leave")
		now := "t" + at(w.db.Position()) + "_0"
		wants(t, "members at a token from later", bob.get(r.path+"/members?at="+now).users("chunk"), "alice=join bob=leave")
		bob.get(r.path+"/joined_members").fails(403, "M_FORBIDDEN")
		back := bob.get(r.path + "/messages?dir=b&limit=3")
		wants(t, "messages", back.bodies("chunk"), "m.room.member two one")
		wants(t, "messages from later", bob.get(r.path+"/messages?dir=b&limit=3&from="+now).bodies("chunk"), "m.room.member two one")
		wants(t, "going on", bob.get(r.path+"/messages?dir=f&limit=100&from="+back.str("start")).has(nil, "end").bodies("chunk"), "")
		bob.get(r.path+"/event/"+after).fails(404, "M_NOT_FOUND")
		wants(t, "state", bob.get(r.path+"/state").bodies(), "m.room.create m.room.member m.room.power_levels "+
			"m.room.join_rules m.room.history_visibility m.room.name m.room.member")
	}
}
