package canonical

import "bytes"

// AppendWith appends the canonical object obj with the member key set to raw,
// which is canonical too. A member of that name is replaced.
func AppendWith(dst, obj []byte, key string, raw []byte) []byte {
	var buf [64]byte
	quoted := AppendString(buf[:0], key)
	inner := quoted[1 : len(quoted)-1]
	escaped := needsEscape(key)
	set := func(dst []byte, separator byte) []byte {
		dst = append(dst, separator)
		dst = append(dst, quoted...)
		dst = append(dst, ':')
		return append(dst, raw...)
	}
	separator, done := byte('{'), false
	for c := membersOf(obj); c.next(); separator = ',' {
		order := -1
		if !done {
			order = compareRaw(c.key, inner, escaped)
		}
		if order >= 0 {
			dst, separator, done = set(dst, separator), ',', true
		}
		if order != 0 {
			dst = append(append(dst, separator), c.member()...)
		}
	}
	if !done {
		dst = set(dst, separator)
	}
	return append(dst, '}')
}

// compareRaw compares a raw key of an object with another, which is known to
// have escapes or not.
func compareRaw(a, b []byte, escaped bool) int {
	if !escaped && bytes.IndexByte(a, '\\') < 0 {
		return bytes.Compare(a, b)
	}
	return compareEscaped(a, b)
}

// AppendWithout appends the canonical object obj without the members named.
// The names must be such as need no escapes.
func AppendWithout(dst, obj []byte, names ...string) []byte {
	separator := byte('{')
	for c := membersOf(obj); c.next(); {
		if contains(names, c.key) {
			continue
		}
		dst = append(append(dst, separator), c.member()...)
		separator = ','
	}
	if separator == '{' {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

func contains(names []string, key []byte) bool {
	for _, name := range names {
		if string(key) == name {
			return true
		}
	}
	return false
}
