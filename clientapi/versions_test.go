package clientapi

import (
	"slices"
	"testing"
)

// SDKs refuse servers without one of these.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions
func TestVersions(t *testing.T) {
	w := newWorld(t)
	a := w.outcast.get("/_matrix/client/versions").ok()
	list, _ := a.at("versions").([]any)
	if !slices.Contains(list, any("v1.1")) {
		t.Errorf("versions: got %v, want v1.1 among them", list)
	}
	if slices.Contains(list, any("v1.11")) {
		t.Errorf("versions: got %v, but authenticated media are not there", list)
	}
}

func TestWhoami(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	alice.get("/account/whoami").is(`{"user_id":"@alice:example.org","device_id":"` + string(alice.device) + `","is_guest":false}`)
	alice.get("/_matrix/client/r0/account/whoami").has("@alice:example.org", "user_id")
	w.guest().get("/account/whoami").has(true, "is_guest")
	w.outcast.get("/account/whoami").fails(401, "M_MISSING_TOKEN")
}
