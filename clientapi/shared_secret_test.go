package clientapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"testing"

	"github.com/myelin-chat/myelin/config"
)

const adminRegister = "/_synapse/admin/v1/register"

func macOf(text string) string {
	mac := hmac.New(sha1.New, []byte(sharedSecret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestRegisterWithSharedSecret(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.Registration = config.Closed })
	nonce := w.outcast.get(adminRegister).ok().str("nonce")
	in := object{
		"nonce": nonce, "username": "alice", "password": goodPassword, "admin": true, "displayname": "Alice",
		"mac": macOf(nonce + "\x00alice\x00" + goodPassword + "\x00admin"),
	}
	a := w.outcast.post(adminRegister, in).ok().has("@alice:example.org", "user_id").has("example.org", "home_server")
	alice := &client{w: w, token: a.str("access_token")}
	alice.get("/account/whoami").has(a.str("device_id"), "device_id")
	alice.get("/profile/@alice:example.org/displayname").is(`{"displayname":"Alice"}`)
	w.outcast.post(adminRegister, in).fails(400, "M_UNKNOWN") // a nonce is good once

	in["nonce"], in["username"] = w.outcast.get(adminRegister).str("nonce"), "bob"
	w.outcast.post(adminRegister, in).fails(403, "M_FORBIDDEN")
}

func TestSharedSecretIsOff(t *testing.T) {
	w := newWorld(t, func(c *config.Config) { c.RegistrationSharedSecret = "" })
	w.outcast.get(adminRegister).fails(400, "M_UNKNOWN")
	w.outcast.post(adminRegister, object{"mac": macOf("\x00\x00\x00notadmin")}).fails(400, "M_UNKNOWN")
}
