package keys_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const us = matrix.ServerName("us.example")

// start is when tests begin.
var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// A world has servers under names, all in this process.
type world struct {
	t    testing.TB
	http *httptest.Server

	mu       sync.Mutex
	now      time.Time
	handlers map[string]http.HandlerFunc // by Host; who has none is down
	names    map[netip.Addr]string
	asked    map[string]int // requests by Host
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, now: start, handlers: map[string]http.HandlerFunc{}, names: map[netip.Addr]string{}, asked: map[string]int{},
	}
	w.http = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked[r.Host]++
		h := w.handlers[r.Host]
		w.mu.Unlock()
		if h == nil {
			panic(http.ErrAbortHandler)
		}
		h(rw, r)
	}))
	w.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.http.StartTLS()
	t.Cleanup(w.http.Close)
	return w
}

// LookupNetIP gives each name an address of its own.
func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, name := range w.names {
		if name == host {
			return []netip.Addr{a}, nil
		}
	}
	n := len(w.names) + 1
	a := netip.AddrFrom4([4]byte{8, 0, byte(n >> 8), byte(n)})
	w.names[a] = host
	return []netip.Addr{a}, nil
}

func (w *world) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	w.mu.Lock()
	up := w.handlers[w.names[to.Addr()]] != nil
	w.mu.Unlock()
	if !up || to.Port() != 8448 {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", w.http.Listener.Addr().String())
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) serve(name matrix.ServerName, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handlers[string(name)] = h
}

// down makes servers unreachable.
func (w *world) down(names ...matrix.ServerName) {
	for _, name := range names {
		w.serve(name, nil)
	}
	w.http.CloseClientConnections()
}

// requests is how often a server was asked since the last time this was called.
func (w *world) requests(name matrix.ServerName) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked[string(name)]
	delete(w.asked, string(name))
	return n
}

// peer is a server with a signing key.
type peer struct {
	w     *world
	name  matrix.ServerName
	key   signing.Key
	valid time.Duration  // of what it publishes
	old   map[string]any // old_verify_keys
}

func newKey(t testing.TB, id signing.KeyID, seed byte) signing.Key {
	t.Helper()
	k, err := signing.NewKey(id, bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// peer makes a server that publishes its key.
func (w *world) peer(name matrix.ServerName, seed byte) *peer {
	p := &peer{w: w, name: name, key: newKey(w.t, "ed25519:k", seed), valid: 24 * time.Hour, old: map[string]any{}}
	w.serve(name, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(p.document()) })
	return p
}

// fields are what the server publishes.
func (p *peer) fields() map[string]any {
	return map[string]any{
		"server_name":     p.name,
		"valid_until_ts":  p.w.clock().Add(p.valid).UnixMilli(),
		"verify_keys":     map[signing.KeyID]any{p.key.ID(): map[string]string{"key": signing.EncodeBase64(p.key.Public())}},
		"old_verify_keys": p.old,
	}
}

func (p *peer) document() []byte { return p.sign(p.fields()) }

// sign is fields with the server's signature.
func (p *peer) sign(fields map[string]any) []byte {
	p.w.t.Helper()
	obj, err := canonical.Marshal(fields)
	if err != nil {
		p.w.t.Fatal(err)
	}
	if obj, err = signing.SignJSON(obj, p.name, p.key); err != nil {
		p.w.t.Fatal(err)
	}
	return obj
}

// event is one that the server has signed, in a room of the version, at a time.
func (p *peer) event(version matrix.RoomVersion, at time.Time) *event.Event {
	p.w.t.Helper()
	v, _ := event.VersionOf(version)
	proto := event.Proto{
		Type: event.TypeCreate, StateKey: new(string), RoomID: "!r:us.example", Sender: matrix.UserID("@u:" + p.name),
		Content: []byte(`{"creator":"@u:` + string(p.name) + `"}`), Depth: 1, OriginServerTS: at.UnixMilli(),
	}
	if v.RoomIDs == event.CreateHashRoomIDs {
		proto.RoomID = ""
	}
	e, err := event.Build(v, proto, p.name, p.key)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return e
}

func (w *world) settings(db *storage.DB) keys.Settings {
	w.t.Helper()
	key := newKey(w.t, "ed25519:us", 1)
	client, err := outbound.New(outbound.Settings{
		Federation: config.Federation{Enabled: true, InsecureSkipVerify: true, Deny: []string{"denied.example"}},
		ServerName: us, Key: key, Resolver: w, Connect: w.connect, Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.Close)
	return keys.Settings{
		DB: db, Client: client, ServerName: us, Key: key, Now: w.clock, Log: slog.New(slog.DiscardHandler),
	}
}

// ring is one on a fresh database.
func (w *world) ring(notaries ...matrix.ServerName) *keys.Ring {
	w.t.Helper()
	s := w.settings(storagetest.Open(w.t, storagetest.SQLite))
	s.KeyServers = notaries
	return newRing(w.t, s)
}

func newRing(t testing.TB, s keys.Settings) *keys.Ring {
	t.Helper()
	r, err := keys.New(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	// Our key is noted in the background; a commit that follows ends after that.
	if _, err := s.DB.Commit(context.Background(), nothing{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// nothing is a write of nothing.
type nothing struct{}

func (nothing) Rows(*storage.Item) {}

// The outcomes of checking a signature.
const (
	right       = "right"
	wrong       = "wrong"
	unavailable = "unavailable"
)

func outcome(err error) string {
	switch {
	case err == nil:
		return right
	case errors.Is(err, keys.ErrUnavailable):
		return unavailable
	case matrix.CodeOf(err) == matrix.InvalidSignature:
		return wrong
	}
	return err.Error()
}

// check checks one event.
func check(t testing.TB, what string, r *keys.Ring, e *event.Event, want string) {
	t.Helper()
	errs := r.VerifyEvents(t.Context(), []*event.Event{e})
	if got := outcome(errs[0]); got != want {
		t.Errorf("%s: got %s (%v), want %s", what, got, errs[0], want)
	}
}
