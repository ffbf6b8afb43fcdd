package canonical

import (
	"slices"
	"strconv"
	"sync"

	"github.com/myelin-chat/myelin/matrix"
)

// A scanner makes one pass over a JSON text. Only what differs from the
// compact form (white space, escapes, numbers) makes it copy: in a text that
// is compact already it moves no byte, and compact offsets are those of src.
// Objects whose keys are out of order are noted, with their members sorted;
// the text is put together at the end, every byte once, however deep the
// disorder.
type scanner struct {
	src     []byte
	pos     int
	lenient bool

	out  []byte // the compact text so far, without src[from:pos]; unused while from is 0
	from int

	open    []member // members of the objects that are open, those of the innermost last
	sorted  []member // members of the objects that are out of order
	objects []object // ascending by start; those out of order and some that are not
}

// A member is a key with its value.
type member struct {
	keyStart, keyEnd int32 // in src, between the quotes
	start, end       int32 // in the compact text, from the key's quote to the end of the value
	objects          int32 // index of the first object in the value
	escaped          bool  // the key has escapes
}

// An object as it stands in the compact text.
type object struct {
	start, end int32
	next       int32 // index of the first object behind it
	lo, hi     int32 // its members in sorted; none if it is in order
}

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// maxKept bounds the memory a scanner in the pool holds on to, in bytes of
// text and in members.
const maxKept = 1 << 18

func (s *scanner) release() {
	if cap(s.out) > maxKept || cap(s.open)+cap(s.sorted)+cap(s.objects) > maxKept/16 {
		return
	}
	*s = scanner{out: s.out[:0], open: s.open[:0], sorted: s.sorted[:0], objects: s.objects[:0]}
	scanners.Put(s)
}

func appendCanonical(dst, src []byte, m Mode) ([]byte, error) {
	if len(src) > maxBytes {
		return dst, matrix.Errorf(matrix.TooLarge, "JSON of more than %d bytes", maxBytes)
	}
	s := scanners.Get().(*scanner)
	defer s.release()
	s.src, s.lenient = src, m == Lenient
	if err := s.text(); err != nil {
		return dst, err
	}
	compact := src[:s.pos]
	if s.from > 0 {
		s.out = append(s.out, src[s.from:s.pos]...)
		compact = s.out
	}
	dst = slices.Grow(dst, len(compact))
	return s.appendSpan(dst, compact, member{end: int32(len(compact))}), nil
}

// text passes over the whole text and leaves pos behind its value.
func (s *scanner) text() error {
	depth := maxDepth
	if s.lenient {
		depth = maxLenientDepth
	}
	if err := validUTF8(s.src); err != nil {
		return err
	}
	s.skipSpace()
	if err := s.value(depth); err != nil {
		return err
	}
	end := s.pos
	for end < len(s.src) && isSpace(s.src[end]) {
		end++
	}
	if end < len(s.src) {
		s.pos = end
		return s.unexpected()
	}
	return nil
}

// appendSpan appends what m spans of the compact text, with its objects in order.
func (s *scanner) appendSpan(dst, compact []byte, m member) []byte {
	start, i := m.start, m.objects
	for int(i) < len(s.objects) && s.objects[i].start < m.end {
		o := s.objects[i]
		if o.lo == o.hi {
			i++
			continue
		}
		dst = append(dst, compact[start:o.start]...)
		separator := byte('{')
		for _, inner := range s.sorted[o.lo:o.hi] {
			dst = append(dst, separator)
			dst = s.appendSpan(dst, compact, inner)
			separator = ','
		}
		dst = append(dst, '}')
		start, i = o.end, o.next
	}
	return append(dst, compact[start:m.end]...)
}

// at returns the offset of pos in the compact text.
func (s *scanner) at() int32 { return int32(len(s.out) + s.pos - s.from) }

// replace puts text in the place of the next n bytes.
func (s *scanner) replace(n int, text []byte) {
	s.out = append(s.out, s.src[s.from:s.pos]...)
	s.out = append(s.out, text...)
	s.pos += n
	s.from = s.pos
}

// peek returns the next byte, or 0 at the end, which no JSON text continues with.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

