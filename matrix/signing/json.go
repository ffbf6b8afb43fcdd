// Package signing signs and checks JSON objects with Ed25519, and keeps a
// server's signing key. Which key belongs to which server at what time is
// known elsewhere.
//
// https://spec.matrix.org/v1.19/appendices/#signing-json
package signing

import (
	"crypto/ed25519"
	"iter"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// SignJSON returns the canonical form of obj with a signature of s added. The
// members "signatures" and "unsigned" are not signed, and kept: signatures of
// others, and of other keys of s, stay.
func SignJSON(obj []byte, s matrix.ServerName, k Key) ([]byte, error) {
	obj, err := canonicalObject(obj, canonical.Strict)
	if err != nil {
		return nil, err
	}
	signature := EncodeBase64(k.Sign(message(obj)))
	return AddSignature(obj, s, k.ID(), signature)
}

// AddSignature returns the canonical object obj with a signature that was made
// of something else, as events do, whose signatures are of their redacted form.
func AddSignature(obj []byte, s matrix.ServerName, id KeyID, signature string) ([]byte, error) {
	all, err := objectOrEmpty(canonical.Get(obj, "signatures"))
	if err != nil {
		return nil, err
	}
	own, err := objectOrEmpty(canonical.Get(all, string(s)))
	if err != nil {
		return nil, err
	}
	own = canonical.AppendWith(nil, own, string(id), canonical.AppendString(nil, signature))
	all = canonical.AppendWith(nil, all, string(s), own)
	return canonical.AppendWith(make([]byte, 0, len(obj)+len(all)+len(`,"signatures":`)), obj, "signatures", all), nil
}

// VerifyJSON checks the signature of obj that s made with the key id. An error
// is a *matrix.Error with the code InvalidSignature, or of canonical JSON.
//
// Numbers and repeated keys are taken as in old room versions. Who reads obj
// after that should read its canonical form, which is what was signed.
func VerifyJSON(obj []byte, s matrix.ServerName, id KeyID, pub ed25519.PublicKey) error {
	obj, err := canonicalObject(obj, canonical.Lenient)
	if err != nil {
		return err
	}
	signature, ok := canonical.String(canonical.Get(obj, "signatures", string(s), string(id)))
	if !ok {
		return matrix.Errorf(matrix.InvalidSignature, "no signature of %s with the key %s", s, id)
	}
	return Verify(message(obj), signature, pub)
}

// Verify checks a signature in base64.
func Verify(msg []byte, signature string, pub ed25519.PublicKey) error {
	sig, err := DecodeBase64(signature)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return matrix.Errorf(matrix.InvalidSignature, "the signature is not %d bytes in base64", ed25519.SignatureSize)
	}
	if len(pub) != ed25519.PublicKeySize {
		return matrix.Errorf(matrix.InvalidSignature, "the public key has %d bytes, not %d",
			len(pub), ed25519.PublicKeySize)
	}
	if !ed25519.Verify(pub, msg, sig) {
		return matrix.Errorf(matrix.InvalidSignature, "the signature does not match")
	}
	return nil
}

// KeyIDs returns the keys with which s signed the canonical object obj, by its
// own account. Keys of other algorithms are left out.
func KeyIDs(obj []byte, s matrix.ServerName) iter.Seq[KeyID] {
	return func(yield func(KeyID) bool) {
		for name := range canonical.Fields(canonical.Get(obj, "signatures", string(s))) {
			if id, err := ParseKeyID(name); err == nil && !yield(id) {
				return
			}
		}
	}
}

// message returns the part of a canonical object that is signed.
func message(obj []byte) []byte {
	return canonical.AppendWithout(make([]byte, 0, len(obj)), obj, "signatures", "unsigned")
}

func canonicalObject(obj []byte, m canonical.Mode) ([]byte, error) {
	obj, err := canonical.JSON(obj, m)
	if err != nil {
		return nil, err
	}
	if obj[0] != '{' {
		return nil, matrix.Errorf(matrix.BadJSON, "only JSON objects are signed")
	}
	return obj, nil
}

func objectOrEmpty(raw []byte) ([]byte, error) {
	if raw == nil {
		return []byte("{}"), nil
	}
	if raw[0] != '{' {
		return nil, matrix.Errorf(matrix.BadJSON, "signatures must be an object of objects")
	}
	return raw, nil
}
