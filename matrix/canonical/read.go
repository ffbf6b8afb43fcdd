package canonical

import (
	"bytes"
	"iter"
	"strconv"
)

// The readers below find their way in canonical JSON. On any other text they
// do not panic, but their answers mean nothing.

// Fields returns the members of an object: decoded key and raw value. The
// values are parts of obj.
func Fields(obj []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for c := membersOf(obj); c.next(); {
			if !yield(c.decodedKey(), c.value) {
				return
			}
		}
	}
}

// Elements returns the raw elements of an array. They are parts of arr.
func Elements(arr []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if len(arr) < 2 || arr[0] != '[' {
			return
		}
		for i := 1; i < len(arr) && arr[i] != ']'; {
			end := valueEnd(arr, i)
			if end <= i || !yield(arr[i:end:end]) {
				return
			}
			i = end
			if i < len(arr) && arr[i] == ',' {
				i++
			}
		}
	}
}

// Get returns the raw value that path leads to from obj through objects, or
// nil if there is none. It is a part of obj.
func Get(obj []byte, path ...string) []byte {
	for _, key := range path {
		if obj = get(obj, key); obj == nil {
			return nil
		}
	}
	return obj
}

func get(obj []byte, key string) []byte {
	if needsEscape(key) {
		// A key has only one canonical form, so the raw texts can be compared.
		quoted := AppendString(nil, key)
		key = string(quoted[1 : len(quoted)-1])
	}
	for c := membersOf(obj); c.next(); {
		if string(c.key) == key {
			return c.value
		}
	}
	return nil
}

func needsEscape(key string) bool {
	for i := range len(key) {
		if c := key[i]; c < ' ' || c == '"' || c == '\\' {
			return true
		}
	}
	return false
}

// String decodes a raw value that is a string.
func String(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	return unquote(raw[1 : len(raw)-1]), true
}

// Int decodes a raw value that is an integer.
func Int(raw []byte) (int64, bool) {
	if end, integer := numberEnd(raw, 0); end != len(raw) || !integer {
		return 0, false
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	return n, err == nil
}

// unquote decodes a string without its quotes.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	return string(appendUnescaped(make([]byte, 0, len(raw)), raw))
}

// A cursor stands on one member of an object after the other.
type cursor struct {
	text       []byte
	pos        int    // behind the member
	start      int    // of the member, at the key's quote
	key, value []byte // raw; the key without its quotes
}

func membersOf(obj []byte) cursor {
	if len(obj) == 0 || obj[0] != '{' {
		return cursor{}
	}
	return cursor{text: obj}
}

// next goes to the next member. The byte before it is "{" or ",".
func (c *cursor) next() bool {
	c.start = c.pos + 1
	if c.start >= len(c.text) || c.text[c.start] != '"' {
		return false
	}
	keyEnd := stringEnd(c.text, c.start)
	if keyEnd < 0 || keyEnd >= len(c.text) || c.text[keyEnd] != ':' {
		return false
	}
	end := valueEnd(c.text, keyEnd+1)
	if end <= keyEnd+1 {
		return false
	}
	c.key, c.value, c.pos = c.text[c.start+1:keyEnd-1], c.text[keyEnd+1:end:end], end
	return true
}

// decodedKey returns the key, without allocating if it is one of [usualKeys].
func (c *cursor) decodedKey() string {
	if key, ok := usualKeys[string(c.key)]; ok {
		return key
	}
	return unquote(c.key)
}

// member returns the raw member with its key.
func (c *cursor) member() []byte { return c.text[c.start:c.pos] }

// valueEnd returns where the value at b[i:] ends, -1 if it does not.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		return nestedEnd(b, i)
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

// nestedEnd returns where the object or array at b[i:] ends, -1 if it does not.
func nestedEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// stringEnd returns where the string at b[i:] ends, -1 if it does not.
func stringEnd(b []byte, i int) int {
	i++
	for {
		i = plainEnd(b, i)
		switch {
		case i >= len(b):
			return -1
		case b[i] == '"':
			return i + 1
		case b[i] == '\\':
			i += 2
		default:
			return -1
		}
	}
}

// usualKeys are the members of events and of what is signed beside them.
var usualKeys = intern(
	"age", "age_ts", "algorithms", "auth_events", "ban", "body", "ciphertext", "content", "depth",
	"device_id", "device_keys", "edus", "event_id", "events", "events_default", "format", "formatted_body", "hashes",
	"info", "invite", "keys", "kick", "membership", "method", "msgtype", "notifications", "old_verify_keys", "origin",
	"origin_server_ts", "pdus", "prev_events", "prev_state", "redact", "redacts", "room_id",
	"room_version", "sender", "server_name", "sha256", "signatures", "state_default", "state_key", "type",
	"unsigned", "uri", "url", "user_id", "users", "users_default", "valid_until_ts", "verify_keys",
)

func intern(keys ...string) map[string]string {
	m := make(map[string]string, len(keys))
	for _, key := range keys {
		m[key] = key
	}
	return m
}
