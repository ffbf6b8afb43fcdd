package federation_test

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/network"
	peerapi "github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/outbound/outboundtest"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// A town is several servers in one process, each with its own address, and a network between them.
type town struct {
	t       testing.TB
	network *outboundtest.Network

	mu    sync.Mutex
	doors map[string]*door // by host
}

// A door is where a server answers.
type door struct {
	http.Handler
	dead atomic.Bool
}

func newTown(t testing.TB) *town {
	w := &town{t: t, doors: map[string]*door{}}
	w.network = outboundtest.New(t, func(rw http.ResponseWriter, r *http.Request) {
		d := w.open(r.Host)
		if d == nil {
			panic(http.ErrAbortHandler) // over a connection from before
		}
		d.ServeHTTP(rw, r)
	})
	w.network.IsUp = func(host string) bool { return w.open(host) != nil }
	return w
}

// open returns the door of a host, nil if nobody answers.
func (w *town) open(host string) *door {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.doors[host]; d != nil && !d.dead.Load() {
		return d
	}
	return nil
}

// settle lets a handler answer for a host.
func (w *town) settle(host string, h http.Handler) *door {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doors[host] = &door{Handler: h}
	return w.doors[host]
}

// A house is one server of a town, with users alice and bob.
type house struct {
	t        testing.TB
	name     matrix.ServerName
	key      signing.Key
	db       *storage.DB
	accounts *accounts.Accounts
	rooms    *roomserver.Server
	ring     *keys.Ring
	remote   *remote.Client
	network  *network.Network
	door     *door

	mu     sync.Mutex
	passed time.Duration                         // as the network has it
	tamper func(path string, body []byte) []byte // with what it answers; nil: not
	asked  []string                              // method and path of requests about memberships
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.passed)
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passed += d
}

func (w *town) house(name matrix.ServerName) *house {
	w.t.Helper()
	return w.houseOn(name, storagetest.Open(w.t, storagetest.SQLite))
}

func (w *town) houseOn(name matrix.ServerName, db *storage.DB) *house {
	t := w.t
	t.Helper()
	h := &house{t: t, name: name, db: db}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h.key, err = signing.Generate(rand.Reader)
	check()
	client := outboundtest.Client(t, w.network.Settings(name, h.key))
	h.ring, err = keys.New(t.Context(), keys.Settings{DB: db, Client: client, ServerName: name, Key: h.key, Now: time.Now, Log: quiet})
	check()
	h.accounts, err = accounts.New(accounts.Settings{
		DB: db, ServerName: name, Registration: config.Open, PasswordHashCost: 4,
		DefaultPushRules: pushrules.DefaultContent, Now: time.Now, Rand: rand.Reader,
	})
	check()
	h.remote = remote.New(remote.Settings{HTTP: client, Verifier: h.ring, Log: quiet})
	h.rooms = roomserver.New(roomserver.Settings{
		DB: db, ServerName: name, Key: h.key, Profiles: h.accounts, Remote: network.NewRooms(h.remote),
		DefaultVersion: "12", Now: time.Now, Rand: rand.Reader, Log: quiet,
	})
	eph, err := ephemeral.New(ephemeral.Settings{Bus: deafBus{}, Now: time.Now, Boot: "one", Log: quiet})
	check()
	api := assemble(parts{
		db: db, accounts: h.accounts, rooms: h.rooms, ephemeral: eph, invites: h.rooms, remote: h.remote, key: h.key,
		gate: &peerapi.Gate{Ring: h.ring, Client: client}, now: h.clock, log: quiet,
	})
	h.network = api.network
	h.door = w.settle(string(name), h.watched(httpapi.New(httpapi.Settings{
		APIs: []httpapi.API{{Service: config.Federating, Routes: api.Routes}}, Log: quiet, Now: time.Now,
	}).Handler()))
	for _, user := range []string{"alice", "bob"} {
		_, err = h.accounts.Register(t.Context(), accounts.Registration{
			Username: user, Password: "correct horse battery", InhibitLogin: true, Auth: json.RawMessage(`{"type":"m.login.dummy"}`),
		})
		check()
	}
	return h
}

