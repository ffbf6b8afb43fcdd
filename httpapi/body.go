package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
)

// DefaultMaxBody is how large a body may be unless [MaxBody] says otherwise: sixteen of the largest events.
const DefaultMaxBody = 1 << 20

const (
	// bodyGrace and bodyBytesPerSecond say how slowly a body may come.
	bodyGrace          = 30 * time.Second
	bodyBytesPerSecond = 32 << 10
	// firstBuffer is what is made room for before a byte has come, whatever length was announced.
	firstBuffer = 4 << 10
	// keptBuffer is the largest buffer kept for the next request.
	keptBuffer = 64 << 10
)

// None is a request whose body is not read, or an answer of {}.
type None struct{}

// RawBody is a request's body as it came, within the limit of the route and otherwise unchecked.
type RawBody []byte

// Body is a request's body that the handler reads itself. Reading beyond the limit of the route fails with M_TOO_LARGE.
type Body struct {
	io.Reader
	Length int64 // as announced; -1 if unknown
}

// readBody fills in, which is a pointer to the endpoint's request type.
func (x *exchange) readBody(in any) error {
	switch in := in.(type) {
	case *None:
		return nil
	case *RawBody:
		raw, err := x.readAll(nil)
		*in = raw
		return err
	case *Body:
		in.Length = x.r.ContentLength
		in.Reader = &limitedBody{x: x, left: x.maxBody}
		return x.checkLength()
	default:
		return x.readJSON(in)
	}
}

func (x *exchange) readJSON(in any) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buf)
	raw, err := x.readAll(buf.AvailableBuffer())
	if err != nil {
		return err
	}
	// What was read into may have outgrown the buffer; the larger one is kept.
	*buf = *bytes.NewBuffer(raw[:0])
	return Decode(raw, in)
}

// Decode decodes an object into in, which keeps nothing of raw. No body at all is the empty object: clients leave it
// out where every member is optional. The content type is not looked at, since many clients send none. Handlers call this
// themselves only for a RawBody whose form depends on the rest of the request.
func Decode(raw []byte, in any) error {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return nil
	}
	if !utf8.Valid(raw) {
		return matrix.Errorf(matrix.NotJSON, "the body is not valid UTF-8")
	}
	err := json.Unmarshal(raw, in)
	if err == nil && raw[0] != '{' {
		return matrix.Errorf(matrix.BadJSON, "the body must be a JSON object")
	}
	return explain(err)
}

// explain turns an error of encoding/json into what the client is told.
func explain(err error) error {
	var (
		known     *matrix.Error
		syntax    *json.SyntaxError
		wrongType *json.UnmarshalTypeError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.As(err, &syntax):
		return matrix.Errorf(matrix.NotJSON, "the body is not JSON: %v, at byte %d", syntax, syntax.Offset)
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return matrix.Errorf(matrix.BadJSON, "the body must be a JSON object, not %s", wrongType.Value)
	case errors.As(err, &wrongType):
		return matrix.Errorf(matrix.BadJSON, "%s must be %s, not %s", wrongType.Field, jsonKind(wrongType), wrongType.Value)
	default:
		return matrix.Errorf(matrix.BadJSON, "the body does not have the form it should have: %v", err)
	}
}

// readAll reads the body, appending to buf.
func (x *exchange) readAll(buf []byte) ([]byte, error) {
	if x.r.ContentLength == 0 || x.r.Body == nil {
		return buf, nil
	}
	if err := x.checkLength(); err != nil {
		return buf, err
	}
	if cap(buf) == 0 {
		size := int64(firstBuffer)
		if n := x.r.ContentLength; n > 0 && n < size {
			size = n + 1 // one more, so that the end is seen without growing
		}
		buf = make([]byte, 0, size)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := x.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > x.maxBody {
			return buf, x.tooLarge()
		}
		if err == io.EOF {
			x.bodyIsRead()
			return buf, nil
		}
		if err != nil {
			return buf, brokenOff(err)
		}
	}
}

func (x *exchange) checkLength() error {
	if x.r.ContentLength > x.maxBody {
		return x.tooLarge()
	}
	return nil
}

func (x *exchange) tooLarge() error {
	return matrix.Errorf(matrix.TooLarge, "the body is larger than %d bytes", x.maxBody)
}

// limitBodyTime ends a body that comes too slowly. It also binds what net/http reads after a handler that read nothing.
func (x *exchange) limitBodyTime() {
	size := x.r.ContentLength
	if size < 0 || size > x.maxBody {
		size = x.maxBody
	}
	// A connection without deadlines, as in tests, is left without.
	_ = http.NewResponseController(x.w).SetReadDeadline(x.start.Add(bodyGrace + bodyTime(size)))
}

// bodyTime is what a body of that size may take.
func bodyTime(size int64) time.Duration {
	return time.Duration(size/bodyBytesPerSecond) * time.Second
}

// bodyIsRead lifts the deadline, which would otherwise end a long poll: net/http goes on reading, to see the client go.
func (x *exchange) bodyIsRead() {
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
}

// brokenOff is what a client is told whose body did not arrive, should it still listen.
func brokenOff(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return matrix.Errorf(matrix.Unknown, "the body came too slowly").WithStatus(http.StatusRequestTimeout)
	}
	return matrix.Errorf(matrix.NotJSON, "the body broke off")
}

// limitedBody reads a request's body up to the limit of its route.
type limitedBody struct {
	x    *exchange
	left int64
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1] // one more than allowed, to see that there is more
	}
	n, err := b.x.r.Body.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, b.x.tooLarge()
	}
	b.left -= int64(n)
	switch err {
	case nil:
		return n, nil
	case io.EOF:
		b.x.bodyIsRead()
		return n, io.EOF
	default:
		return n, brokenOff(err)
	}
}

// buffers are those of bodies and answers.
var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, firstBuffer)) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keptBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// jsonKind names the type that a member should have had.
func jsonKind(e *json.UnmarshalTypeError) string {
	switch kind := e.Type.Kind().String(); kind {
	case "string":
		return "a string"
	case "bool":
		return "a boolean"
	case "slice", "array":
		return "an array"
	case "struct", "map", "ptr":
		return "an object"
	case "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64":
		return "an integer"
	case "float32", "float64":
		return "a number"
	default:
		return fmt.Sprintf("of another type than this (%s)", kind)
	}
}
