package clientapi

import (
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/storage/users"
)

var dummy = object{"type": "m.login.dummy"}

func TestRegister(t *testing.T) {
	w := newWorld(t)
	in := object{"username": "Alice", "password": goodPassword, "device_id": "PHONE"}
	session := w.outcast.post("/register", in).challenge("m.login.dummy")
	in["auth"] = object{"type": "m.login.dummy", "session": session}
	a := w.outcast.post("/register", in).ok().has("@alice:example.org", "user_id").has("PHONE", "device_id")
	(&client{w: w, token: a.str("access_token")}).get("/account/whoami").has("@alice:example.org", "user_id")
	w.outcast.post("/register", in).fails(400, "M_USER_IN_USE")
}

// Tests and bots complete the only stage in their first request.
func TestRegisterInOneRequest(t *testing.T) {
	w := newWorld(t)
	in := object{"username": "alice", "password": goodPassword, "auth": dummy}
	w.outcast.post("/_matrix/client/r0/register?kind=user", in).ok()
	w.outcast.post("/register", object{"password": goodPassword, "auth": dummy}).ok()
}

func TestRegisterWithoutLogin(t *testing.T) {
	w := newWorld(t)
	in := object{"username": "alice", "password": goodPassword, "auth": dummy, "inhibit_login": true}
	w.outcast.post("/register", in).is(`{"user_id":"@alice:example.org"}`)
}

func TestRegisterRefused(t *testing.T) {
	w := newWorld(t)
	w.register("taken")
	tests := []struct {
		name, query string
		body        any
		status      int
		code        string
	}{
		{"taken before authentication", "", object{"username": "taken", "password": "x"}, 400, "M_USER_IN_USE"},
		{"bad name", "", object{"username": "a b", "password": "x"}, 400, "M_INVALID_USERNAME"},
		{"no password", "", object{"username": "alice", "auth": dummy}, 400, "M_MISSING_PARAM"},
		{"unknown kind", "?kind=robot", object{"password": "x", "auth": dummy}, 400, "M_INVALID_PARAM"},
		{"password is a number", "", `{"password":1}`, 400, "M_BAD_JSON"},
	}
	for _, test := range tests {
		a := w.outcast.post("/register"+test.query, test.body)
		if a.status != test.status || a.at("errcode") != test.code {
			t.Errorf("%s: got %d %s, want %d %s", test.name, a.status, a.text, test.status, test.code)
		}
	}
}

func TestRegisterWhereRegistrationIsClosed(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Registration, c.Guests = config.Closed, false })
	w.outcast.post("/register", object{"username": "alice", "password": goodPassword}).fails(403, "M_FORBIDDEN")
	w.outcast.post("/register?kind=guest", object{}).fails(403, "M_GUEST_ACCESS_FORBIDDEN")
	w.outcast.get("/register/available?username=alice").fails(403, "M_FORBIDDEN")
	w.outcast.get("/_matrix/client/v1/register/m.login.registration_token/validity?token=x").fails(403, "M_FORBIDDEN")
}

func TestRegisterGuest(t *testing.T) {
	w := newWorld(t)
	in := object{"username": "alice", "password": 7, "auth": "none", "device_id": "MINE", "initial_device_display_name": "kiosk"}
	a := w.outcast.post("/register?kind=guest", in).ok()
	guest := &client{w: w, token: a.str("access_token")}
	guest.get("/account/whoami").has(true, "is_guest")
	guest.get("/devices").has("kiosk", "devices", "0", "display_name")
	if a.str("user_id") == "@alice:example.org" || a.str("device_id") == "MINE" {
		t.Errorf("got %s, want user and device ID chosen by the server", a.text)
	}
}

func TestRegisterWithToken(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Registration = config.WithToken })
	once := int64(1)
	_, err := w.accounts.AddRegistrationToken(t.Context(), users.RegistrationToken{Token: "friends", UsesAllowed: &once})
	w.must(err)
	const validity = "/_matrix/client/v1/register/m.login.registration_token/validity"
	w.outcast.get(validity + "?token=friends").is(`{"valid":true}`)
	w.outcast.get(validity + "?token=strangers").is(`{"valid":false}`)
	w.outcast.get(validity).fails(400, "M_MISSING_PARAM")

	in := object{"username": "alice", "password": goodPassword}
	session := w.outcast.post("/register", in).challenge("m.login.registration_token")
	in["auth"] = object{"type": "m.login.registration_token", "token": "strangers", "session": session}
	w.outcast.post("/register", in).has("M_UNAUTHORIZED", "errcode").challenge("m.login.registration_token")
	in["auth"] = object{"type": "m.login.registration_token", "token": "friends", "session": session}
	w.outcast.post("/register", in).ok().has("@alice:example.org", "user_id")
	w.outcast.get(validity + "?token=friends").is(`{"valid":false}`)
}

func TestAvailable(t *testing.T) {
	w := newWorld(t)
	w.register("taken")
	w.outcast.get("/register/available?username=alice").is(`{"available":true}`)
	w.outcast.get("/register/available?username=taken").fails(400, "M_USER_IN_USE")
	w.outcast.get("/register/available?username=a%20b").fails(400, "M_INVALID_USERNAME")
	w.outcast.get("/register/available").fails(400, "M_MISSING_PARAM")
}
