package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// tokens is an Authenticator that knows some.
type tokens map[string]matrix.Requester

func (t tokens) Authenticate(_ context.Context, token string) (matrix.Requester, error) {
	if who, ok := t[token]; ok {
		return who, nil
	}
	return matrix.Requester{}, matrix.Errorf(matrix.UnknownToken, "unknown token").With("soft_logout", false)
}

var known = tokens{
	"secret": {Account: "@alice:test", User: "@alice:test", Device: "A"},
	"other":  {Account: "@bob:test", User: "@bob:test", Device: "B"},
}

// serverOf makes a handler of one route table, and its log.
func serverOf(t testing.TB, s Settings, routes func(*Router)) (http.Handler, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.APIs = append(s.APIs, API{Service: config.Client, Routes: routes})
	return New(s).Handler(), &log
}

// ask makes a request and returns the answer. Lines after the first of req are headers, up to an empty one.
func ask(t testing.TB, h http.Handler, req, body string) *httptest.ResponseRecorder {
	t.Helper()
	lines := strings.Split(req, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ": ")
		r.Header.Add(key, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wantAnswer(t testing.TB, w *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if w.Code != status || w.Body.String() != body {
		t.Errorf("got %d %s, want %d %s", w.Code, w.Body, status, body)
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Error("got no CORS headers, want them on every answer")
	}
}

func wantError(t testing.TB, w *httptest.ResponseRecorder, status int, code matrix.ErrorCode, text string) {
	t.Helper()
	var e struct {
		Code matrix.ErrorCode `json:"errcode"`
		Text string           `json:"error"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("got body %q, want JSON: %v", w.Body, err)
	}
	if w.Code != status || e.Code != code || !strings.Contains(e.Text, text) {
		t.Errorf("got %d %s %q, want %d %s with %q", w.Code, e.Code, e.Text, status, code, text)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %q, want application/json", got)
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Error("got no CORS headers, want them on every answer")
	}
}

type answer struct {
	Text string `json:"text"`
}

func say(format string, args ...any) (*answer, error) {
	return &answer{fmt.Sprintf(format, args...)}, nil
}

func whoami(_ context.Context, c *Call, _ *None) (*answer, error) {
	return say("%s %s %s", c.User, c.Device, c.Token())
}

func TestAuthentication(t *testing.T) {
	h, log := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/authed", Authed(known, nil, whoami))
		r.Get("/open", Open(nil, whoami))
	})
	alice := `{"text":"@alice:test A secret"}`
	tests := []struct {
		name, req, want string
		code            matrix.ErrorCode
	}{
		{"header", "GET /authed\nAuthorization: Bearer secret", alice, ""},
		{"case of the scheme", "GET /authed\nAuthorization: bearer  secret ", alice, ""},
		{"query", "GET /authed?x=1&access_token=secret", alice, ""},
		{"header before query", "GET /authed?access_token=other\nAuthorization: Bearer secret", alice, ""},
		{"none", "GET /authed", "", matrix.MissingToken},
		{"empty", "GET /authed\nAuthorization: Bearer ", "", matrix.MissingToken},
		{"another scheme", "GET /authed\nAuthorization: Basic secret", "", matrix.MissingToken},
		{"no scheme", "GET /authed\nAuthorization: secret", "", matrix.MissingToken},
		{"unknown", "GET /authed\nAuthorization: Bearer wrong", "", matrix.UnknownToken},
		{"open does not look", "GET /open\nAuthorization: Bearer wrong", `{"text":"  "}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := ask(t, h, test.req, "")
			if test.code != "" {
				wantError(t, w, 401, test.code, "")
				return
			}
			wantAnswer(t, w, 200, test.want)
		})
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "access_token") {
		t.Errorf("the log has a token or a query:\n%s", log)
	}
	if want := `msg=request method=GET route=/authed status=200`; !strings.Contains(log.String(), want) {
		t.Errorf("log: got %s, want a line with %s", log, want)
	}
	if want := "user=@alice:test"; !strings.Contains(log.String(), want) {
		t.Errorf("log: got %s, want a line with %s", log, want)
	}
}

