package clientapi

import "testing"

func TestOpenIDToken(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	const path = "/user/@alice:example.org/openid/request_token"
	alice.post(path, object{}).ok().has("Bearer", "token_type").has("example.org", "matrix_server_name").has(3600.0, "expires_in")
	bob.post(path, object{}).fails(403, "M_FORBIDDEN")
}