// watched notes what is asked, and lets the test change what is answered.
func (h *house) watched(to http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		answer := httptest.NewRecorder()
		to.ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		h.mu.Lock()
		if strings.HasPrefix(r.URL.Path, "/_matrix/federation/") {
			h.asked = append(h.asked, r.Method+" "+strings.Split(r.URL.Path, "/")[4])
		}
		if h.tamper != nil && answer.Code == 200 {
			body = h.tamper(r.URL.Path, body)
		}
		h.mu.Unlock()
		rw.WriteHeader(answer.Code)
		rw.Write(body)
	})
}

func (h *house) user(name string) matrix.UserID {
	return matrix.UserID("@" + name + ":" + string(h.name))
}

func (h *house) as(name string) matrix.Requester {
	return matrix.Requester{Account: h.user(name), User: h.user(name), Device: "D"}
}

func (h *house) create(in roomserver.CreateRoom) matrix.RoomID {
	h.t.Helper()
	id, err := h.rooms.Create(h.t.Context(), h.as("alice"), in)
	if err != nil {
		h.t.Fatal(err)
	}
	return id
}

func (h *house) set(room matrix.RoomID, typ, content string) {
	h.t.Helper()
	_, err := h.rooms.SendState(h.t.Context(), h.as("alice"), roomserver.SendState{Room: room, Type: typ, Content: []byte(content)})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) join(name string, room matrix.RoomID, via ...matrix.ServerName) error {
	return h.network.Join(h.t.Context(), h.as(name), roomserver.JoinRoom{Room: room}, via)
}

// member is what the current state of a room says of a user.
func (h *house) member(room matrix.RoomID, user matrix.UserID) event.Membership {
	h.t.Helper()
	state, err := h.rooms.Current(h.t.Context(), room)
	if err != nil {
		return ""
	}
	m, _, err := state.Member(h.t.Context(), user)
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// stands is what sync would tell a user of a room.
func (h *house) stands(name string, room matrix.RoomID) rooms.Membership {
	h.t.Helper()
	all, err := rooms.MembershipsOfUser(h.t.Context(), h.db, h.user(name), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, m := range all {
		if m.Room == room {
			return m
		}
	}
	return rooms.Membership{}
}

func wantCode(t testing.TB, what string, err error, want matrix.ErrorCode) {
	t.Helper()
	if got := matrix.CodeOf(err); got != want {
		t.Errorf("%s: got %v, want the code %q", what, err, want)
	}
}

func wantMember(t testing.TB, what string, got, want event.Membership) {
	t.Helper()
	if got != want {
		t.Errorf("%s: the membership is %q, want %q", what, got, want)
	}
}

// deliver brings what is new in a room to another house, as the outbox would.
func (h *house) deliver(to *house, room matrix.RoomID) {
	h.t.Helper()
	r, err := h.rooms.Room(h.t.Context(), room)
	if err != nil {
		h.t.Fatal(err)
	}
	found, err := rooms.Timeline(h.t.Context(), h.db, r, storage.Span{UpTo: h.db.Position()}, 1)
	if err != nil || len(found) == 0 {
		h.t.Fatal("no event:", err)
	}
	for _, got := range to.rooms.Receive(h.t.Context(), h.name, room, []*event.Event{found[0].Event}) {
		if got.Outcome != roomserver.Accepted && got.Outcome != roomserver.Known {
			h.t.Fatalf("%s: outcome %d, %v", got.Event, got.Outcome, got.Err)
		}
	}
}

// invite makes the host invite bob of the guest.
func (h *house) invite(room matrix.RoomID, target matrix.UserID) error {
	return h.network.Invite(h.t.Context(), h.as("alice"), roomserver.Move{Room: room, Target: target}, true)
}

func (h *house) stateText(room matrix.RoomID, key event.Key) string {
	h.t.Helper()
	state, err := h.rooms.Current(h.t.Context(), room)
	if err != nil {
		h.t.Fatal(err)
	}
	ev, err := state.Event(h.t.Context(), key)
	if err != nil || ev == nil {
		h.t.Fatalf("no %v (%v)", key, err)
	}
	return string(ev.Content)
}