func TestPaths(t *testing.T) {
	show := func(name string) http.HandlerFunc {
		return Open(nil, func(_ context.Context, c *Call, _ *None) (*answer, error) {
			text := name
			for _, p := range c.x.route.params {
				text += " [" + c.Path(p) + "]"
			}
			return say("%s", text)
		})
	}
	h, _ := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/rooms/{room}/state/{type}/{key}", show("key"))
		r.Get("/rooms/{room}/state/{type}/", show("slash"))
		r.Get("/rooms/{room}/state/{type}", show("type"))
		r.Get("/rooms/{room}/state", show("state"))
		r.Get("/pushrules/", show("pushrules"))
		r.Get("/four/{a}/{b}/{c}/{d}", show("four"))
	})
	tests := []struct{ path, want string }{
		{"/rooms/!a:b/state", "state [!a:b]"},
		{"/rooms/%21a%3Ab/state", "state [!a:b]"},
		{"/rooms/!a:b/state/m.x", "type [!a:b] [m.x]"},
		{"/rooms/!a:b/state/m.x/", "slash [!a:b] [m.x]"},
		{"/rooms/!a:b/state/m.x/k", "key [!a:b] [m.x] [k]"},
		{"/rooms/!a%2Fb:c/state/m.x/a%2Fb%2f", "key [!a/b:c] [m.x] [a/b/]"},
		{"/rooms/!a:b/state/m.x/%252F", "key [!a:b] [m.x] [%2F]"},
		{"/rooms/!a:b/state/m.x/%25", "key [!a:b] [m.x] [%]"},
		{"/rooms/!a:b/state/m.x/100%25%20+", "key [!a:b] [m.x] [100% +]"},
		{"/rooms/!a:b/state/m.x/%C3%BC%F0%9F%98%80", "key [!a:b] [m.x] [ü😀]"},
		{"/rooms/!a:b/state/m.x/%40u%3Ax%3Fq%23f", "key [!a:b] [m.x] [@u:x?q#f]"},
		{"/rooms/!a:b/state/m.x/..%2F..", "key [!a:b] [m.x] [../..]"},
		{"/four/1/%32/%2F/%2525", "four [1] [2] [/] [%25]"},
		{"/pushrules/", "pushrules"},
	}
	for _, test := range tests {
		want, _ := json.Marshal(answer{test.want})
		wantAnswer(t, ask(t, h, "GET "+test.path, ""), 200, string(want))
	}
	for _, path := range []string{"/pushrules", "/rooms/!a:b/state/m.x/k/", "/rooms/!a:b//", "/", "//", "/rooms%2Fx/state"} {
		wantError(t, ask(t, h, "GET "+path, ""), 404, matrix.Unrecognized, "no such endpoint")
	}
}

func TestWrongParameterPanics(t *testing.T) {
	h, log := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/{roomID}", Open(nil, func(_ context.Context, c *Call, _ *None) (*answer, error) {
			return say("%s", c.Path("roomId"))
		}))
	})
	wantError(t, ask(t, h, "GET /x", ""), 500, matrix.Unknown, "internal error")
	if !strings.Contains(log.String(), "has no parameter roomId") {
		t.Errorf("log: got %s, want the bug named", log)
	}
}

func TestMethods(t *testing.T) {
	h, _ := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/a/{x}", Authed(known, nil, whoami))
		r.Put("/a/{x}", Authed(known, nil, whoami))
		r.Delete("/d", Authed(known, nil, whoami))
	})
	for _, req := range []string{"POST /a/x", "DELETE /a/x", "BREW /a/x", "PATCH /a/x"} {
		w := ask(t, h, req, "")
		wantError(t, w, 405, matrix.Unrecognized, "method")
		if got, want := w.Header().Get("Allow"), "GET, HEAD, PUT, OPTIONS"; got != want {
			t.Errorf("%s: Allow: got %q, want %q", req, got, want)
		}
	}
	wantError(t, ask(t, h, "BREW /nowhere", ""), 404, matrix.Unrecognized, "")
	for _, path := range []string{"/a/x", "/d", "/nowhere", "/"} {
		w := ask(t, h, "OPTIONS "+path, "")
		wantAnswer(t, w, 200, "")
		want := "GET, POST, PUT, DELETE, OPTIONS"
		if got := w.Header().Get("Access-Control-Allow-Methods"); got != want {
			t.Errorf("methods: got %q, want %q", got, want)
		}
		want = "X-Requested-With, Content-Type, Authorization"
		if got := w.Header().Get("Access-Control-Allow-Headers"); got != want {
			t.Errorf("headers: got %q, want %q", got, want)
		}
	}
	if w := ask(t, h, "HEAD /a/x\nAuthorization: Bearer secret", ""); w.Code != 200 {
		t.Errorf("HEAD: got %d, want 200", w.Code)
	}
}

