package clientapi

import (
	"strings"
	"testing"
	"time"
)

func TestDevices(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	path := "/devices/" + string(alice.device)
	alice.put(path, object{"display_name": "phone"}).is(`{}`)
	alice.put(path, object{}).is(`{}`) // nothing is said of the name, so it stays
	w.clock.advance(time.Hour)
	a := alice.get(path).ok().has("phone", "display_name").has(string(alice.device), "device_id").has("192.0.2.1", "last_seen_ip")
	a.has(float64(w.clock.Now().UnixMilli()), "last_seen_ts")
	list := alice.get("/devices").ok()
	list.has("phone", "devices", "0", "display_name").has(nil, "devices", "1")

	bob.get(path).fails(404, "M_NOT_FOUND")
	bob.put(path, object{"display_name": "mine"}).fails(404, "M_NOT_FOUND")
	bob.put(path, object{}).fails(404, "M_NOT_FOUND")
	alice.put(path, object{"display_name": strings.Repeat("x", 101)}).fails(400, "M_TOO_LARGE")
	alice.put(path, object{"display_name": 1}).fails(400, "M_BAD_JSON")
	alice.get("/devices/%ff%00").fails(404, "M_NOT_FOUND")
}

func TestDeleteDevice(t *testing.T) {
	w := newWorld(t)
	alice, other := w.register("alice"), w.login("alice")
	path := "/devices/" + string(other.device)
	session := alice.delete(path, nil).challenge("m.login.password")
	alice.delete(path, object{"auth": passwordAuth("alice", "wrong", session)}).has("M_FORBIDDEN", "errcode").
		challenge("m.login.password")
	other.get("/account/whoami").ok()
	alice.delete(path, object{"auth": passwordAuth("alice", goodPassword, session)}).is(`{}`)
	other.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
}

func TestDeleteDevices(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	one, two := w.login("alice"), w.login("alice")
	in := object{"devices": []string{string(one.device), string(two.device), string(bob.device), "NONE"}}
	session := alice.post("/delete_devices", in).challenge("m.login.password")

	// What was confirmed for these devices is not confirmed for others.
	others := object{"devices": []string{string(alice.device)}, "auth": passwordAuth("alice", goodPassword, session)}
	alice.post("/delete_devices", others).fails(403, "M_FORBIDDEN")

	in["auth"] = passwordAuth("alice", goodPassword, session)
	alice.post("/delete_devices", in).is(`{}`)
	for _, c := range []*client{one, two} {
		c.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
	}
	for _, c := range []*client{alice, bob} {
		c.get("/account/whoami").ok()
	}
	alice.post("/delete_devices", object{}).fails(400, "M_MISSING_PARAM")
}
