package storage

import (
	"strings"
	"unicode/utf8"
)

// PostgreSQL's TEXT takes neither NUL nor broken UTF-8, and SQLite's functions stop at NUL; both are legal
// in what we are sent ("\u0000" in a JSON string) or must at least not break a query. So these bytes and
// the escape byte itself are written as the escape byte and more. The mapping is injective, keeps the
// order of NUL and escape below all else, and leaves every other string as it is.
const escapeByte = '\x01'

const hexDigits = "0123456789abcdef"

// escapeText returns s as it is stored.
func escapeText(s string) string {
	if strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, escapeByte) < 0 && utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0:
			b = append(b, escapeByte, '0')
		case r == escapeByte:
			b = append(b, escapeByte, '1')
		case r == utf8.RuneError && n == 1:
			b = append(b, escapeByte, 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return string(b)
}

// unescapeText returns what escapeText was given.
func unescapeText(s string) string {
	if strings.IndexByte(s, escapeByte) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != escapeByte || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		switch {
		case s[i] == '0':
			b = append(b, 0)
		case s[i] == '1':
			b = append(b, escapeByte)
		case s[i] == 'x' && i+2 < len(s):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default: // not written by us
			b = append(b, escapeByte, s[i])
		}
	}
	return string(b)
}

// unhex is the value of a hexadecimal digit that was written by the escape.
func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
