package clientapi

import "testing"

func TestEvent(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(withVisibility("joined"))
	early := r.say(alice, "early")
	r.join(bob)
	late := r.say(alice, "late")
	bob.get(r.path+"/event/"+late).ok().
		has(late, "event_id").has(r.id, "room_id").has(string(alice.user), "sender").has("m.room.message", "type").
		has(1_800_000_000_000.0, "origin_server_ts").has("late", "content", "body").has("join", "unsigned", "membership")
	bob.get(r.path+"/event/"+early).fails(404, "M_NOT_FOUND")
	bob.get(r.path+"/event/$nothing").fails(404, "M_NOT_FOUND")
	bob.get(r.path+"/event/nonsense").fails(400, "M_INVALID_PARAM")
	other := bob.newRoom(object{})
	bob.get(other.path+"/event/"+late).fails(404, "M_NOT_FOUND") // of another room
}

// A room that the world may read is read from outside.
func TestWorldReadable(t *testing.T) {
	w := newWorld(t)
	alice, bob, guest := w.register("alice"), w.register("bob"), w.guest()
	r := alice.newRoom(withVisibility("world_readable"))
	id := r.say(alice, "hear, hear")
	for _, c := range []*client{bob, guest} {
		c.get(r.path+"/event/"+id).has("hear, hear", "content", "body").has("leave", "unsigned", "membership")
		wants(t, "messages", c.get(r.path+"/messages?dir=b&limit=1").bodies("chunk"), "hear, hear")
		c.get(r.path + "/state/m.room.join_rules").is(`{"join_rule":"public"}`)
		c.get(r.path + "/members").ok()
		c.get(r.path + "/context/" + id).ok()
	}
	bob.get(r.path + "/aliases").is(`{"aliases":[]}`)
	bob.get(r.path+"/joined_members").fails(403, "M_FORBIDDEN")
}
