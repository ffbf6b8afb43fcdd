package signing

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/myelin-chat/myelin/matrix/canonical"
)

func fuzzKey(f *testing.F) Key {
	f.Helper()
	key, err := NewKey("ed25519:1", make([]byte, ed25519.SeedSize))
	if err != nil {
		f.Fatal(err)
	}
	return key
}

// FuzzKeyFile checks that a key that was read can be written and read again.
func FuzzKeyFile(f *testing.F) {
	f.Add("ed25519 a_x YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0\n")
	f.Add("\n ed25519\ta  AAAA=")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := parseKeyFile(text)
		if err != nil {
			return
		}
		again, err := parseKeyFile(algorithm + " " + key.ID().Version() + " " + EncodeBase64(key.private.Seed()))
		if err != nil || again.ID() != key.ID() || !bytes.Equal(again.private, key.private) {
			t.Errorf("%q: got %v, %v when read again, want %v", text, again, err, key)
		}
	})
}

// FuzzSignJSON checks that what could be signed verifies, and that nothing
// else of it changed.
func FuzzSignJSON(f *testing.F) {
	key := fuzzKey(f)
	for _, text := range []string{
		`{}`, `{"signatures":{"a":{"ed25519:1":"x"}},"unsigned":{}}`, `{"signatures":{"a":[]}}`, `{"t":1,"signatures":{"\u0000":1}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if VerifyJSON(src, "a", "ed25519:1", key.Public()) == nil {
			t.Skip("signed already")
		}
		signed, err := SignJSON(src, "a", key)
		if err != nil {
			return
		}
		if err := VerifyJSON(signed, "a", key.ID(), key.Public()); err != nil {
			t.Errorf("%s: got %s, which does not verify: %v", src, signed, err)
		}
		if again, err := canonical.JSON(signed, canonical.Strict); err != nil || !bytes.Equal(again, signed) {
			t.Errorf("%s: got %s, which is not canonical", src, signed)
		}
		before, err := canonical.JSON(src, canonical.Strict)
		if err != nil || !bytes.Equal(message(before), message(signed)) {
			t.Errorf("%s: got %s, in which more than the signatures changed", src, signed)
		}
	})
}
