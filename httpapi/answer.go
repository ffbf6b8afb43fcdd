package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// Raw is an answer that is JSON already.
type Raw []byte

// Answer is for the few endpoints whose answer is not 200 and JSON: redirects, files. It is an error too, so that an
// endpoint with an ordinary answer can have an extraordinary one, such as the 401 of user-interactive authentication,
// which is no error by its form.
type Answer struct {
	Status int         // 0: 200
	Header http.Header // added to those that all answers have
	JSON   any         // the body: either this,
	Body   []byte      // or this,
	// or this: copied to the client, and closed if it is an io.Closer. One that is an io.ReadSeeker is served in ranges
	// where the client asks for them.
	Stream io.Reader
}

// Error implements error.
func (a *Answer) Error() string { return "answer of status " + strconv.Itoa(a.status()) }

func (a *Answer) status() int {
	if a.Status == 0 {
		return http.StatusOK
	}
	return a.Status
}

// statusClientGone is how requests are logged and counted that nobody waits for any more. It is never sent.
const statusClientGone = 499

var (
	jsonType    = []string{"application/json"}
	emptyObject = []byte("{}")
)

// answer writes what a handler returned.
func (x *exchange) answer(out any) {
	switch out := out.(type) {
	case *None:
		x.writeJSON(http.StatusOK, emptyObject)
	case *Raw:
		x.writeJSON(http.StatusOK, *out)
	case *Answer:
		x.special(out)
	default:
		x.encode(http.StatusOK, out)
	}
}

func (x *exchange) encode(status int, v any) {
	buf := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buf)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		x.fail(err)
		return
	}
	x.writeJSON(status, bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
}

// knownLength is up to where net/http finds the length of an answer by itself.
const knownLength = 2048

func (x *exchange) writeJSON(status int, body []byte) {
	h := x.Header()
	h["Content-Type"] = jsonType
	if len(body) >= knownLength {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.WriteHeader(status)
	// An error means that the client has gone.
	_, _ = x.Write(body)
}

func (x *exchange) special(a *Answer) {
	if c, ok := a.Stream.(io.Closer); ok {
		defer c.Close()
	}
	h := x.Header()
	for key, values := range a.Header {
		h[http.CanonicalHeaderKey(key)] = values
	}
	switch {
	case a.JSON != nil:
		x.encode(a.status(), a.JSON)
	case a.Stream != nil:
		x.stream(a)
	default:
		x.WriteHeader(a.status())
		_, _ = x.Write(a.Body)
	}
}

func (x *exchange) stream(a *Answer) {
	if x.Header().Get("Content-Type") == "" {
		// Never guessed from the content: what a user uploaded would choose how a browser treats it.
		x.Header().Set("Content-Type", "application/octet-stream")
	}
	if seeker, ok := a.Stream.(io.ReadSeeker); ok && a.status() == http.StatusOK {
		http.ServeContent(x, x.r, "", time.Time{}, seeker)
		return
	}
	x.WriteHeader(a.status())
	if _, err := io.Copy(x, a.Stream); err != nil && x.r.Context().Err() == nil {
		x.logFailure(err)
		panic(http.ErrAbortHandler) // so that the client does not take the part for the whole
	}
}

// fail answers with an error: that of Matrix if there is one in it; otherwise the operator is told the cause, and the
// client that there was one.
func (x *exchange) fail(err error) {
	var (
		special *Answer
		known   *matrix.Error
	)
	switch {
	case errors.As(err, &special):
		x.special(special)
	case errors.As(err, &known):
		x.refuse(known)
	case x.r.Context().Err() != nil:
		x.abandoned()
	default:
		x.logFailure(err)
		x.refuse(matrix.Errorf(matrix.Unknown, "internal error").WithStatus(http.StatusInternalServerError))
	}
}

// refuse writes an error that the client is to know.
func (x *exchange) refuse(e *matrix.Error) {
	if ms, ok := e.Fields["retry_after_ms"].(int64); ok {
		x.Header().Set("Retry-After", strconv.FormatInt((ms+999)/1000, 10))
	}
	x.encode(e.Status(), e)
}

// abandoned ends a request whose context was cancelled: because the client has gone, which is nobody's concern, or
// because the server stops, which a client that still listens is told.
func (x *exchange) abandoned() {
	if !errors.Is(context.Cause(x.r.Context()), errStopping) {
		x.status = statusClientGone
		return
	}
	x.refuse(matrix.Errorf(matrix.Unknown, "the server is stopping").WithStatus(http.StatusServiceUnavailable))
}

func (x *exchange) logFailure(err error) {
	x.server.log.LogAttrs(context.Background(), slog.LevelError, "request failed",
		slog.String("method", x.r.Method), slog.String("route", x.route.pattern), slog.Any("error", err))
}
