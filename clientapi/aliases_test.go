package clientapi

import (
	"net/url"
	"testing"
)

func TestAliases(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	alias := "#老虎Â£я🤨👉ඞ:example.org"
	path := "/directory/room/" + url.PathEscape(alias)
	bob.get(path).fails(404, "M_NOT_FOUND")
	bob.put(path, object{"room_id": r.id}).fails(403, "M_FORBIDDEN") // not in it
	alice.put(path, object{"room_id": r.id}).is(`{}`)
	w.outcast.get(path).is(`{"room_id":"` + r.id + `","servers":["example.org"]}`)
	alice.get(r.path + "/aliases").is(`{"aliases":["` + alias + `"]}`)
	r.join(bob)
	bob.get(r.path + "/aliases").is(`{"aliases":["` + alias + `"]}`)
	alice.put(path, object{"room_id": alice.newRoom(object{}).id}).fails(409, "M_UNKNOWN")
	bob.delete(path, nil).fails(403, "M_FORBIDDEN")
	alice.delete(path, nil).is(`{}`)
	alice.delete(path, nil).fails(404, "M_NOT_FOUND")
	alice.get(path).fails(404, "M_NOT_FOUND")
}

func TestAliasRefusals(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(publicChat)
	for _, path := range []string{"nonsense", "%23nonsense", "%23:example.org", "%23a%00b:example.org"} {
		alice.get("/directory/room/"+path).fails(400, "M_INVALID_PARAM")
		alice.put("/directory/room/"+path, object{"room_id": r.id}).fails(400, "M_INVALID_PARAM")
		alice.delete("/directory/room/"+path, nil).fails(400, "M_INVALID_PARAM")
	}
	alice.get("/directory/room/%23pub:elsewhere.org").fails(404, "M_NOT_FOUND")
	alice.put("/directory/room/%23pub:elsewhere.org", object{"room_id": r.id}).fails(400, "M_INVALID_PARAM")
	alice.put("/directory/room/%23pub:example.org", object{}).fails(400, "M_MISSING_PARAM")
	alice.put("/directory/room/%23pub:example.org", object{"room_id": "x"}).fails(400, "M_INVALID_PARAM")
	alice.put("/directory/room/%23pub:example.org", object{"room_id": 1}).fails(400, "M_BAD_JSON")
	w.guest().put("/directory/room/%23pub:example.org", object{"room_id": r.id}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
}

// An alias that is deleted goes from the state too, where its deleter has the power.
func TestDeletedCanonicalAlias(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	r := alice.newRoom(object{"room_alias_name": "pub"})
	alice.delete("/directory/room/%23pub:example.org", nil).ok()
	alice.get(r.path + "/state/m.room.canonical_alias").is(`{}`)
	alice.put(r.path+"/state/m.room.canonical_alias", object{"alias": "#pub:example.org"}).fails(400, "M_BAD_ALIAS")
}