// skipSpace passes over white space. Mostly there is none.
func (s *scanner) skipSpace() {
	if s.pos < len(s.src) && s.src[s.pos] <= ' ' {
		s.dropSpace()
	}
}

func (s *scanner) dropSpace() {
	end := s.pos
	for end < len(s.src) && isSpace(s.src[end]) {
		end++
	}
	if end > s.pos {
		s.replace(end-s.pos, nil)
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// value passes over one value, which may nest by depth levels.
func (s *scanner) value(depth int) error {
	switch c := s.peek(); c {
	case '"':
		_, err := s.string()
		return err
	case '{':
		return s.object(depth)
	case '[':
		return s.array(depth)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) literal(word string) error {
	end := s.pos + len(word)
	if end > len(s.src) || string(s.src[s.pos:end]) != word {
		return s.unexpected()
	}
	s.pos = end
	return nil
}

func (s *scanner) array(depth int) error {
	if depth == 0 {
		return s.refuse("nested too deeply")
	}
	s.pos++
	s.skipSpace()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.value(depth - 1); err != nil {
			return err
		}
		s.skipSpace()
		switch s.peek() {
		case ',':
			s.pos++
			s.skipSpace()
		case ']':
			s.pos++
			return nil
		default:
			return s.unexpected()
		}
	}
}

func (s *scanner) object(depth int) error {
	if depth == 0 {
		return s.refuse("nested too deeply")
	}
	self, first, inOrder := len(s.objects), len(s.open), true
	s.objects = append(s.objects, object{start: s.at()})
	s.pos++
	s.skipSpace()
	if s.peek() == '}' {
		s.pos++
		s.objects = s.objects[:self]
		return nil
	}
	for {
		m, err := s.member(depth)
		if err != nil {
			return err
		}
		if n := len(s.open); n > first && inOrder {
			inOrder = s.compareKeys(&s.open[n-1], &m) < 0
		}
		s.open = append(s.open, m)
		s.skipSpace()
		switch s.peek() {
		case ',':
			s.pos++
			s.skipSpace()
		case '}':
			s.pos++
			return s.close(self, first, inOrder)
		default:
			return s.unexpected()
		}
	}
}

func (s *scanner) member(depth int) (m member, err error) {
	if s.peek() != '"' {
		return m, s.unexpected()
	}
	m.start, m.keyStart = s.at(), int32(s.pos+1)
	if m.escaped, err = s.string(); err != nil {
		return m, err
	}
	m.keyEnd = int32(s.pos - 1)
	s.skipSpace()
	if s.peek() != ':' {
		return m, s.unexpected()
	}
	s.pos++
	s.skipSpace()
	m.objects = int32(len(s.objects))
	err = s.value(depth - 1)
	m.end = s.at()
	return m, err
}

// close ends the object of index self with the members open[first:].
func (s *scanner) close(self, first int, inOrder bool) error {
	members := s.open[first:]
	s.open = s.open[:first]
	if inOrder {
		if len(s.objects) == self+1 {
			s.objects = s.objects[:self]
		}
		return nil
	}
	if s.sort(members) {
		var err error
		if members, err = s.dropRepeated(members); err != nil {
			return err
		}
	}
	lo := len(s.sorted)
	s.sorted = append(s.sorted, members...)
	o := &s.objects[self]
	o.end, o.next, o.lo, o.hi = s.at(), int32(len(s.objects)), int32(lo), int32(len(s.sorted))
	return nil
}

// unexpected is the error for a text that breaks JSON's grammar at pos.
func (s *scanner) unexpected() error {
	if s.pos >= len(s.src) {
		return matrix.Errorf(matrix.NotJSON, "not JSON: the text ends early")
	}
	return matrix.Errorf(matrix.NotJSON, "not JSON: unexpected %s at byte %d",
		strconv.QuoteRune(rune(s.src[s.pos])), s.pos)
}

// refuse is the error for JSON that has no canonical form.
func (s *scanner) refuse(format string, args ...any) error {
	e := matrix.Errorf(matrix.BadJSON, format, args...)
	e.Message = "not canonical JSON: " + e.Message + " (byte " + strconv.Itoa(s.pos) + ")"
	return e
}