func TestQuery(t *testing.T) {
	h, _ := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/q", Open(nil, func(_ context.Context, c *Call, _ *None) (*answer, error) {
			return say("%s|%t|%v|%s", c.Query("a b"), c.HasQuery("a b"), c.QueryAll("a b"), c.Header("X-H"))
		}))
	})
	tests := []struct{ query, want string }{
		{"", "|false|[]|h"},
		{"a+b=1", "1|true|[1]|h"},
		{"x=y&a%20b=%3D%26+x&a+b=2", "=& x|true|[=& x 2]|h"},
		{"a+b", "|true|[]|h"},
		{"a+b=&", "|true|[]|h"},
		{"a+b=%zz&a+b=ok", "ok|true|[ok]|h"},
		{"%zz=1&&=&a+b=a=b", "a=b|true|[a=b]|h"},
	}
	for _, test := range tests {
		want, _ := json.Marshal(answer{test.want})
		w := ask(t, h, "GET /q?"+test.query+"\nX-H: h", "")
		got := strings.ReplaceAll(w.Body.String(), `\u0026`, "&")
		if want := strings.ReplaceAll(string(want), `\u0026`, "&"); got != want {
			t.Errorf("?%s: got %s, want %s", test.query, got, want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"a=b", "a+b=%20&a%20b", "&&=&a", "%zz=1&a=%"} {
		f.Add(seed, "a")
	}
	f.Fuzz(func(t *testing.T, raw, name string) {
		if strings.Contains(raw, ";") {
			return // net/url refuses what it once took for a separator
		}
		all, _ := url.ParseQuery(raw)
		want, wantFound := all[name]
		got, found := firstQuery(raw, name)
		if found != wantFound || found && got != want[0] {
			t.Errorf("%q in %q: got %q %t, want %q", name, raw, got, found, want)
		}
	})
}

func TestErrors(t *testing.T) {
	fail := func(err error) http.HandlerFunc {
		return Open(nil, func(context.Context, *Call, *None) (*answer, error) { return nil, err })
	}
	h, log := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/forbidden", fail(matrix.Errorf(matrix.Forbidden, "no <you>")))
		r.Get("/wrapped", fail(fmt.Errorf("join: %w", matrix.Errorf(matrix.NotFound, "none").WithStatus(410).With("more", 1))))
		r.Get("/limited", fail(matrix.Errorf(matrix.LimitExceeded, "wait").With("retry_after_ms", int64(1001))))
		r.Get("/internal", fail(errors.New("the disk is on fire")))
		r.Get("/timeout", fail(context.DeadlineExceeded))
		r.Get("/panic", Open(nil, func(context.Context, *Call, *None) (*answer, error) { panic("a bug") }))
		r.Get("/special", fail(&Answer{Status: 401, JSON: map[string]any{"flows": []int{}}}))
		r.Get("/unencodable", Open(nil, func(context.Context, *Call, *None) (*map[string]any, error) {
			return &map[string]any{"f": func() {}}, nil
		}))
	})
	wantError(t, ask(t, h, "GET /forbidden", ""), 403, matrix.Forbidden, "no <you>")
	wantAnswer(t, ask(t, h, "GET /wrapped", ""), 410, `{"errcode":"M_NOT_FOUND","error":"none","more":1}`)
	w := ask(t, h, "GET /limited", "")
	wantError(t, w, 429, matrix.LimitExceeded, "wait")
	if got := w.Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: got %q, want 2", got)
	}
	wantAnswer(t, ask(t, h, "GET /special", ""), 401, `{"flows":[]}`)
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: got %s, want no errors for what clients did", log)
	}
	for _, test := range []struct{ path, want string }{
		{"/internal", "the disk is on fire"}, {"/timeout", "deadline"}, {"/unencodable", "func()"}, {"/panic", "httpapi_test.go"},
	} {
		log.Reset()
		w := ask(t, h, "GET "+test.path, "")
		wantError(t, w, 500, matrix.Unknown, "internal error")
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), test.want) {
			t.Errorf("%s: got %d error lines, want 1 with %q:\n%s", test.path, n, test.want, log)
		}
	}
}

