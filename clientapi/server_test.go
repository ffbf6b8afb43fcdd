package clientapi

import (
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
)

// SDKs refuse servers without one of v1.1 to v1.13, and use authenticated media with v1.11.
func TestVersions(t *testing.T) {
	w := newWorld(t)
	a := w.outcast.get("/_matrix/client/versions").ok()
	list, _ := a.at("versions").([]any)
	if !slices.Contains(list, any("v1.1")) || slices.Contains(list, any("v1.11")) {
		t.Errorf("versions: got %v, want v1.1 among them, and not v1.11: media are not there", list)
	}
	(&client{w: w, token: "expired"}).get("/_matrix/client/versions").ok()
}

func TestCapabilities(t *testing.T) {
	w := newWorld(t)
	a := w.register("alice").get("/capabilities").ok()
	a.has("12", "capabilities", "m.room_versions", "default")
	available, _ := a.at("capabilities", "m.room_versions", "available").(object)
	if got, want := len(available), len(event.Versions()); got != want {
		t.Errorf("room versions: got %d, want %d", got, want)
	}
	for name, want := range map[string]bool{
		"m.change_password": true, "m.set_displayname": true, "m.set_avatar_url": true, "m.profile_fields": true,
		"m.get_login_token": true, "m.3pid_changes": false,
	} {
		a.has(want, "capabilities", name, "enabled")
	}
	if got := a.at("capabilities", "m.room_versions", "available", "12"); got != "stable" {
		t.Errorf("room version 12: got %v, want stable", got)
	}
}

func TestDefaultRoomVersion(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.DefaultRoomVersion = "10" })
	w.register("alice").get("/capabilities").has("10", "capabilities", "m.room_versions", "default")
}

func TestWellKnown(t *testing.T) {
	w := newWorld(t)
	w.outcast.get("/.well-known/matrix/client").fails(404, "M_NOT_FOUND")
	w.outcast.get("/.well-known/matrix/server").fails(404, "M_NOT_FOUND")
	w = newWorld(t, func(c *config.Config) {
		c.WellKnown = config.WellKnown{Client: "https://matrix.example.org", Server: "matrix.example.org:443"}
	})
	w.outcast.get("/.well-known/matrix/client").is(`{"m.homeserver":{"base_url":"https://matrix.example.org"}}`)
	w.outcast.get("/.well-known/matrix/server").is(`{"m.server":"matrix.example.org:443"}`)
}

func TestThirdPartyProtocols(t *testing.T) {
	newWorld(t).register("alice").get("/thirdparty/protocols").is(`{}`)
}

func TestUnknownEndpoint(t *testing.T) {
	w := newWorld(t)
	w.outcast.get("/no/such/thing").fails(404, "M_UNRECOGNIZED")
	w.outcast.delete("/account/whoami", nil).fails(405, "M_UNRECOGNIZED")
}
