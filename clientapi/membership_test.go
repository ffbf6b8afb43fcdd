package clientapi

import "testing"

func TestMembershipMoves(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(object{})
	is := func(want string) {
		t.Helper()
		alice.get(r.path+"/state/m.room.member/"+string(bob.user)).has(want, "membership")
	}
	bob.post(r.path+"/join", object{}).fails(403, "M_FORBIDDEN")
	alice.post(r.path+"/invite", object{"user_id": bob.user, "reason": "Welcome"}).is(`{}`)
	r.move(alice, "invite", bob).is(`{}`) // once more is as good
	is("invite")
	r.leave(bob) // rejects it
	is("leave")
	r.move(alice, "invite", bob).ok()
	r.join(bob)
	is("join")
	r.move(alice, "invite", bob).fails(403, "M_FORBIDDEN") // in it already
	r.move(alice, "invite", alice).fails(403, "M_FORBIDDEN")
	r.move(bob, "kick", alice).fails(403, "M_FORBIDDEN")
	r.move(alice, "kick", carol).fails(403, "M_FORBIDDEN") // never was there
	r.move(alice, "kick", bob).is(`{}`)
	r.move(alice, "kick", bob).fails(403, "M_FORBIDDEN") // has left
	is("leave")
	r.move(alice, "unban", bob).fails(403, "M_BAD_STATE")
	r.move(alice, "ban", bob).is(`{}`)
	is("ban")
	r.move(alice, "invite", bob).fails(403, "M_FORBIDDEN")
	r.move(alice, "unban", bob).is(`{}`)
	is("leave")
	r.move(bob, "ban", alice).fails(403, "M_FORBIDDEN") // from outside
}

func TestMembershipBodies(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	for _, move := range []string{"invite", "kick", "ban", "unban"} {
		path := r.path + "/" + move
		alice.post(path, object{}).fails(400, "M_MISSING_PARAM")
		alice.post(path, object{"user_id": "bob"}).fails(400, "M_INVALID_PARAM")
		alice.post(path, `{"user_id":"@b\u0000b:example.org"}`).fails(400, "M_INVALID_PARAM")
		alice.post(path, object{"user_id": 1}).fails(400, "M_BAD_JSON")
		alice.post(path, `[]`).fails(400, "M_BAD_JSON")
		alice.post(path, `{`).fails(400, "M_NOT_JSON")
	}
	alice.post(r.path+"/leave", object{"reason": []int{}}).fails(400, "M_BAD_JSON")
	alice.post(r.path+"/leave", `"bye"`).fails(400, "M_BAD_JSON")
}

func TestForget(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	r.join(bob)
	id := r.say(alice, "before")
	bob.post(r.path+"/forget", object{}).fails(400, "M_UNKNOWN") // still in it
	r.leave(bob)
	bob.get(r.path + "/messages?dir=b").ok()
	bob.get(r.path + "/event/" + id).ok()
	bob.post(r.path+"/forget", object{}).is(`{}`)
	bob.post(r.path+"/forget", object{}).is(`{}`)
	bob.get(r.path+"/messages").fails(403, "M_FORBIDDEN")
	bob.get(r.path+"/state").fails(403, "M_FORBIDDEN")
	bob.get(r.path+"/members").fails(403, "M_FORBIDDEN")
	bob.get(r.path+"/event/"+id).fails(404, "M_NOT_FOUND")
	bob.get(r.path+"/context/"+id).fails(404, "M_NOT_FOUND")
	r.join(bob)
	wants(t, "after coming back", bob.get(r.path+"/messages?dir=b&limit=4").bodies("chunk"),
		"m.room.member m.room.member before m.room.member")
}
