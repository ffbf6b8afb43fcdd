package clientapi

import (
	"strings"
	"testing"
	"time"
)

const alicePresence = "/presence/@alice:example.org/status"

func TestPresence(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	w.room(alice, bob)
	bob.get(alicePresence).is(`{"presence":"offline"}`)
	alice.put(alicePresence, object{"presence": "online", "status_msg": "here"}).is(`{}`)
	w.clock.advance(3 * time.Second)
	want := `{"presence":"online","status_msg":"here","last_active_ago":3000,"currently_active":true}`
	alice.get(alicePresence).is(want)
	bob.get(alicePresence).is(want)
	alice.put(alicePresence, object{"presence": "unavailable", "status_msg": nil}).is(`{}`)
	bob.get(alicePresence).is(`{"presence":"unavailable","last_active_ago":3000}`)
}

func TestPresenceRefused(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	alice.put(alicePresence, object{"presence": "online"}).is(`{}`)
	w.room(alice)
	w.room(bob)
	bob.get(alicePresence).fails(403, "M_FORBIDDEN")
	bob.get("/presence/@nobody:example.org/status").fails(403, "M_FORBIDDEN")
	bob.get("/presence/alice/status").fails(400, "M_INVALID_PARAM")
	bob.put(alicePresence, object{"presence": "offline"}).fails(403, "M_FORBIDDEN")
	alice.put(alicePresence, object{}).fails(400, "M_MISSING_PARAM")
	alice.put(alicePresence, object{"presence": "asleep"}).fails(400, "M_INVALID_PARAM")
	alice.put(alicePresence, object{"presence": "online", "status_msg": strings.Repeat("x", 2000)}).fails(413, "M_TOO_LARGE")
}

// Who has left a room shares it no more.
func TestPresenceAfterLeaving(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	room := w.room(alice, bob)
	bob.get(alicePresence).ok()
	w.must(w.rooms.Leave(t.Context(), bob.who(), room, ""))
	bob.get(alicePresence).fails(403, "M_FORBIDDEN")
}
