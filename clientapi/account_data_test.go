package clientapi

import (
	"testing"
)

func TestAccountData(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	room := string(w.room(alice))
	for _, path := range []string{
		"/user/@alice:example.org/account_data/",
		"/user/@alice:example.org/rooms/" + room + "/account_data/",
	} {
		alice.get(path+"org.example.x").fails(404, "M_NOT_FOUND")
		alice.put(path+"org.example.x", `{"order":0.5,"list":[null]}`).is(`{}`)
		alice.get(path + "org.example.x").is(`{"order":0.5,"list":[null]}`)
		alice.put(path+"org.example.x", `{}`).is(`{}`)
		alice.get(path + "org.example.x").is(`{}`)
		alice.put(path+"org.example%2Fy", `{"a":1}`).is(`{}`)
		alice.get(path + "org.example%2Fy").is(`{"a":1}`)

		alice.put(path+"org.example.x", `[]`).fails(400, "M_BAD_JSON")
		alice.put(path+"org.example.x", `{`).fails(400, "M_NOT_JSON")
		alice.put(path+"org.example.x", nil).fails(400, "M_NOT_JSON")
		alice.put(path+"m.fully_read", `{}`).fails(405, "M_BAD_JSON")
		alice.put(path+"m.push_rules", `{}`).fails(405, "M_BAD_JSON")
		alice.put(path+"%ff", `{}`).fails(400, "M_INVALID_PARAM")
		bob.get(path+"org.example.x").fails(403, "M_FORBIDDEN")
		bob.put(path+"org.example.x", `{}`).fails(403, "M_FORBIDDEN")
	}
	alice.put("/user/@alice:example.org/account_data/org.example.x", `{"where":"everywhere"}`).is(`{}`)
	alice.get("/user/@alice:example.org/rooms/" + room + "/account_data/org.example.x").is(`{}`)
	alice.get("/user/@alice:example.org/rooms/nowhere/account_data/x").fails(400, "M_INVALID_PARAM")
	alice.put("/user/@alice:example.org/rooms/nowhere/account_data/x", `{}`).fails(400, "M_INVALID_PARAM")
	alice.get("/user/@alice:example.org/account_data/m.push_rules").ok().
		has(".m.rule.master", "global", "override", "0", "rule_id")
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	const path = "/user/@alice:example.org/filter"
	filter := `{"room":{"timeline":{"limit":10,"types":["m.room.*"]}},"event_fields":["content"]}`
	id := alice.post(path, filter).ok().str("filter_id")
	alice.get(path + "/" + id).is(filter)
	alice.post(path, filter).has(id, "filter_id")

	alice.get(path+"/other").fails(404, "M_NOT_FOUND")
	bob.get(path+"/"+id).fails(403, "M_FORBIDDEN")
	bob.post(path, filter).fails(403, "M_FORBIDDEN")
	bob.get("/user/@bob:example.org/filter/"+id).fails(404, "M_NOT_FOUND")
	alice.post(path, `{"room":{"timeline":{"limit":"ten"}}}`).fails(400, "M_BAD_JSON")
	alice.post(path, `{"event_format":"morse"}`).fails(400, "M_BAD_JSON")
	alice.post(path, `[]`).fails(400, "M_BAD_JSON")
	alice.post(path, `null`).fails(400, "M_BAD_JSON")
	alice.post(path, `{`).fails(400, "M_NOT_JSON")
}
