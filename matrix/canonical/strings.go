package canonical

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
)

const hexDigits = "0123456789abcdef"

// validUTF8 refuses a text that is not UTF-8, so that nothing later has to
// look at the bytes of a character.
func validUTF8(src []byte) error {
	if !utf8.Valid(src) {
		return matrix.Errorf(matrix.NotJSON, "not JSON: the text is not UTF-8")
	}
	return nil
}

// plainEnd returns the index of the first byte from i on that may not stand
// for itself in a string, or len(b): a quote, a backslash or a control
// character. It looks at eight bytes at a time.
func plainEnd(b []byte, i int) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^('"'*ones), x^('\\'*ones)
		// A byte below n borrows into its high bit, and a borrow only spoils
		// the bytes behind it: the first hit is always a true one.
		hits := ((x-' '*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return i
}

// string passes over a string and reports whether it has escapes.
func (s *scanner) string() (escaped bool, err error) {
	s.pos++
	for {
		s.pos = plainEnd(s.src, s.pos)
		switch s.peek() {
		case '"':
			s.pos++
			return escaped, nil
		case '\\':
			escaped = true
			if err := s.escape(); err != nil {
				return false, err
			}
		default:
			return false, s.unexpected()
		}
	}
}

// escape passes over one escape and brings it into its shortest form.
func (s *scanner) escape() error {
	if s.pos+1 >= len(s.src) {
		s.pos++
		return s.unexpected()
	}
	switch s.src[s.pos+1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case '/':
		s.replace(2, []byte{'/'})
		return nil
	case 'u':
		return s.unicodeEscape()
	default:
		s.pos++
		return s.unexpected()
	}
}

func (s *scanner) unicodeEscape() error {
	r, n := decodeUnicode(s.src[s.pos:])
	if n == 0 {
		return s.unexpected()
	}
	if r == utf8.RuneError && utf16.IsSurrogate(hex4(s.src[s.pos+2:])) {
		// Python cannot write these as UTF-8 either, so no event has them.
		return s.refuse("half of a surrogate pair")
	}
	var buf [8]byte
	text := appendRune(buf[:0], r)
	if string(text) == string(s.src[s.pos:s.pos+n]) {
		s.pos += n
		return nil
	}
	s.replace(n, text)
	return nil
}

// decodeUnicode decodes the \uXXXX or the surrogate pair of two that raw
// begins with, and returns how long it is, 0 if it is broken. Half a pair is
// the replacement character.
func decodeUnicode(raw []byte) (r rune, n int) {
	if len(raw) < 6 {
		return 0, 0
	}
	r = hex4(raw[2:])
	if r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(raw) >= 12 && raw[6] == '\\' && raw[7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(raw[8:])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// hex4 reads four hexadecimal digits, and returns -1 if b has not got them.
func hex4(b []byte) (r rune) {
	if len(b) < 4 {
		return -1
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// AppendString appends s as a canonical JSON string. Bytes that are not UTF-8
// become the replacement character, as in encoding/json.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0 // of what is not yet appended
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		if r < ' ' || r == '"' || r == '\\' || r == utf8.RuneError {
			dst = append(dst, s[start:i]...)
			dst = appendRune(dst, r)
			start = i + n
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendRune appends r as it stands in a canonical string.
func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, `\b`...)
	case '\t':
		return append(dst, `\t`...)
	case '\n':
		return append(dst, `\n`...)
	case '\f':
		return append(dst, `\f`...)
	case '\r':
		return append(dst, `\r`...)
	}
	if r < ' ' {
		return append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&0xf])
	}
	return utf8.AppendRune(dst, r)
}

// appendUnescaped appends what raw, a string without its quotes, decodes to.
// An escape that is broken or incomplete is taken as it stands: this happens
// only to a text that was never checked.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' || i+1 == len(raw) {
			dst = append(dst, raw[i])
			i++
			continue
		}
		if raw[i+1] == 'u' {
			if r, n := decodeUnicode(raw[i:]); n > 0 {
				dst = utf8.AppendRune(dst, r)
				i += n
				continue
			}
		}
		dst = append(dst, unescaped(raw[i+1]))
		i += 2
	}
	return dst
}

// unescaped returns the byte that a backslash and c stand for.
func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	default:
		return c
	}
}
