// Package canonical makes and reads canonical JSON: the one text of a value
// that all servers agree on, and so the text that is hashed and signed.
//
// [Append] takes any JSON from outside, checks it and writes its canonical
// form in one pass. The readers ([Get], [Fields], ...) take only what came
// from there, and find their way in it without decoding it. Hashing and
// reading thus see the same text, there is no second parser to disagree with.
//
// https://spec.matrix.org/v1.19/appendices/#canonical-json
package canonical

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Mode says how much is accepted.
type Mode uint8

const (
	// Strict accepts what has a canonical form in the specification's sense:
	// integers between -(2^53)+1 and 2^53-1 without "-0", no key twice. Room
	// versions from 6 on demand it, and all JSON of our own keeps to it.
	Strict Mode = iota
	// Lenient also accepts what room versions 1 to 5 let into their events:
	// floats and large integers, which come out as Python's json module
	// writes them because the hashes of those events were made by it, and
	// repeated keys, of which the last counts.
	Lenient
)

const (
	// maxDepth is how deep arrays and objects may nest in Strict mode. Nothing
	// in the protocol nests by more than ten; a bound below those of the
	// decoders that other servers and clients use (128 in Rust's serde_json)
	// keeps out what some of them could not read.
	maxDepth = 100
	// maxLenientDepth is the bound of Python's json module. It is that high
	// since a whole transaction is canonicalised to check its signature, and a
	// single deep event in it must fail alone.
	maxLenientDepth = 1000
	// maxBytes keeps offsets within 32 bits, with room for numbers that grow.
	maxBytes = 1 << 28
)

// JSON returns the canonical form of src.
func JSON(src []byte, m Mode) ([]byte, error) {
	return Append(nil, src, m)
}

// Append appends the canonical form of src to dst. On an error, which is a
// *matrix.Error with the code NotJSON, BadJSON or TooLarge, it returns dst as it
// was. The spare room of dst must not overlap src.
func Append(dst, src []byte, m Mode) ([]byte, error) {
	return appendCanonical(dst, src, m)
}

// Marshal encodes v by the rules of encoding/json as canonical JSON. Strings
// of v that are not valid UTF-8 are repaired on the way, as encoding/json does.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode as JSON: %w", err)
	}
	return JSON(buf.Bytes(), Strict)
}
