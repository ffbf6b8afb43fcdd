package peer

import (
	"io"
	"net/http"

	"github.com/myelin-chat/myelin/httpapi"
)

// An Answer is a JSON object written piece by piece: with large rooms it is too large to be held a second time.
type Answer struct {
	pieces [][]byte
	at     int // how much of the first piece was read
}

// Text adds a piece of JSON as it stands.
func (s *Answer) Text(t string) *Answer { return s.JSON([]byte(t)) }

// JSON adds a piece of JSON as it stands. It must not be changed afterwards.
func (s *Answer) JSON(piece []byte) *Answer {
	s.pieces = append(s.pieces, piece)
	return s
}

// List adds an array of JSON values.
func (s *Answer) List(values [][]byte) *Answer {
	s.Text("[")
	for i, value := range values {
		if i > 0 {
			s.Text(",")
		}
		s.JSON(value)
	}
	return s.Text("]")
}

// Read implements io.Reader.
func (s *Answer) Read(p []byte) (n int, err error) {
	for n < len(p) && len(s.pieces) > 0 {
		copied := copy(p[n:], s.pieces[0][s.at:])
		n += copied
		s.at += copied
		if s.at == len(s.pieces[0]) {
			s.pieces, s.at = s.pieces[1:], 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// End is what the handler returns.
func (s *Answer) End() *httpapi.Answer {
	return &httpapi.Answer{Header: http.Header{"Content-Type": {"application/json"}}, Stream: s}
}

// Raw is an answer that is JSON already, or an error.
func Raw(json []byte, err error) (*httpapi.Raw, error) {
	if err != nil {
		return nil, err
	}
	raw := httpapi.Raw(json)
	return &raw, nil
}
