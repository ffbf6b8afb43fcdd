package accounts

import (
	"encoding/hex"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// signed fills in nonce and MAC.
func (w *world) signed(in SharedSecretRegistration) SharedSecretRegistration {
	w.t.Helper()
	nonce, err := w.RegistrationNonce()
	if err != nil {
		w.t.Fatal(err)
	}
	in.Nonce = nonce
	in.MAC = hex.EncodeToString(in.mac("complement"))
	return in
}

// The values come from Python's hmac module.
func TestSharedSecretMAC(t *testing.T) {
	for _, c := range []struct {
		in   SharedSecretRegistration
		want string
	}{
		{SharedSecretRegistration{Nonce: "thisisanonce", Username: "pepper_roni", Password: "pizza", Admin: true},
			"48715842ad67d5dc9a9ee938a3bda4fcfae8d7c7"},
		{SharedSecretRegistration{Nonce: "n", Username: "u", Password: "p"}, "ad25959bcaeaf5451f45b156921dfc707761b218"},
		{SharedSecretRegistration{Nonce: "n", Username: "u", Password: "p", UserType: "bot"}, "d0f5147dbf5ac25e9a473a68865b9cb42f7901a4"},
	} {
		if got := hex.EncodeToString(c.in.mac("shared_secret")); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestRegisterWithSharedSecret(t *testing.T) {
	each(t, func(w *world) {
		s, err := w.RegisterWithSharedSecret(w.ctx, w.signed(SharedSecretRegistration{
			Username: "Alice", Password: goodPassword, Admin: true, DisplayName: "Alice A.", UserType: "support",
		}))
		if err != nil {
			w.t.Fatal(err)
		}
		if who := w.who(s); !who.Admin || who.Account != "@alice:example.org" {
			w.t.Errorf("got %+v, want alice, an admin", who)
		}
		if name, err := w.ProfileField(w.ctx, s.User, DisplayName); string(name) != `"Alice A."` || err != nil {
			w.t.Errorf("display name: got %s, %v", name, err)
		}
		if u, err := w.User(w.ctx, s.User); err != nil || u.Type != "support" {
			w.t.Errorf("user: got %+v, %v, want type support", u, err)
		}
		s, err = w.RegisterWithSharedSecret(w.ctx, w.signed(SharedSecretRegistration{Username: "bob", Password: goodPassword}))
		if err != nil || w.who(s).Admin {
			w.t.Errorf("bob: got %v, want an account without privileges", err)
		}
	}, withRegistration(config.Closed))
}

func TestSharedSecretRefusals(t *testing.T) {
	w := onSQLite(t)
	w.register("alice")
	try := func(what string, in SharedSecretRegistration, want matrix.ErrorCode) {
		t.Helper()
		_, err := w.RegisterWithSharedSecret(w.ctx, in)
		wantCode(t, what, err, want)
	}
	bob := SharedSecretRegistration{Username: "bob", Password: goodPassword}

	in := w.signed(bob)
	in.Admin = true
	try("admin although the MAC says no", in, matrix.Forbidden)
	in.Admin = false
	try("the nonce of a failed try", in, matrix.Unknown)
	in = w.signed(bob)
	in.MAC = "xyz"
	try("MAC that is not hexadecimal", in, matrix.InvalidParam)
	in = w.signed(bob)
	in.MAC = ""
	try("no MAC", in, matrix.Forbidden)
	in = w.signed(bob)
	w.clock.Advance(nonceLife)
	try("late", in, matrix.Unknown)
	// With NUL inside, "b" with password "x\0admin" would have the MAC of another request.
	try("NUL", w.signed(SharedSecretRegistration{Username: "b", Password: "x\x00admin"}), matrix.InvalidParam)
	try("taken", w.signed(SharedSecretRegistration{Username: "alice", Password: goodPassword}), matrix.UserInUse)
	try("symbols", w.signed(SharedSecretRegistration{Username: "al!ce", Password: goodPassword}), matrix.InvalidUsername)
	try("no password", w.signed(SharedSecretRegistration{Username: "bob"}), matrix.MissingParam)
	try("type", w.signed(SharedSecretRegistration{Username: "bob", Password: "x", UserType: "king"}), matrix.InvalidParam)
	long := SharedSecretRegistration{Username: "bob", Password: "x", DisplayName: string(make([]byte, 300))}
	try("display name", w.signed(long), matrix.InvalidParam)
	in = w.signed(bob)
	try("right", in, "")
	in.Username = "carol"
	try("the nonce again", in, matrix.Unknown)
	if len(w.nonces.entries) > maxNonces {
		t.Errorf("nonces: got %d, want at most %d", len(w.nonces.entries), maxNonces)
	}
}

func TestNoncesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for range maxNonces + 10 {
		w.signed(SharedSecretRegistration{})
	}
	if n := len(w.nonces.entries); n != maxNonces {
		t.Errorf("nonces: got %d, want %d", n, maxNonces)
	}
}

func TestWithoutASharedSecret(t *testing.T) {
	w := newWorld(t, nil, func(s *Settings) { s.SharedSecret = "" })
	_, err := w.RegistrationNonce()
	wantCode(t, "nonce", err, matrix.Unknown)
	in := SharedSecretRegistration{Username: "alice", Password: "x"}
	in.MAC = hex.EncodeToString(in.mac(""))
	_, err = w.RegisterWithSharedSecret(t.Context(), in)
	wantCode(t, "register with an empty secret", err, matrix.Unknown)
}
