package peer

import (
	"bytes"
	"io"
	"sync/atomic"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

const (
	// maxAhead bounds the memory that a request gets for a body of which nothing has come yet.
	maxAhead = 64 << 10
	// maxUnproven bounds what is held of all bodies of which it is not known who sends them, but for the first maxAhead bytes
	// of each, which is the whole of most.
	maxUnproven = 256 << 20
)

// unproven counts the bytes that are held of bodies of which it is not known who sends them. A request is signed with all of
// its body, so that anybody can have it read, and stop before its end.
type unproven struct{ held atomic.Int64 }

// read reads a body. When it is known who has sent it, or will not be, release is called, whatever the error, which is
// M_LIMIT_EXCEEDED if too much is held.
func (u *unproven) read(body *httpapi.Body) (content []byte, release func(), err error) {
	r := &countedBody{Reader: body, held: &u.held}
	buffer := bytes.NewBuffer(make([]byte, 0, bytes.MinRead+min(max(body.Length, 0), maxAhead)))
	_, err = buffer.ReadFrom(r)
	return buffer.Bytes(), func() { u.held.Add(-r.counted()) }, err
}

// countedBody counts what is read of a body.
type countedBody struct {
	io.Reader
	held *atomic.Int64
	read int64
}

// counted is how much of the body counts.
func (b *countedBody) counted() int64 { return max(0, b.read-maxAhead) }

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	before := b.counted()
	b.read += int64(n)
	if more := b.counted() - before; more > 0 && b.held.Add(more) > maxUnproven {
		return n, matrix.Errorf(matrix.LimitExceeded, "too many large requests are being read").With("retry_after_ms", int64(5000))
	}
	return n, err
}
