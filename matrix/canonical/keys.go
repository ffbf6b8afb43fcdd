package canonical

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
)

// manyMembers is where the sort of the standard library overtakes insertion.
const manyMembers = 16

// sort orders members by key, and equal keys as they stand in the text.
func (s *scanner) sort(members []member) {
	if len(members) > manyMembers {
		slices.SortFunc(members, s.compare)
		return
	}
	for i := 1; i < len(members); i++ {
		m, j := members[i], i
		for j > 0 && s.compareKeys(m, members[j-1]) < 0 {
			members[j] = members[j-1]
			j--
		}
		members[j] = m
	}
}

func (s *scanner) compare(a, b member) int {
	if c := s.compareKeys(a, b); c != 0 {
		return c
	}
	return cmp.Compare(a.keyStart, b.keyStart)
}

// compareKeys compares decoded keys by code point, for which the bytes of
// UTF-8 will do.
func (s *scanner) compareKeys(a, b member) int {
	rawA, rawB := s.src[a.keyStart:a.keyEnd], s.src[b.keyStart:b.keyEnd]
	if !a.escaped && !b.escaped {
		return bytes.Compare(rawA, rawB)
	}
	return compareEscaped(rawA, rawB)
}

// keyText returns the key for an error, cut short if it is long.
func (s *scanner) keyText(m member) string {
	const most = 100
	key := appendUnescaped(nil, s.src[m.keyStart:m.keyEnd])
	if len(key) > most {
		return strconv.Quote(string(key[:most])) + "..."
	}
	return strconv.Quote(string(key))
}

// compareEscaped compares what two raw strings, without their quotes, decode to.
func compareEscaped(a, b []byte) int {
	var bufA, bufB [64]byte
	return bytes.Compare(appendUnescaped(bufA[:0], a), appendUnescaped(bufB[:0], b))
}
