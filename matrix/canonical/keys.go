package canonical

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
)

// manyMembers is where the sort of the standard library overtakes insertion.
const manyMembers = 16

// sort orders members by key, and equal keys as they stand in the text. It
// reports whether there are equal keys: to put them side by side any sort has
// to compare them.
func (s *scanner) sort(members []member) (repeated bool) {
	if len(members) > manyMembers {
		slices.SortFunc(members, func(a, b member) int {
			order := s.compareKeys(&a, &b)
			repeated = repeated || order == 0 && a.keyStart != b.keyStart
			return cmp.Or(order, cmp.Compare(a.keyStart, b.keyStart))
		})
		return repeated
	}
	for i := 1; i < len(members); i++ {
		j, order := i, 1
		for j > 0 {
			if order = s.compareKeys(&members[i], &members[j-1]); order >= 0 {
				break
			}
			j--
		}
		repeated = repeated || order == 0
		m := members[i]
		copy(members[j+1:i+1], members[j:i])
		members[j] = m
	}
	return repeated
}

// compareKeys compares decoded keys by code point, for which the bytes of
// UTF-8 will do.
func (s *scanner) compareKeys(a, b *member) int {
	rawA, rawB := s.src[a.keyStart:a.keyEnd], s.src[b.keyStart:b.keyEnd]
	if !a.escaped && !b.escaped {
		return bytes.Compare(rawA, rawB)
	}
	return compareEscaped(rawA, rawB)
}

// dropRepeated keeps the last of the members with the same key.
func (s *scanner) dropRepeated(members []member) ([]member, error) {
	kept := members[:0]
	for i := range members {
		if i+1 == len(members) || s.compareKeys(&members[i], &members[i+1]) != 0 {
			kept = append(kept, members[i])
			continue
		}
		if !s.lenient {
			return nil, s.refuse("the key %s is there twice", s.keyText(members[i]))
		}
	}
	return kept, nil
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
