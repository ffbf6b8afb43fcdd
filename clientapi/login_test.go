package clientapi

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// passwordLogin is a request to log in with a password.
func passwordLogin(user, password string) object {
	return object{
		"type": "m.login.password", "password": password, "identifier": object{"type": "m.id.user", "user": user},
	}
}

// passwordAuth answers the password stage of a challenge.
func passwordAuth(user, password, session string) object {
	return object{
		"type": "m.login.password", "password": password, "session": session,
		"identifier": object{"type": "m.id.user", "user": user},
	}
}

func TestLoginFlows(t *testing.T) {
	w := newWorld(t)
	flows := `{"flows":[{"type":"m.login.password"},{"type":"m.login.token","get_login_token":true}]}`
	w.outcast.get("/login").is(flows)
	w.outcast.get("/_matrix/client/r0/login").is(flows)
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	for _, user := range []string{"alice", "@alice:example.org", "Alice"} {
		in := passwordLogin(user, goodPassword)
		in["device_id"], in["initial_device_display_name"] = "PHONE", "my phone"
		a := w.outcast.post("/login", in).ok().has("@alice:example.org", "user_id").has("PHONE", "device_id")
		if _, told := a.json.(object)["well_known"]; told {
			t.Errorf("got %s, want no well_known where none is configured", a.text)
		}
		phone := &client{w: w, token: a.str("access_token")}
		phone.get("/account/whoami").has("PHONE", "device_id")
		phone.get("/devices/PHONE").has("my phone", "display_name")
	}
	w.outcast.post("/login", object{"type": "m.login.password", "user": "alice", "password": goodPassword}).ok()
}

func TestLoginTellsWhereTheServerIs(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.WellKnown.Client = "https://matrix.example.org" })
	w.register("alice")
	w.outcast.post("/login", passwordLogin("alice", goodPassword)).ok().
		has("https://matrix.example.org", "well_known", "m.homeserver", "base_url")
}

func TestLoginRefused(t *testing.T) {
	w := newWorld(t)
	w.register("alice")
	tests := []struct {
		name   string
		body   any
		status int
		code   string
	}{
		{"wrong password", passwordLogin("alice", "wrong"), 403, "M_FORBIDDEN"},
		{"unknown user", passwordLogin("nobody", goodPassword), 403, "M_FORBIDDEN"},
		{"user of another server", passwordLogin("@alice:elsewhere.org", goodPassword), 403, "M_FORBIDDEN"},
		{"no type", object{"user": "alice"}, 400, "M_MISSING_PARAM"},
		{"unknown type", object{"type": "m.login.magic"}, 400, "M_UNKNOWN"},
		{"no identifier", object{"type": "m.login.password", "password": goodPassword}, 400, "M_MISSING_PARAM"},
		{"identifier is a text", object{"type": "m.login.password", "identifier": "alice"}, 400, "M_BAD_JSON"},
		{"wrong token", object{"type": "m.login.token", "token": "x"}, 403, "M_FORBIDDEN"},
		{"not JSON", "{", 400, "M_NOT_JSON"},
		{"not an object", "[]", 400, "M_BAD_JSON"},
		{"password is a number", `{"type":"m.login.password","password":1}`, 400, "M_BAD_JSON"},
	}
	for _, test := range tests {
		a := w.outcast.post("/login", test.body)
		if a.status != test.status || a.at("errcode") != test.code {
			t.Errorf("%s: got %d %s, want %d %s", test.name, a.status, a.text, test.status, test.code)
		}
	}
}

// Who has many addresses still has few tries at one account, however the name is written.
func TestLoginsIntoOneAccountAreLimited(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.RateLimits.Enabled, c.RateLimits.Login = true, config.Limit{PerSecond: 0.1, Burst: 3}
	})
	w.register("alice")
	addresses := []string{"192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.2.200"}
	names := []string{"alice", "ALICE", "@alice:example.org", "alice"}
	for i, address := range addresses {
		from := &client{w: w, address: address}
		a := from.post("/login", passwordLogin(names[i], "guess"))
		if want := 403; i < 3 && a.status != want {
			t.Errorf("try %d: got %d %s, want %d", i+1, a.status, a.text, want)
		}
		if i == 3 {
			a.fails(429, "M_LIMIT_EXCEEDED").has(float64(10_000), "retry_after_ms")
		}
	}
	(&client{w: w, address: "192.0.2.99"}).post("/login", passwordLogin("bob", "guess")).fails(403, "M_FORBIDDEN")
	w.clock.advance(10 * time.Second)
	(&client{w: w, address: "192.0.2.99"}).post("/login", passwordLogin("alice", goodPassword)).ok()
}

func TestLoginToken(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	const path = "/_matrix/client/v1/login/get_token"
	session := alice.post(path, object{}).challenge("m.login.password")
	alice.post(path, object{"auth": passwordAuth("alice", "wrong", session)}).has("M_FORBIDDEN", "errcode").
		challenge("m.login.password")
	a := alice.post(path, object{"auth": passwordAuth("alice", goodPassword, session)}).ok().has(120_000.0, "expires_in_ms")
	login := object{"type": "m.login.token", "token": a.str("login_token")}
	w.outcast.post("/login", login).ok().has("@alice:example.org", "user_id")
	w.outcast.post("/login", login).fails(403, "M_FORBIDDEN")
}

func TestLogout(t *testing.T) {
	w := newWorld(t)
	phone, laptop := w.register("alice"), w.login("alice")
	phone.post("/logout", nil).is(`{}`)
	phone.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN").has(false, "soft_logout")
	laptop.get("/devices").has(nil, "devices", "1").has(string(laptop.device), "devices", "0", "device_id")
	tablet := w.login("alice")
	laptop.post("/logout/all", nil).is(`{}`)
	for _, c := range []*client{laptop, tablet} {
		c.get("/account/whoami").fails(401, "M_UNKNOWN_TOKEN")
	}
}

// Whatever stands in a request, the name under which tries are counted is short, and the same for an account however
// it is written.
func FuzzLoginAccount(f *testing.F) {
	f.Add("alice", "@alice:example.org", `{"type":"m.id.user","user":"Alice"}`)
	f.Add(strings.Repeat("x", 1000), "", "[]")
	f.Fuzz(func(t *testing.T, localpart, user, identifier string) {
		in := &loginRequest{User: user, Identifier: json.RawMessage(identifier)}
		if got, most := len(in.account("example.org")), len("login ")+3*matrix.MaxIDBytes; got > most {
			t.Errorf("got a name of %d bytes, want at most %d", got, most)
		}
		if _, err := matrix.NewUserID(localpart, "Example.org"); err != nil {
			return
		}
		part, whole := &loginRequest{User: localpart}, &loginRequest{User: "@" + strings.ToUpper(localpart) + ":Example.org"}
		if got, want := whole.account("Example.org"), part.account("Example.org"); got != want {
			t.Errorf("%s: got %q, want %q as for %s", whole.User, got, want, localpart)
		}
	})
}
