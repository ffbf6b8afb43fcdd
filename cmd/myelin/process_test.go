package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// envProgram makes this test binary the program itself, for tests that need a process to kill.
	envProgram = "MYELIN_TEST_PROGRAM"
	// envBinary names a binary to kill instead, as one built with the race detector.
	envBinary = "MYELIN_BINARY"

	startTime  = 30 * time.Second
	answerTime = 30 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a server in a process of its own, which can be killed and started again at the same address.
type process struct {
	url   string
	flags []string
	attr  *syscall.SysProcAttr
	wrap  []string // what comes before the program, for one that prepares its surroundings; it must exec the rest

	cmd *exec.Cmd
	log *lockedBuffer
}

// newProcess returns a server with data in dir, which is not started yet. Whatever runs at the end of the test is killed.
func newProcess(t *testing.T, dir, database string) *process {
	t.Helper()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := port.Addr().String()
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	return newProcessAt(t, "http://"+address,
		"serve", "--server-name=localhost", "--data-dir", dir, "--database", database, "--listen", address,
		"--registration=open", "--password-hash-cost=4", "--rate-limits-enabled=false", "--log-level=warn",
		"--federation-enabled=false",
	)
}

// newProcessAt returns a server that clients reach at url, and that is not started yet.
func newProcessAt(t *testing.T, url string, flags ...string) *process {
	t.Helper()
	p := &process{url: url, log: &lockedBuffer{}, flags: flags}
	t.Cleanup(func() {
		p.kill()
		if text := p.log.String(); t.Failed() || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic") {
			t.Errorf("the log of the server:\n%s", tail(text, 20_000))
		}
	})
	return p
}

// start starts the server, and waits until it is ready.
func (p *process) start(t *testing.T) {
	t.Helper()
	program := os.Getenv(envBinary)
	if program == "" {
		program = os.Args[0]
	}
	line := append(append([]string{}, p.wrap...), append([]string{program}, p.flags...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), envProgram+"=1")
	cmd.Stdout, cmd.Stderr = io.Discard, p.log
	cmd.SysProcAttr = p.attr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline); {
		response, err := http.Get(p.url + "/ready")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(10 * time.Millisecond) // there is nothing else to wait for: another process opens a port
	}
	t.Fatalf("the server is not ready after %v", startTime)
}

// kill kills the server the hard way, if it runs.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // that it was killed
	p.cmd = nil
}

// lockedBuffer is a buffer that several goroutines use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// manyConnections is a client for many callers at once: they keep their connections.
var manyConnections = &http.Client{
	Timeout:   answerTime,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256},
}

// session is a user's way to a server.
type session struct{ url, user, device, token string }

// reply is an answer of the server.
type reply struct {
	status int
	body   map[string]any
}

func (r reply) text(member string) string {
	text, _ := r.body[member].(string)
	return text
}

// ask makes a request, below /_matrix/client/v3 unless the path is whole. The error is that there was no answer.
func (s session) ask(ctx context.Context, method, path, body string) (r reply, err error) {
	if !strings.HasPrefix(path, "/_") {
		path = "/_matrix/client/v3" + path
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return r, err
	}
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	response, err := manyConnections.Do(request)
	if err != nil {
		return r, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return r, err
	}
	r.status = response.StatusCode
	if err := json.Unmarshal(text, &r.body); err != nil {
		return r, fmt.Errorf("%s %s: got %d %q, want JSON", method, path, r.status, text)
	}
	return r, nil
}

// must is ask for what has to succeed.
func (s session) must(t *testing.T, method, path, body string) reply {
	t.Helper()
	r, err := s.ask(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if r.status != http.StatusOK {
		t.Fatalf("%s %s of %s: got %d %v", method, path, s.user, r.status, r.body)
	}
	return r
}

// register makes an account and signs it in.
func register(ctx context.Context, base, name string) (session, error) {
	body := fmt.Sprintf(`{"username":%q,"password":"secret","auth":{"type":"m.login.dummy"}}`, name)
	r, err := session{url: base, user: name}.ask(ctx, "POST", "/register", body)
	if err == nil && r.status != http.StatusOK {
		err = fmt.Errorf("register %s: got %d %v", name, r.status, r.body)
	}
	return session{base, r.text("user_id"), r.text("device_id"), r.text("access_token")}, err
}

func mustRegister(t *testing.T, base, name string) session {
	t.Helper()
	s, err := register(t.Context(), base, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// inRoom is the path of something in a room.
func inRoom(room, format string, args ...any) string {
	return "/rooms/" + url.PathEscape(room) + fmt.Sprintf(format, args...)
}
