package federation_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/membership"
	peerapi "github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/outbound/outboundtest"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const (
	us    = matrix.ServerName("us.example")
	alice = matrix.UserID("@alice:us.example")
	bob   = matrix.UserID("@bob:them.example")
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// A world is this server, with a network of others that publish keys.
type world struct {
	t            testing.TB
	db           *storage.DB
	ring         *keys.Ring
	accounts     *accounts.Accounts
	rooms        *roomserver.Server
	ephemeral    *ephemeral.Server
	invites      *invitesFake
	takesInvites bool // the rooms take invites, instead of invites
	limits       peerapi.Limits
	api          assembled
	handler      http.Handler

	network *outboundtest.Network

	mu        sync.Mutex
	now       time.Time
	documents map[string]func() []byte // of keys, by host
	heard     []matrix.ServerName
}

func newWorld(t testing.TB) *world { return newWorldOn(t, storagetest.Open(t, storagetest.SQLite)) }

func newWorldOn(t testing.TB, db *storage.DB) *world {
	t.Helper()
	w := &world{t: t, db: db, now: start, documents: map[string]func() []byte{}}
	w.network = outboundtest.New(t, func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		document := w.documents[r.Host]
		w.mu.Unlock()
		if document == nil || !strings.HasPrefix(r.URL.Path, "/_matrix/key/v2/server") {
			rw.WriteHeader(404)
			return
		}
		rw.Write(document())
	})
	w.build()
	if _, err := w.accounts.Register(t.Context(), accounts.Registration{
		Username: "alice", Password: "correct horse battery", InhibitLogin: true, Auth: json.RawMessage(`{"type":"m.login.dummy"}`),
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) build() {
	w.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	key := newKey(w.t, 1)
	settings := w.network.Settings(us, key)
	settings.Now = w.clock
	client := outboundtest.Client(w.t, settings)
	var err error
	w.ring, err = keys.New(w.t.Context(), keys.Settings{DB: w.db, Client: client, ServerName: us, Key: key, Now: w.clock, Log: quiet})
	must(w.t, err)
	w.accounts, err = accounts.New(accounts.Settings{
		DB: w.db, ServerName: us, Registration: config.Open, PasswordHashCost: 4,
		DefaultPushRules: pushrules.DefaultContent, Now: w.clock, Rand: rand.Reader,
	})
	must(w.t, err)
	w.ephemeral, err = ephemeral.New(ephemeral.Settings{Bus: deafBus{}, Now: w.clock, Boot: "one", Log: quiet})
	must(w.t, err)
	w.rooms = roomserver.New(roomserver.Settings{
		DB: w.db, ServerName: us, Key: key, Profiles: w.accounts, DefaultVersion: "11", Now: w.clock, Rand: rand.Reader, Log: quiet,
	})
	w.invites = &invitesFake{key: key}
	gate := &peerapi.Gate{Ring: w.ring, Client: client, Limits: w.limits, Heard: func(s matrix.ServerName) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.heard = append(w.heard, s)
	}}
	var invites membership.Invites = w.invites
	if w.takesInvites {
		invites = w.rooms
	}
	w.api = assemble(parts{
		db: w.db, accounts: w.accounts, rooms: w.rooms, ephemeral: w.ephemeral, gate: gate, key: key, invites: invites,
		remote: remote.New(remote.Settings{HTTP: client, Verifier: w.ring, Log: quiet}), now: w.clock, log: quiet,
	})
	w.handler = httpapi.New(httpapi.Settings{
		APIs: []httpapi.API{{Service: config.Federating, Routes: w.api.Routes}}, Log: quiet, Now: w.clock,
	}).Handler()
}

// run lets the rooms take what comes, until the test ends or stop is called.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.api.inbox.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

// settle waits until nothing waits for rooms any more.
func (w *world) settle() {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		left := w.api.inbox.Waiting()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d rooms still have something to do", left)
		}
	}
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

// deafBus is the bus of a server that is one node.
type deafBus struct{}

func (deafBus) Publish(string, []byte) error                            { return nil }
func (deafBus) Subscribe(string, func([]byte)) (cancel func(), _ error) { return func() {}, nil }

// invitesFake signs what it is given, and notes it.
type invitesFake struct {
	key   signing.Key
	taken []*event.Event
	state [][]json.RawMessage
	err   error
}

func (f *invitesFake) ReceiveInvite(_ context.Context, e *event.Event, state []json.RawMessage) (*event.Event, error) {
	if f.err != nil {
		return nil, f.err
	}
	f.taken, f.state = append(f.taken, e), append(f.state, state)
	obj, err := signing.AddSignature(e.JSON, us, f.key.ID(), signing.EncodeBase64(f.key.Sign(e.RedactedJSON())))
	if err != nil {
		return nil, err
	}
	return event.Load(e.Version, e.ID, obj)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB, seed byte) signing.Key {
	t.Helper()
	k, err := signing.NewKey("ed25519:k", bytes.Repeat([]byte{seed}, 32))
	must(t, err)
	return k
}
