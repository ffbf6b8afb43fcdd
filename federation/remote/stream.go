package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	streamBufferBytes = 64 << 10
	maxEmptyReads     = 100
)

// stream reads the JSON text of an answer piece by piece: it knows where values begin and end, and holds none but the
// one at hand. Whether a value is proper JSON is for those to find out to whom it is given.
type stream struct {
	from     io.Reader
	buf      []byte
	pos, end int    // what was read and not yet used is buf[pos:end]
	kept     []byte // the beginning of a value that began before buf
}

func newStream(from io.Reader) *stream {
	return &stream{from: from, buf: make([]byte, streamBufferBytes)}
}

// streamOf reads a text that is in memory.
func streamOf(text []byte) *stream {
	return &stream{from: bytes.NewReader(nil), buf: text, end: len(text)}
}

// fill reads on, when all was used. Its error is io.EOF only at the end of the text.
func (s *stream) fill() error {
	s.pos, s.end = 0, 0
	for range maxEmptyReads {
		n, err := s.from.Read(s.buf)
		if n > 0 {
			s.end = n // the error, if any, comes again
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// peek returns the next byte that is no white space.
func (s *stream) peek() (byte, error) {
	for {
		for ; s.pos < s.end; s.pos++ {
			if c := s.buf[s.pos]; !isSpace(c) {
				return c, nil
			}
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
}

// expect uses the next byte, which must be c.
func (s *stream) expect(c byte) error {
	got, err := s.peek()
	if err != nil {
		return unexpectedEnd(err)
	}
	if got != c {
		return bad("%q where %q belongs", got, c)
	}
	s.pos++
	return nil
}

// value uses the next value and returns its text, which is good until the next call. The text is nil if the value is
// longer than max.
func (s *stream) value(max int) ([]byte, error) {
	if _, err := s.peek(); err != nil {
		return nil, unexpectedEnd(err)
	}
	s.kept = s.kept[:0]
	var scan scanner
	for size := 0; ; {
		n, done := scan.advance(s.buf[s.pos:s.end])
		piece := s.buf[s.pos : s.pos+n]
		s.pos += n
		if size += n; done && size == n && size <= max {
			return piece, scan.check() // the usual case, without a copy
		}
		if size <= max {
			s.kept = append(s.kept, piece...)
		}
		if !done {
			err := s.fill()
			if err != nil && !(errors.Is(err, io.EOF) && scan.mayEnd()) {
				return nil, unexpectedEnd(err)
			}
			done = err != nil
		}
		if done && size > max {
			return nil, scan.check()
		}
		if done {
			return s.kept, scan.check()
		}
	}
}

func (s *stream) skip() error {
	_, err := s.value(0)
	return err
}

// object reads an object. Of is what to do with the values of which members, each of which has to use the value; other
// members are passed over. That a member comes twice is an error, since the first is gone.
func (s *stream) object(of map[string]func() error) error {
	seen := make(map[string]bool, len(of))
	return s.members(func(name string) error {
		read := of[name]
		if read == nil {
			return s.skip()
		}
		if seen[name] {
			return bad("%q comes twice", name)
		}
		seen[name] = true
		if err := read(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// members reads an object, of which null is an empty one. The function has to use the value of each member.
func (s *stream) members(member func(name string) error) error {
	if c, err := s.peek(); err == nil && c == 'n' {
		return s.null()
	}
	n := 0
	return s.sequence('{', '}', func() error {
		if n++; n > maxMembers {
			return bad("an object of more than %d members", maxMembers)
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		return member(name)
	})
}

// name uses the name of a member and the colon behind it. It is empty if no name that is looked for is that long.
func (s *stream) name() (string, error) {
	c, err := s.peek()
	if err != nil {
		return "", unexpectedEnd(err)
	}
	if c != '"' {
		return "", bad("%q where a name belongs", c)
	}
	raw, err := s.value(maxNameBytes)
	if err != nil {
		return "", err
	}
	var name string
	if raw != nil {
		if err := json.Unmarshal(raw, &name); err != nil {
			return "", bad("the name of a member: %w", err)
		}
	}
	return name, s.expect(':')
}

// array reads an array, of which null is an empty one, as some servers write it. Each element is given to the function;
// its text is nil if it is longer than max.
func (s *stream) array(max int, element func(raw []byte) error) error {
	if c, err := s.peek(); err == nil && c == 'n' {
		return s.null()
	}
	return s.sequence('[', ']', func() error {
		raw, err := s.value(max)
		if err != nil {
			return err
		}
		return element(raw)
	})
}

func (s *stream) null() error {
	raw, err := s.value(len("null"))
	if err == nil && string(raw) != "null" {
		return bad("%.10q where null belongs", raw)
	}
	return err
}

// sequence reads what stands between two brackets, separated by commas.
func (s *stream) sequence(opening, closing byte, element func() error) error {
	if err := s.expect(opening); err != nil {
		return err
	}
	for first := true; ; first = false {
		c, err := s.peek()
		if err != nil {
			return unexpectedEnd(err)
		}
		if c == closing {
			break
		}
		if !first {
			if err := s.expect(','); err != nil {
				return err
			}
		}
		if err := element(); err != nil {
			return err
		}
	}
	s.pos++
	return nil
}

// decode uses the next value and decodes it.
func (s *stream) decode(max int, into any) error {
	raw, err := s.value(max)
	if err != nil {
		return err
	}
	if raw == nil {
		return bad("a value longer than %d bytes", max)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return bad("%w", err)
	}
	return nil
}

// finish checks that nothing is left.
func (s *stream) finish() error {
	c, err := s.peek()
	if err == nil {
		return bad("%q behind the end", c)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// unexpectedEnd is an error of reading within a value.
func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return bad("it ends too early")
	}
	return err
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// scanner looks for the end of a value, which may come in pieces.
type scanner struct {
	depth    int // of brackets
	inString bool
	escaped  bool // the next byte is behind a backslash
	begun    bool
	empty    bool // there was a delimiter where a value should be
}

// advance returns how many bytes of the next piece belong to the value, and whether it ends with them.
func (x *scanner) advance(piece []byte) (n int, done bool) {
	for n < len(piece) {
		if x.inString {
			n += x.skipString(piece[n:])
			if !x.inString && x.depth == 0 {
				return n, true
			}
			continue
		}
		if used, ends := x.step(piece[n]); ends {
			return n + used, true
		}
		n++
	}
	return n, false
}

// step takes a byte outside of strings. It says whether the value ends, and if so, whether the byte belongs to it.
func (x *scanner) step(c byte) (used int, ends bool) {
	switch c {
	case '"':
		if x.depth == 0 && x.begun {
			return 0, true
		}
		x.inString = true
	case '{', '[':
		if x.depth == 0 && x.begun {
			return 0, true
		}
		x.depth++
	case '}', ']':
		if x.depth == 0 {
			x.empty = !x.begun
			return 0, true
		}
		x.depth--
		return 1, x.depth == 0
	case ',', ':', ' ', '\n', '\t', '\r':
		if x.depth == 0 {
			x.empty = !x.begun
			return 0, true
		}
	}
	x.begun = true
	return 1, false
}

// skipString returns how many bytes belong to the string that the scanner is in.
func (x *scanner) skipString(piece []byte) int {
	quote := -1 // the next one at or behind n; it is not looked for again until it is behind us
	for n := 0; n < len(piece); {
		if x.escaped {
			x.escaped = false
			n++
			continue
		}
		if quote < n {
			quote = indexOrEnd(piece, n, '"')
		}
		if slash := indexOrEnd(piece[:quote], n, '\\'); slash < quote {
			x.escaped = true
			n = slash + 1
			continue
		}
		x.inString = quote == len(piece)
		return min(quote+1, len(piece))
	}
	return len(piece)
}

// indexOrEnd returns the place of the first c in text from n on, or that of its end.
func indexOrEnd(text []byte, n int, c byte) int {
	if i := bytes.IndexByte(text[n:], c); i >= 0 {
		return n + i
	}
	return len(text)
}

// mayEnd says whether the value is a number or the like, which ends where the text does.
func (x *scanner) mayEnd() bool { return x.begun && x.depth == 0 && !x.inString }

func (x *scanner) check() error {
	if x.empty {
		return bad("no value where one belongs")
	}
	return nil
}
