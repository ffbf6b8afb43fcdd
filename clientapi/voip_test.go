package clientapi

import (
	"testing"

	"github.com/myelin-chat/myelin/config"
)

func TestTURNServer(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.TURN = config.TURN{URIs: []string{"turn:turn.example.org"}, SharedSecret: "n0t s3cret", LifetimeSeconds: 3600}
	})
	// printf '1800003600:@alice:example.org' | openssl dgst -sha1 -hmac 'n0t s3cret' -binary | base64
	w.register("alice").get("/voip/turnServer").is(`{"uris":["turn:turn.example.org"],"ttl":3600,
		"username":"1800003600:@alice:example.org","password":"2phQuEGwi2WuPGXB1EJ1iPo+gN4="}`)
	w.guest().get("/voip/turnServer").fails(403, "M_GUEST_ACCESS_FORBIDDEN")
}

func TestTURNServerForEverybody(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		c.TURN = config.TURN{URIs: []string{"turn:turn.example.org"}, LifetimeSeconds: 60}
	})
	w.register("alice").get("/voip/turnServer").
		is(`{"uris":["turn:turn.example.org"],"ttl":60,"username":"","password":""}`)
}

func TestNoTURNServer(t *testing.T) {
	w := newWorld(t)
	alice := w.register("alice")
	if a := alice.get("/voip/turnServer"); a.text != "{}" {
		t.Errorf("got %s, want {}", a.text)
	}
}
