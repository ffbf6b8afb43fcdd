package canonical

import (
	"bytes"
	"strconv"
)

const (
	// maxInteger is the largest integer that a float holds exactly with all
	// its neighbours, 2^53-1.
	maxInteger       = 1<<53 - 1
	maxIntegerDigits = 16
	// maxLenientDigits is where Python stops reading integers.
	maxLenientDigits = 4300
)

// number passes over a number.
func (s *scanner) number() error {
	end, integer := numberEnd(s.src, s.pos)
	if end < 0 {
		return s.unexpected()
	}
	switch text := s.src[s.pos:end]; {
	case !integer:
		return s.float(text)
	case s.lenient:
		return s.lenientInteger(text)
	default:
		return s.strictInteger(text)
	}
}

func (s *scanner) strictInteger(text []byte) error {
	digits := bytes.TrimPrefix(text, []byte{'-'})
	if len(digits) < len(text) && digits[0] == '0' {
		return s.refuse("negative zero")
	}
	if len(digits) > maxIntegerDigits || parseDigits(digits) > maxInteger {
		return s.refuse("an integer beyond 2^53-1")
	}
	s.pos += len(text)
	return nil
}

func (s *scanner) lenientInteger(text []byte) error {
	if string(text) == "-0" {
		s.replace(len(text), []byte{'0'})
		return nil
	}
	if len(text) > maxLenientDigits {
		return s.refuse("an integer of more than %d digits", maxLenientDigits)
	}
	s.pos += len(text)
	return nil
}

func (s *scanner) float(text []byte) error {
	if !s.lenient {
		return s.refuse("a number that is not an integer")
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return s.refuse("a number that is too large")
	}
	var buf [32]byte
	if canonical := appendFloat(buf[:0], f); string(canonical) != string(text) {
		s.replace(len(text), canonical)
		return nil
	}
	s.pos += len(text)
	return nil
}

// appendFloat appends f as Python's json module does, which is repr(f): the
// fewest digits that read back as f, with an exponent if it is below -4 or
// above 15, else with at least one decimal.
//
// https://docs.python.org/3/library/functions.html#repr
func appendFloat(dst []byte, f float64) []byte {
	start := len(dst)
	if exponent := decimalExponent(f); exponent < -4 || exponent > 15 {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}

// decimalExponent returns the power of ten of f's first digit, 0 for zero.
func decimalExponent(f float64) int {
	var buf [32]byte
	text := strconv.AppendFloat(buf[:0], f, 'e', -1, 64)
	exponent, _ := strconv.Atoi(string(text[bytes.IndexByte(text, 'e')+1:]))
	return exponent
}

// numberEnd returns where the number at src[i:] ends, -1 if there is none, and
// whether it is written as an integer.
func numberEnd(src []byte, i int) (end int, integer bool) {
	if at(src, i) == '-' {
		i++
	}
	end = digitsEnd(src, i)
	if end < 0 || src[i] == '0' && end > i+1 {
		return -1, false
	}
	integer = true
	if at(src, end) == '.' {
		integer = false
		if end = digitsEnd(src, end+1); end < 0 {
			return -1, false
		}
	}
	if at(src, end)|0x20 == 'e' {
		integer = false
		if end++; at(src, end) == '+' || at(src, end) == '-' {
			end++
		}
		end = digitsEnd(src, end)
	}
	return end, integer
}

// at returns src[i], or 0 behind the end.
func at(src []byte, i int) byte {
	if i < len(src) {
		return src[i]
	}
	return 0
}

// digitsEnd returns where the digits at src[i:] end, -1 if there are none.
func digitsEnd(src []byte, i int) int {
	start := i
	for i < len(src) && src[i]-'0' <= 9 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// parseDigits reads at most 19 digits.
func parseDigits(digits []byte) (n uint64) {
	for _, c := range digits {
		n = n*10 + uint64(c-'0')
	}
	return n
}
