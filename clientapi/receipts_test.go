package clientapi

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// read returns a user's receipts in a room as type[/thread]=event.
func (r *room) read(c *client) map[string]string {
	c.w.t.Helper()
	room, err := c.w.rooms.Room(c.w.t.Context(), matrix.RoomID(r.id))
	c.w.must(err)
	found, err := rooms.ReceiptsOfUser(c.w.t.Context(), c.w.db, room.Num, c.user)
	c.w.must(err)
	all := map[string]string{}
	for _, receipt := range found {
		key := receipt.Type
		if receipt.Thread != "" {
			key += "/" + receipt.Thread
		}
		all[key] = string(receipt.Event)
	}
	return all
}

func TestReceipts(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	r.join(bob)
	one, two := r.say(alice, "one"), r.say(alice, "two")
	w.must(w.ephemeral.SetPresence(bob.user, "unavailable", ""))
	bob.post(r.path+"/receipt/m.read/"+two, object{}).is(`{}`)
	wants(t, "read", r.read(bob)["m.read"], two)
	bob.post(r.path+"/receipt/m.read/"+one, nil).is(`{}`) // goes backward: stays
	wants(t, "read still", r.read(bob)["m.read"], two)
	bob.post(r.path+"/receipt/m.read.private/"+one, object{}).ok()
	wants(t, "read in private", r.read(bob)["m.read.private"], one)

	fullyRead := "/user/" + string(bob.user) + r.path + "/account_data/m.fully_read"
	bob.post(r.path+"/receipt/m.fully_read/"+two, object{}).ok()
	bob.get(fullyRead).is(`{"event_id":"` + two + `"}`)
	bob.post(r.path+"/receipt/m.fully_read/"+one, object{}).ok()
	bob.get(fullyRead).is(`{"event_id":"` + two + `"}`)
	if p := w.ephemeral.Presence(bob.user); p.State != "online" {
		t.Errorf("presence after reading: got %v, want online", p)
	}
}

func TestThreadReceipts(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	related := func(kind, to string) object {
		return object{"body": "x", "m.relates_to": object{"rel_type": kind, "event_id": to}}
	}
	root := r.say(alice, "root")
	reply := r.send(alice, "m.room.message", related("m.thread", root))
	reaction := r.send(alice, "m.reaction", related("m.annotation", reply))
	apart := r.send(alice, "m.reaction", related("m.annotation", root))
	read := func(event, thread string) *answer {
		t.Helper()
		return alice.post(r.path+"/receipt/m.read/"+event, object{"thread_id": thread})
	}
	read(root, root).ok()
	read(root, "main").ok()
	read(apart, "main").ok()
	read(reply, root).ok()
	read(reaction, root).ok()
	wants(t, "in the thread", r.read(alice)["m.read/"+root], reaction)
	wants(t, "in the main one", r.read(alice)["m.read/main"], apart)
	read(reply, "main").fails(400, "M_INVALID_PARAM")
	read(reaction, "main").fails(400, "M_INVALID_PARAM")
	read(apart, reply).fails(400, "M_INVALID_PARAM")
	read("$nothing", "main").fails(404, "M_NOT_FOUND")
	for _, thread := range []string{`""`, `null`, `1`, `[]`} {
		alice.post(r.path+"/receipt/m.read/"+root, `{"thread_id":`+thread+`}`).fails(400, "M_INVALID_PARAM")
	}
	alice.post(r.path+"/receipt/m.fully_read/"+root, object{"thread_id": "main"}).fails(400, "M_INVALID_PARAM")
}

func TestReadMarkers(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{})
	one, two, three := r.say(alice, "one"), r.say(alice, "two"), r.say(alice, "three")
	alice.post(r.path+"/read_markers", object{"m.fully_read": one, "m.read": two, "m.read.private": three}).is(`{}`)
	wants(t, "read", r.read(alice)["m.read"], two)
	wants(t, "read in private", r.read(alice)["m.read.private"], three)
	alice.get("/user/" + string(alice.user) + r.path + "/account_data/m.fully_read").is(`{"event_id":"` + one + `"}`)
	alice.post(r.path+"/read_markers", object{}).is(`{}`)
}

func TestReceiptRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r, other := alice.newRoom(object{}), alice.newRoom(object{})
	id, elsewhere := r.say(alice, "here"), other.say(alice, "elsewhere")
	alice.post(r.path+"/receipt/m.seen/"+id, object{}).fails(400, "M_INVALID_PARAM")
	alice.post(r.path+"/receipt/m.read/nonsense", object{}).fails(400, "M_INVALID_PARAM")
	alice.post(r.path+"/receipt/m.read/"+strings.Repeat("$", 300), object{}).fails(400, "M_INVALID_PARAM")
	alice.post(r.path+"/receipt/m.read/"+id, `[]`).fails(400, "M_BAD_JSON")
	for _, typ := range []string{"m.read", "m.read.private", "m.fully_read"} {
		alice.post(r.path+"/receipt/"+typ+"/"+elsewhere, object{}).fails(404, "M_NOT_FOUND")
		alice.post(r.path+"/read_markers", object{typ: elsewhere}).fails(404, "M_NOT_FOUND")
		alice.post(r.path+"/read_markers", object{typ: "nonsense"}).fails(400, "M_INVALID_PARAM")
		alice.post(r.path+"/read_markers", object{typ: 1}).fails(400, "M_BAD_JSON")
	}
	if n := len(r.read(alice)); n != 0 {
		t.Errorf("receipts: got %d, want none", n)
	}
}
