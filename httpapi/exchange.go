package httpapi

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// maxParams is how many parameters a route may have. The longest of the specification have four.
const maxParams = 6

// exchange is one request and its answer: all that is kept for it, in one allocation.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	server  *Server
	route   *route
	params  [maxParams]string // as in the path, encoded
	call    Call
	start   time.Time
	maxBody int64
	status  int // 0 until it is written
	bytes   int64
}

// exchangeOf returns the exchange that w is. Handlers of this package run below a [Server] only.
func exchangeOf(w http.ResponseWriter) *exchange {
	return w.(*exchange)
}

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	x.begin(status)
	x.w.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	x.begin(http.StatusOK)
	written := 0
	for {
		piece := p[written:min(written+pieceBytes, len(p))]
		n, err := x.w.Write(piece)
		written += n
		x.bytes += int64(n)
		if err != nil || written == len(p) {
			return written, err
		}
		x.limitWriteTime()
	}
}

// ReadFrom implements io.ReaderFrom, by which the kernel copies files to connections. It does so only if it is given the
// file, or the file within one io.LimitedReader; so a limit that is there already is taken over.
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	x.begin(http.StatusOK)
	whole, ok := src.(*io.LimitedReader)
	if !ok {
		whole = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	var written int64
	for {
		size := min(whole.N, pieceBytes)
		n, err := io.Copy(x.w, io.LimitReader(whole.R, size))
		whole.N -= n
		written += n
		x.bytes += n
		if err != nil || n < size || whole.N == 0 {
			return written, err
		}
		x.limitWriteTime()
	}
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

func (x *exchange) clientAddr() netip.Addr {
	return clientAddr(x.r.RemoteAddr, x.r.Header["X-Forwarded-For"], x.server.proxies)
}

// The CORS headers that the specification recommends, on every answer. Retry-After is exposed, as clients in browsers
// need it and CORS hides it.
// https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients
var (
	corsOrigin  = []string{"*"}
	corsMethods = []string{"GET, POST, PUT, DELETE, OPTIONS"}
	corsHeaders = []string{"X-Requested-With, Content-Type, Authorization"}
	corsExpose  = []string{"Retry-After"}
	corsMaxAge  = []string{"86400"}
)

// begin sets what all answers have, as late as can be: a long poll that waits keeps no headers in memory.
func (x *exchange) begin(status int) {
	if x.status != 0 {
		return
	}
	x.status = status
	x.limitWriteTime()
	h := x.w.Header()
	h["Access-Control-Allow-Origin"] = corsOrigin
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Allow-Headers"] = corsHeaders
	h["Access-Control-Expose-Headers"] = corsExpose
}

// A client has pieceTime to take each piece of an answer, so that one that reads nothing cannot hold its connection for
// ever. A timeout for the whole answer would end long polls and large downloads.
const (
	pieceBytes = 1 << 20
	pieceTime  = time.Minute
)

func (x *exchange) limitWriteTime() {
	// A connection without deadlines, as in tests, is left without.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(pieceTime))
}

// run takes the request from its headers to its answer.
func (x *exchange) run() {
	defer x.finish()
	if x.r.Method == http.MethodOptions {
		x.w.Header()["Access-Control-Max-Age"] = corsMaxAge
		x.WriteHeader(http.StatusOK)
		return
	}
	if x.r.ContentLength != 0 {
		x.limitBodyTime()
		// That of the answer before may have passed; "100 Continue" is written before this one begins.
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
	x.route.handler(x, x.r)
}

// finish counts and logs the request. A panic becomes an answer, or breaks off what was begun.
func (x *exchange) finish() {
	failure := recover()
	if failure != nil && x.panicked(failure) {
		defer panic(http.ErrAbortHandler)
	}
	x.begin(http.StatusOK)
	took := x.server.now().Sub(x.start)
	x.route.stats.observe(x.status, took, x.bytes)
	x.log(took)
}

// panicked logs a panic, and answers if it can. Otherwise the connection has to be broken off.
func (x *exchange) panicked(failure any) (breakOff bool) {
	if failure == http.ErrAbortHandler {
		return true
	}
	x.server.panics.Add(1)
	x.server.log.LogAttrs(context.Background(), slog.LevelError, "panic in a request",
		slog.String("method", x.r.Method), slog.String("route", x.route.pattern),
		slog.Any("panic", failure), slog.String("stack", string(debug.Stack())))
	if x.status != 0 {
		return true
	}
	x.refuse(matrix.Errorf(matrix.Unknown, "internal error").WithStatus(http.StatusInternalServerError))
	return false
}

// log writes the line of the request: no tokens, no query, no path, which may name what is private.
func (x *exchange) log(took time.Duration) {
	level := slog.LevelDebug
	if x.status >= http.StatusInternalServerError {
		level = slog.LevelInfo
	}
	ctx := x.r.Context()
	if !x.server.log.Enabled(ctx, level) {
		return
	}
	x.server.log.LogAttrs(ctx, level, "request",
		slog.String("method", x.r.Method), slog.String("route", x.route.pattern), slog.Int("status", x.status),
		slog.Int64("duration_ms", took.Milliseconds()), slog.Int64("bytes", x.bytes),
		slog.String("user", string(x.call.User)))
}
