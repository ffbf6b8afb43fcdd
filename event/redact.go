package event

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// RedactedJSON returns what the redaction algorithm of the room version leaves
// of the event, canonical, with hashes and signatures.
// https://spec.matrix.org/v1.19/client-server-api/#redactions
func (e *Event) RedactedJSON() []byte {
	return e.Version.Redaction.append(make([]byte, 0, len(e.JSON)), e.Type, e.JSON, true)
}

// ReferenceHash is the hash of the essential parts of the event, from which
// versions 3 and later form its ID, and which versions 1 and 2 write beside
// the ID in prev_events and auth_events.
// https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event
func (e *Event) ReferenceHash() [sha256.Size]byte {
	return sha256.Sum256(e.essence())
}

// essence is the redacted form without signatures: what is signed, and what
// the reference hash covers.
func (e *Event) essence() []byte {
	return e.Version.Redaction.append(make([]byte, 0, len(e.JSON)), e.Type, e.JSON, false)
}

// append appends the redacted form of the canonical event obj of type typ to
// dst, with or without its signatures.
func (r *Redaction) append(dst []byte, typ string, obj []byte, signatures bool) []byte {
	dst = append(dst, '{')
	for key, raw := range canonical.Fields(obj) {
		switch {
		case !r.top[key], key == "signatures" && !signatures:
		case key == "content":
			dst = appendKey(dst, key)
			dst = r.appendContent(dst, typ, raw)
		default:
			dst = appendMember(dst, key, raw)
		}
	}
	return append(dst, '}')
}

// appendContent appends what is left of the content of an event of type typ.
func (r *Redaction) appendContent(dst []byte, typ string, content []byte) []byte {
	if r.whole[typ] {
		return append(dst, content...)
	}
	keep, nested := r.content[typ], r.nested[typ]
	dst = append(dst, '{')
	if len(keep) > 0 || len(nested) > 0 {
		for key, raw := range canonical.Fields(content) {
			if keep[key] {
				dst = appendMember(dst, key, raw)
			} else if inner, ok := nested[key]; ok && isObject(raw) {
				dst = appendNested(dst, key, inner, raw)
			}
		}
	}
	return append(dst, '}')
}

// appendNested appends the member key with only its own member inner. Without
// that it stays as an empty object: the specification does not say, Synapse
// does so, and event IDs hang on it.
func appendNested(dst []byte, key, inner string, obj []byte) []byte {
	dst = append(appendKey(dst, key), '{')
	if raw := canonical.Get(obj, inner); raw != nil {
		dst = appendMember(dst, inner, raw)
	}
	return append(dst, '}')
}

// appendMember appends one member to the object that dst ends with, unclosed.
func appendMember(dst []byte, key string, raw []byte) []byte {
	return append(appendKey(dst, key), raw...)
}

// appendKey appends a key, and the comma before it where one is needed.
func appendKey(dst []byte, key string) []byte {
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	return append(canonical.AppendString(dst, key), ':')
}

// contentHash covers the whole event but what changes on its way.
// https://spec.matrix.org/v1.19/server-server-api/#calculating-the-content-hash-for-an-event
func contentHash(obj []byte) [sha256.Size]byte {
	return sha256.Sum256(canonical.AppendWithout(make([]byte, 0, len(obj)), obj, "hashes", "signatures", "unsigned"))
}

// idOf forms the event ID from the reference hash, in versions where it is one.
func (v *Version) idOf(hash [sha256.Size]byte) matrix.EventID {
	var id [1 + 43]byte
	id[0] = '$'
	if v.EventIDs == HashEventIDs {
		base64.RawStdEncoding.Encode(id[1:], hash[:])
	} else {
		base64.RawURLEncoding.Encode(id[1:], hash[:])
	}
	return matrix.EventID(id[:])
}

// roomIDOf forms the room ID from the ID of the create event, in versions
// where it is that.
func roomIDOf(create matrix.EventID) matrix.RoomID {
	return matrix.RoomID("!" + string(create[1:]))
}

func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }
