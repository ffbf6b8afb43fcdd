package clientapi

import (
	"strings"
	"testing"
)

// names lists the rooms of a page of the directory.
func (a *answer) names() string {
	a.t.Helper()
	var all []string
	list, _ := a.ok().at("chunk").([]any)
	for _, r := range list {
		name, _ := r.(object)["name"].(string)
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestPublicRooms(t *testing.T) {
	w := newWorld(t)
	alice, bob, carol := w.register("alice"), w.register("bob"), w.register("carol")
	wants(t, "at first", w.outcast.get("/publicRooms").has([]any{}, "chunk").names(), "")
	one := alice.newRoom(object{"visibility": "public", "name": "one", "topic": "Test Topic Wombles", "room_alias_name": "one"})
	two := alice.newRoom(object{"visibility": "public", "name": "two", "creation_content": object{"type": "m.space"}})
	three := alice.newRoom(object{"visibility": "public", "name": "three"})
	alice.newRoom(object{"name": "hidden", "preset": "public_chat"})
	one.join(bob, carol)
	three.join(bob)

	w.outcast.get("/publicRooms").
		has(object{
			"room_id": one.id, "name": "one", "topic": "Test Topic Wombles", "canonical_alias": "#one:example.org",
			"join_rule": "public", "world_readable": false, "guest_can_join": false, "num_joined_members": 3.0,
		}, "chunk", "0").
		has(3.0, "total_room_count_estimate").has(nil, "next_batch").has(nil, "prev_batch")
	first := alice.get("/publicRooms?limit=1&server=example.org")
	wants(t, "first", first.names(), "one")
	second := alice.post("/publicRooms", object{"limit": 1, "since": first.str("next_batch")})
	wants(t, "second", second.names(), "three")
	wants(t, "rest", alice.get("/publicRooms?since="+second.str("next_batch")).has(nil, "next_batch").names(), "two")
	wants(t, "back", alice.get("/publicRooms?limit=1&since="+second.str("prev_batch")).names(), "one")

	search := func(filter object, want string) {
		t.Helper()
		wants(t, "search", alice.post("/publicRooms", object{"filter": filter}).names(), want)
	}
	search(object{"generic_search_term": "wombles"}, "one")
	search(object{"generic_search_term": "%"}, "")
	search(object{"room_types": []any{"m.space"}}, "two")
	search(object{"room_types": []any{nil}}, "one three")
	search(object{"room_types": []any{nil, "m.space"}}, "one three two")
	search(object{"room_types": []any{}}, "")
	wants(t, "of a bridge", alice.post("/publicRooms", object{"third_party_instance_id": "irc"}).has([]any{}, "chunk").names(), "")
	alice.get(two.path+"/state/m.room.create").has("m.space", "type")
}

func TestPublicRoomsRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	alice.get("/publicRooms?server=elsewhere.org").fails(404, "M_NOT_FOUND")
	alice.post("/publicRooms?server=elsewhere.org", object{}).fails(404, "M_NOT_FOUND")
	alice.get("/publicRooms?limit=x").fails(400, "M_INVALID_PARAM")
	alice.get("/publicRooms?limit=-1").fails(400, "M_INVALID_PARAM")
	alice.get("/publicRooms?since=nonsense").fails(400, "M_INVALID_PARAM")
	alice.post("/publicRooms", object{"limit": "1"}).fails(400, "M_BAD_JSON")
	alice.post("/publicRooms", object{"filter": []any{}}).fails(400, "M_BAD_JSON")
	alice.post("/publicRooms", object{"filter": object{"room_types": []any{1}}}).fails(400, "M_BAD_JSON")
	alice.post("/publicRooms", object{"third_party_instance_id": "irc", "include_all_networks": true}).fails(400, "M_INVALID_PARAM")
	w.outcast.post("/publicRooms", object{}).fails(401, "M_MISSING_TOKEN")
}

func TestVisibility(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	path := "/directory/list/room/" + r.id
	w.outcast.get(path).is(`{"visibility":"private"}`)
	alice.put(path, object{"visibility": "public"}).is(`{}`)
	w.outcast.get(path).is(`{"visibility":"public"}`)
	alice.put(path, object{"visibility": "private"}).is(`{}`)
	alice.get(path).is(`{"visibility":"private"}`)
	alice.put(path, object{}).ok()
	alice.get(path).is(`{"visibility":"public"}`) // as the specification has it
	r.join(bob)
	bob.put(path, object{"visibility": "private"}).fails(403, "M_FORBIDDEN")
	alice.put(path, object{"visibility": "maybe"}).fails(400, "M_INVALID_PARAM")
	alice.put(path, object{"visibility": 1}).fails(400, "M_BAD_JSON")
	alice.get("/directory/list/room/!unknown:example.org").fails(404, "M_NOT_FOUND")
	alice.put("/directory/list/room/!unknown:example.org", object{}).fails(404, "M_NOT_FOUND")
	alice.get("/directory/list/room/nonsense").fails(400, "M_INVALID_PARAM")
}
