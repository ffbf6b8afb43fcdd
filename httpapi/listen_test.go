package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
)

// listen runs a server until the test stops it, and returns its addresses.
func listen(t *testing.T, routes func(*Router), listeners ...config.Listener) (addrs []net.Addr, stop func() error) {
	t.Helper()
	l, err := New(Settings{APIs: []API{{config.Client, routes}}}).Listen(listeners)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop = func() error {
		cancel()
		return <-ended
	}
	return l.Addrs(), stop
}

var loopback = config.Listener{Address: "127.0.0.1:0"}

func get(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestListenServices(t *testing.T) {
	metrics := loopback
	metrics.Serve = []config.Service{config.Metrics}
	addrs, stop := listen(t, func(r *Router) { r.Get("/x", Open(nil, whoami)) }, loopback, metrics)
	for i, want := range []int{200, 404} {
		resp, _ := get(t, http.DefaultClient, "http://"+addrs[i].String()+"/x")
		if resp.StatusCode != want {
			t.Errorf("listener %d: got %d, want %d", i, resp.StatusCode, want)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("Run: got %v, want no error", err)
	}
	if _, err := http.Get("http://" + addrs[0].String() + "/x"); err == nil {
		t.Error("the port is still open")
	}
}

func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := New(Settings{})
	bad := []config.Listener{
		{Address: taken.Addr().String()},
		{Address: "127.0.0.1:0", TLSCert: filepath.Join(t.TempDir(), "none"), TLSKey: "none"},
	}
	for _, c := range bad {
		if _, err := s.Listen([]config.Listener{loopback, c}); err == nil || !strings.Contains(err.Error(), c.Address) {
			t.Errorf("got %v, want an error with the address %s", err, c.Address)
		}
	}
}

// TestStop holds requests of every kind open, and stops the server.
func TestStop(t *testing.T) {
	begun := make(chan struct{})
	wait := func(until func(context.Context, *Call)) http.HandlerFunc {
		return Open(nil, func(ctx context.Context, c *Call, _ *None) (*answer, error) {
			begun <- struct{}{}
			until(ctx, c)
			return say("empty sync")
		})
	}
	stuck := make(chan struct{})
	defer close(stuck)
	addrs, stop := listen(t, func(r *Router) {
		r.Get("/polite", wait(func(_ context.Context, c *Call) { <-c.Stopping() }))
		r.Get("/stuck", wait(func(context.Context, *Call) { <-stuck }))
		r.Get("/context", Open(nil, func(ctx context.Context, _ *Call, _ *None) (*answer, error) {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}))
	}, loopback)
	base := "http://" + addrs[0].String()
	type result struct {
		status int
		body   string
	}
	ask := func(path string) <-chan result {
		c := make(chan result, 1)
		go func() {
			resp, err := http.Get(base + path)
			if err != nil {
				c <- result{}
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			c <- result{resp.StatusCode, string(body)}
		}()
		<-begun
		return c
	}
	polite, cancelled, abandoned := ask("/polite"), ask("/context"), ask("/stuck")
	start := time.Now()
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("stopping took %v, want at most a second", took)
	}
	if got, want := <-polite, (result{200, `{"text":"empty sync"}`}); got != want {
		t.Errorf("a request that looks at Stopping: got %v, want %v", got, want)
	}
	want := result{503, `{"errcode":"M_UNKNOWN","error":"the server is stopping"}`}
	if got := <-cancelled; got != want {
		t.Errorf("a request that looks at its context: got %v, want %v", got, want)
	}
	if got := <-abandoned; got != (result{}) {
		t.Errorf("a request that looks at nothing: got %v, want its connection closed", got)
	}
}

// TestClientGoesAfterBody: a request with a body sees its client go too, and is not ended by the time limit of bodies.
func TestClientGoesAfterBody(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan error, 1)
	addrs, stop := listen(t, func(r *Router) {
		r.Post("/poll", Open(nil, func(ctx context.Context, _ *Call, in *input) (*answer, error) {
			close(begun)
			<-ctx.Done()
			gone <- context.Cause(ctx)
			return nil, ctx.Err()
		}))
	}, loopback)
	defer stop()
	conn, err := net.Dial("tcp", addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /poll HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	<-begun
	conn.Close()
	if err := <-gone; err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestRefusedBodyIsAnswered: a client that sends too much gets to read why.
func TestRefusedBodyIsAnswered(t *testing.T) {
	addrs, stop := listen(t, bodyRoutes, loopback)
	defer stop()
	for _, length := range []int{DefaultMaxBody + 1, 100 << 20} {
		resp, err := http.Post("http://"+addrs[0].String()+"/json", "text/plain",
			struct{ io.Reader }{io.LimitReader(zeros{}, int64(length))})
		if err != nil {
			t.Fatalf("%d bytes: %v", length, err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("%d bytes: got %d, want 413", length, resp.StatusCode)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSlowBody has a body time limit in the past.
func TestSlowBody(t *testing.T) {
	s := New(Settings{
		APIs: []API{{config.Client, bodyRoutes}},
		Now:  func() time.Time { return time.Now().Add(-2*bodyGrace - bodyTime(DefaultMaxBody)) },
	})
	l, err := s.Listen([]config.Listener{loopback})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	conn, err := net.Dial("tcp", l.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("got %d, want %d", resp.StatusCode, http.StatusRequestTimeout)
	}
}

// TestLargeFile sends more than one piece, from a file and from memory, whole and in part.
func TestLargeFile(t *testing.T) {
	content := make([]byte, 3*pieceBytes+5)
	for i := range content {
		content[i] = byte(i / 1000)
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	addrs, stop := listen(t, func(r *Router) {
		r.Get("/file", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			f, err := os.Open(name)
			return &Answer{Stream: f}, err
		}))
		r.Get("/stream", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Stream: io.MultiReader(bytes.NewReader(content))}, nil
		}))
		r.Get("/memory", Open(nil, func(context.Context, *Call, *None) (*Answer, error) {
			return &Answer{Body: content}, nil
		}))
	}, loopback)
	defer stop()
	for _, path := range []string{"/file", "/stream", "/memory"} {
		if _, got := get(t, http.DefaultClient, "http://"+addrs[0].String()+path); got != string(content) {
			t.Errorf("%s: got %d bytes, want the %d sent", path, len(got), len(content))
		}
	}
	r, err := http.NewRequest("GET", "http://"+addrs[0].String()+"/file", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=10-2097161")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, content[10:2097162]) {
		t.Errorf("range: got %d bytes and %v, want 2 MiB", len(got), err)
	}
}

// deadlines is an http.ResponseWriter that notes its write deadlines.
type deadlines struct {
	discard
	set []bool // whether there is one
}

func (d *deadlines) SetWriteDeadline(until time.Time) error {
	d.set = append(d.set, !until.IsZero())
	return nil
}

func TestWriteDeadlines(t *testing.T) {
	h, _ := serverOf(t, Settings{}, bodyRoutes)
	w := &deadlines{discard: discard{http.Header{}}}
	r, err := http.NewRequest("POST", "/json", strings.NewReader(`{"text":"`+strings.Repeat("x", pieceBytes-100)+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(w, r)
	// None while the body is read, one for the answer; it is of one piece.
	if got, want := fmt.Sprint(w.set), "[false true]"; got != want {
		t.Errorf("one piece: got %s, want %s", got, want)
	}
	w.set = nil
	x := &exchange{w: w, status: 200}
	if n, err := x.Write(make([]byte, 2*pieceBytes+1)); n != 2*pieceBytes+1 || err != nil {
		t.Errorf("Write: got %d, %v", n, err)
	}
	if got, want := fmt.Sprint(w.set), "[true true]"; got != want {
		t.Errorf("three pieces: got %s, want %s", got, want)
	}
}

// writeCert writes a certificate for 127.0.0.1 and returns it.
func writeCert(t *testing.T, certFile, keyFile string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	c := loopback
	c.TLSCert, c.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	roots.AddCert(writeCert(t, c.TLSCert, c.TLSKey, 1))
	addrs, stop := listen(t, func(r *Router) { r.Get("/x", Open(nil, whoami)) }, c)
	defer stop()
	ask := func() *http.Response {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		}}
		defer client.CloseIdleConnections()
		resp, _ := get(t, client, "https://"+addrs[0].String()+"/x")
		return resp
	}
	serial := func(resp *http.Response) int64 { return resp.TLS.PeerCertificates[0].SerialNumber.Int64() }
	resp := ask()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("got %d over %s, want 200 over HTTP/2", resp.StatusCode, resp.Proto)
	}
	// Renewed, while the server runs.
	roots.AddCert(writeCert(t, c.TLSCert, c.TLSKey, 2))
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(c.TLSCert, later, later); err != nil {
		t.Fatal(err)
	}
	if got := serial(ask()); got != 2 {
		t.Errorf("after renewal: got certificate %d, want 2", got)
	}
	// Half-way through being replaced.
	if err := os.WriteFile(c.TLSCert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(ask()); got != 2 {
		t.Errorf("with a broken file: got certificate %d, want 2", got)
	}
}
