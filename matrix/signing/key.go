package signing

import (
	"crypto/ed25519"
	"io"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
)

// algorithm is the only one that servers sign with.
const algorithm = "ed25519"

const maxKeyIDBytes = 255

// KeyID names a signing key of a server: "ed25519:" and a version of the
// characters A-Z, a-z, 0-9 and "_".
//
// https://spec.matrix.org/v1.19/appendices/#cryptographic-key-representation
type KeyID string

// ParseKeyID checks s for the form of a server's signing key.
func ParseKeyID(s string) (KeyID, error) {
	version, ok := strings.CutPrefix(s, algorithm+":")
	if !ok || !validVersion(version) {
		return "", matrix.Errorf(matrix.InvalidParam, "not the ID of a signing key of a server")
	}
	return KeyID(s), nil
}

func validVersion(s string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
	return s != "" && len(s) <= maxKeyIDBytes-len(algorithm+":") && strings.Trim(s, allowed) == ""
}

// Version returns what follows the algorithm.
func (id KeyID) Version() string {
	_, version, _ := strings.Cut(string(id), ":")
	return version
}

// Key is an Ed25519 key that a server signs with. The zero value is no key.
type Key struct {
	id      KeyID
	private ed25519.PrivateKey
}

// NewKey makes the key of a seed.
func NewKey(id KeyID, seed []byte) (Key, error) {
	if _, err := ParseKeyID(string(id)); err != nil {
		return Key{}, err
	}
	if len(seed) != ed25519.SeedSize {
		return Key{}, matrix.Errorf(matrix.InvalidParam, "the seed of a signing key has %d bytes, not %d",
			len(seed), ed25519.SeedSize)
	}
	return Key{id: id, private: ed25519.NewKeyFromSeed(seed)}, nil
}

// Generate makes a key from random bytes, with a random version: the key that
// follows this one must have another.
func Generate(rand io.Reader) (Key, error) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789__" // 64
	var random [ed25519.SeedSize + 6]byte
	if _, err := io.ReadFull(rand, random[:]); err != nil {
		return Key{}, err
	}
	version := []byte("a_")
	for _, b := range random[ed25519.SeedSize:] {
		version = append(version, letters[b%64])
	}
	return NewKey(KeyID(algorithm+":"+string(version)), random[:ed25519.SeedSize])
}

// ID returns the ID under which the public key is published.
func (k Key) ID() KeyID { return k.id }

// Public returns the public key.
func (k Key) Public() ed25519.PublicKey {
	return k.private.Public().(ed25519.PublicKey)
}

// Sign returns the signature of msg, 64 bytes.
func (k Key) Sign(msg []byte) []byte { return ed25519.Sign(k.private, msg) }

// String returns the ID, so that a key that is printed by mistake stays secret.
func (k Key) String() string { return string(k.id) }

// GoString does the same for the format %#v.
func (k Key) GoString() string { return "signing.Key(" + string(k.id) + ")" }