func TestClientGone(t *testing.T) {
	h, log := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/poll", Open(nil, func(ctx context.Context, _ *Call, _ *None) (*answer, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("wait: %w", ctx.Err())
		}))
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/poll", nil))
	if w.Body.Len() > 0 {
		t.Errorf("got %q, want nothing written", w.Body)
	}
	if strings.Contains(log.String(), "ERROR") || !strings.Contains(log.String(), "status=499") {
		t.Errorf("log: got %s, want a quiet line with 499", log)
	}
}

func TestAnswers(t *testing.T) {
	h, _ := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/nil", Open(nil, func(context.Context, *Call, *None) (*answer, error) { return nil, nil }))
		r.Get("/none", Open(nil, func(context.Context, *Call, *None) (*None, error) { return &None{}, nil }))
		r.Get("/html", Open(nil, func(context.Context, *Call, *None) (*answer, error) { return say("<a&b>") }))
		r.Get("/raw", Open(nil, func(context.Context, *Call, *None) (*Raw, error) {
			raw := Raw(`{"a": "<"}`)
			return &raw, nil
		}))
		r.Get("/large", Open(nil, func(context.Context, *Call, *None) (*answer, error) {
			return say("%s", strings.Repeat("x", 100_000))
		}))
		r.Get("/redirect", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Status: http.StatusFound, Header: http.Header{"Location": {"https://x/"}}}, nil
		}))
		r.Get("/created", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Status: 201, JSON: answer{"new"}, Header: http.Header{"etag": {"1"}}}, nil
		}))
		r.Get("/seek", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Stream: strings.NewReader("<html>0123456789")}, nil
		}))
		r.Get("/stream", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Stream: io.LimitReader(strings.NewReader("0123456789"), 4)}, nil
		}))
	})
	wantAnswer(t, ask(t, h, "GET /nil", ""), 200, "{}")
	wantAnswer(t, ask(t, h, "GET /none", ""), 200, "{}")
	wantAnswer(t, ask(t, h, "GET /html", ""), 200, `{"text":"<a&b>"}`)
	wantAnswer(t, ask(t, h, "GET /raw", ""), 200, `{"a": "<"}`)
	if w := ask(t, h, "GET /large", ""); w.Header().Get("Content-Length") != "100011" || w.Body.Len() != 100_011 {
		t.Errorf("large: got %d bytes, length %q, want 100011", w.Body.Len(), w.Header().Get("Content-Length"))
	}
	w := ask(t, h, "GET /redirect", "")
	wantAnswer(t, w, 302, "")
	if got := w.Header().Get("Location"); got != "https://x/" {
		t.Errorf("Location: got %q, want https://x/", got)
	}
	w = ask(t, h, "GET /created", "")
	wantAnswer(t, w, 201, `{"text":"new"}`)
	if got := w.Header().Get("ETag"); got != "1" {
		t.Errorf("ETag: got %q, want 1", got)
	}
	w = ask(t, h, "GET /seek", "")
	wantAnswer(t, w, 200, "<html>0123456789")
	if got := w.Header().Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("content type: got %q, want it not guessed", got)
	}
	wantAnswer(t, ask(t, h, "GET /seek\nRange: bytes=6-8", ""), 206, "012")
	wantAnswer(t, ask(t, h, "GET /stream", ""), 200, "0123")
}

// broken gives some bytes and an error, and remembers that it was closed.
type broken struct {
	given, closed bool
}

func (b *broken) Read(p []byte) (int, error) {
	if b.given {
		return 0, errors.New("the disk is on fire")
	}
	b.given = true
	return copy(p, "part"), nil
}

func (b *broken) Close() error {
	b.closed = true
	return nil
}

// TestBrokenOff: a client must not take the part for the whole.
func TestBrokenOff(t *testing.T) {
	file := &broken{}
	h, log := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/stream", Open(nil, func(context.Context, *Call, *None) (*Answer, error) { return &Answer{Stream: file}, nil }))
	})
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Get(server.URL + "/stream")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("got a whole answer, want an error")
	}
	server.Close()
	if !file.closed {
		t.Error("the stream was not closed")
	}
	if !strings.Contains(log.String(), "on fire") {
		t.Errorf("log: got %s, want the cause", log)
	}
}
