package clientapi

import (
	"strconv"
	"testing"
)

func TestContext(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(object{"preset": "public_chat", "name": "first"})
	r.join(bob, carol)
	ids := map[int]string{}
	for i := range 6 {
		ids[i] = r.say([]*client{alice, bob}[i%2], strconv.Itoa(i))
	}
	r.set(alice, "m.room.name", object{"name": "second"})
	get := func(i int, pairs ...string) *answer {
		t.Helper()
		return alice.get(r.path + "/context/" + ids[i] + query(pairs...)).ok()
	}
	a := get(3, "limit", "4")
	a.has(ids[3], "event", "event_id").has(r.id, "event", "room_id")
	wants(t, "before", a.bodies("events_before"), "2 1")
	wants(t, "after", a.bodies("events_after"), "4 5")
	wants(t, "further back", alice.get(r.path+"/messages"+query("dir", "b", "limit", "1", "from", a.str("start"))).bodies("chunk"), "0")
	wants(t, "further on", alice.get(r.path+"/messages"+query("dir", "f", "limit", "1", "from", a.str("end"))).bodies("chunk"), "m.room.name")
	wants(t, "state", a.bodies("state"), "m.room.create m.room.member m.room.power_levels m.room.join_rules "+
		"m.room.history_visibility m.room.name m.room.member m.room.member")
	a.has("first", "state", "5", "content", "name")
	get(3, "limit", "10").has("second", "state", "7", "content", "name") // the last event told is the new name

	none := get(3, "limit", "0")
	wants(t, "none before", none.bodies("events_before"), "")
	wants(t, "none after", none.bodies("events_after"), "")
	wants(t, "from its end", alice.get(r.path+"/messages"+query("dir", "f", "limit", "1", "from", none.str("end"))).bodies("chunk"), "4")
	wants(t, "from its start", alice.get(r.path+"/messages"+query("dir", "b", "limit", "1", "from", none.str("start"))).bodies("chunk"), "2")
	wants(t, "one", get(3, "limit", "1").bodies("events_after"), "4")
}

func TestContextFilter(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	r := alice.newRoom(publicChat)
	r.join(bob, carol)
	r.say(carol, "early")
	r.say(alice, "before")
	id := r.say(bob, "this")
	r.say(alice, "after")
	around := func(pairs ...string) *answer {
		t.Helper()
		return alice.get(r.path + "/context/" + id + query(pairs...)).ok()
	}
	a := around("limit", "2", "filter", `{"lazy_load_members":true,"types":["m.room.m*"]}`)
	wants(t, "before", a.bodies("events_before"), "before")
	wants(t, "after", a.bodies("events_after"), "after")
	wants(t, "members", a.users("state"), "alice=join bob=join")
	a = around("filter", `{"types":[]}`)
	wants(t, "nothing of it", a.bodies("events_before")+a.bodies("events_after")+a.bodies("state"), "")
	a.has("this", "event", "content", "body") // the filter is not for it
	a = around("filter", `{"rooms":[]}`)
	wants(t, "in no room", a.bodies("events_before")+a.bodies("events_after"), "")

	alice.get(r.path+"/context/"+id+"?limit=x").fails(400, "M_INVALID_PARAM")
	alice.get(r.path+"/context/"+id+"?filter=x").fails(400, "M_NOT_JSON")
	alice.get(r.path+"/context/$nothing").fails(404, "M_NOT_FOUND")
}

// Around the last event that one who has left may see, there is nothing that came later.
func TestContextOfTheDeparted(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	r.join(bob)
	id := r.say(alice, "last")
	r.leave(bob)
	r.say(alice, "later")
	a := bob.get(r.path + "/context/" + id).ok()
	wants(t, "after", a.bodies("events_after"), "m.room.member")
	a.has("leave", "events_after", "0", "unsigned", "membership")
}
