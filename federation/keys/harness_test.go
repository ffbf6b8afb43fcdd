package keys_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound/outboundtest"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const us = matrix.ServerName("us.example")

// start is when tests begin.
var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// A world has servers under names, all in this process.
type world struct {
	t       testing.TB
	network *outboundtest.Network

	mu       sync.Mutex
	now      time.Time
	handlers map[string]http.HandlerFunc // by Host; who has none is down
	asked    map[string]int              // requests by Host
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, now: start, handlers: map[string]http.HandlerFunc{}, asked: map[string]int{},
	}
	w.network = outboundtest.New(t, func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked[r.Host]++
		h := w.handlers[r.Host]
		w.mu.Unlock()
		if h == nil {
			panic(http.ErrAbortHandler)
		}
		h(rw, r)
	})
	w.network.IsUp = func(host string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.handlers[host] != nil
	}
	return w
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
	w.network.Cut()
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
	settings := w.network.Settings(us, key)
	settings.Now = w.clock
	return keys.Settings{
		DB: db, Client: outboundtest.Client(w.t, settings), ServerName: us, Key: key, Now: w.clock, Log: slog.New(slog.DiscardHandler),
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
