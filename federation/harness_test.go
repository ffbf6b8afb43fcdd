package federation

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
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
	t         testing.TB
	db        *storage.DB
	ring      *keys.Ring
	accounts  *accounts.Accounts
	rooms     *roomserver.Server
	ephemeral *ephemeral.Server
	invites   *invitesFake
	api       *API
	handler   http.Handler

	network *httptest.Server

	mu        sync.Mutex
	now       time.Time
	documents map[string]func() []byte // of keys, by host
	heard     []matrix.ServerName
}

func newWorld(t testing.TB) *world { return newWorldOn(t, storagetest.Open(t, storagetest.SQLite)) }

func newWorldOn(t testing.TB, db *storage.DB) *world {
	t.Helper()
	w := &world{t: t, db: db, now: start, documents: map[string]func() []byte{}}
	w.network = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		document := w.documents[r.Host]
		w.mu.Unlock()
		if document == nil || !strings.HasPrefix(r.URL.Path, "/_matrix/key/v2/server") {
			rw.WriteHeader(404)
			return
		}
		rw.Write(document())
	}))
	w.network.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.network.StartTLS()
	t.Cleanup(w.network.Close)
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
	client, err := outbound.New(outbound.Settings{
		Federation: config.Federation{Enabled: true, InsecureSkipVerify: true, Deny: []string{"denied.example"}},
		ServerName: us, Key: key, Resolver: w, Connect: w.connect, Now: w.clock,
	})
	must(w.t, err)
	w.t.Cleanup(client.Close)
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
	w.api = New(Settings{
		DB: w.db, Ring: w.ring, Client: client, Accounts: w.accounts, Rooms: w.rooms, Ephemeral: w.ephemeral,
		Invites: w.invites, Version: "1.2.3", Now: w.clock, Log: quiet,
		Heard: func(s matrix.ServerName) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.heard = append(w.heard, s)
		},
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
		_ = w.api.Run(ctx)
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
		w.api.inbox.mu.Lock()
		left := len(w.api.inbox.backlog.lines)
		w.api.inbox.mu.Unlock()
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

func (*world) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("8.0.0.1")}, nil
}

func (*world) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (w *world) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if to.Port() != 8448 {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", w.network.Listener.Addr().String())
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

// A peer is another server.
type peer struct {
	w    *world
	name matrix.ServerName
	key  signing.Key
	txns int
}

func (w *world) peer(name matrix.ServerName, seed byte) *peer {
	w.t.Helper()
	p := &peer{w: w, name: name, key: newKey(w.t, seed)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.documents[string(name)] = p.document
	return p
}

// them is the server of bob.
func (w *world) them() *peer { return w.peer("them.example", 2) }

func (p *peer) document() []byte {
	obj, err := canonical.Marshal(map[string]any{
		"server_name": p.name, "valid_until_ts": p.w.clock().Add(24 * time.Hour).UnixMilli(), "old_verify_keys": map[string]any{},
		"verify_keys": map[signing.KeyID]any{p.key.ID(): map[string]string{"key": signing.EncodeBase64(p.key.Public())}},
	})
	must(p.w.t, err)
	obj, err = signing.SignJSON(obj, p.name, p.key)
	must(p.w.t, err)
	return obj
}

// An answer is what this server said.
type answer struct {
	t      testing.TB
	what   string
	status int
	body   []byte
}

// request makes a request that the peer has signed. The body is JSON, or a value to be encoded; nil: none.
func (p *peer) request(method, uri string, body any) answer {
	p.w.t.Helper()
	var content []byte
	switch body := body.(type) {
	case nil:
	case []byte:
		content = body
	default:
		var err error
		content, err = json.Marshal(body)
		must(p.w.t, err)
	}
	signed := outbound.SignedRequest{Method: method, URI: uri, Origin: p.name, Destination: us}
	if content != nil {
		canon, err := canonical.JSON(content, canonical.Lenient)
		if err == nil {
			signed.Content = canon
		}
	}
	return p.w.ask(method, uri, content, signed.Sign(p.key).String())
}

func (w *world) ask(method, uri string, content []byte, authorization string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, uri, bytes.NewReader(content))
	r.RequestURI = uri
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	rw := httptest.NewRecorder()
	w.handler.ServeHTTP(rw, r)
	return answer{t: w.t, what: method + " " + uri, status: rw.Code, body: rw.Body.Bytes()}
}

func (p *peer) get(uri string) answer            { p.w.t.Helper(); return p.request("GET", uri, nil) }
func (p *peer) put(uri string, body any) answer  { p.w.t.Helper(); return p.request("PUT", uri, body) }
func (p *peer) post(uri string, body any) answer { p.w.t.Helper(); return p.request("POST", uri, body) }

func (a answer) fails(status int, code matrix.ErrorCode) answer {
	a.t.Helper()
	var body struct {
		Code matrix.ErrorCode `json:"errcode"`
	}
	_ = json.Unmarshal(a.body, &body)
	if a.status != status || body.Code != code {
		a.t.Errorf("%.120s: got %d %.300s, want %d %s", a.what, a.status, a.body, status, code)
	}
	return a
}

// into decodes an answer that is no error.
func (a answer) into(v any) {
	a.t.Helper()
	if a.status != 200 {
		a.t.Fatalf("%.120s: got %d %.300s, want 200", a.what, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%.120s: %v in %.300s", a.what, err, a.body)
	}
}

// is compares JSON.
func (a answer) is(want string) {
	a.t.Helper()
	var got, w any
	a.into(&got)
	must(a.t, json.Unmarshal([]byte(want), &w))
	g, _ := json.Marshal(got)
	ww, _ := json.Marshal(w)
	if !bytes.Equal(g, ww) {
		a.t.Errorf("%.120s: got %s, want %s", a.what, g, ww)
	}
}

// path joins segments below /_matrix/federation.
func path[T ~string](version string, segments ...T) string {
	all := []string{"_matrix", "federation", version}
	for _, s := range segments {
		all = append(all, string(s))
	}
	return outbound.Path(all...)
}

func by(user matrix.UserID) matrix.Requester {
	return matrix.Requester{Account: user, User: user, Device: "D"}
}

// room makes a public room of alice's.
func (w *world) room(visibility string, state ...roomserver.InitialState) rooms.Room {
	w.t.Helper()
	return w.roomOf("11", visibility, state...)
}

func (w *world) roomOf(version matrix.RoomVersion, visibility string, state ...roomserver.InitialState) rooms.Room {
	w.t.Helper()
	id, err := w.rooms.Create(w.t.Context(), by(alice), roomserver.CreateRoom{
		Preset: "public_chat", Version: version,
		InitialState: append([]roomserver.InitialState{{
			Type: event.TypeHistoryVisibility, Content: []byte(`{"history_visibility":"` + visibility + `"}`),
		}}, state...),
	})
	must(w.t, err)
	room, err := w.rooms.Room(w.t.Context(), id)
	must(w.t, err)
	return room
}

func (w *world) say(room rooms.Room, text string) matrix.EventID {
	w.t.Helper()
	id, err := w.rooms.Send(w.t.Context(), by(alice), roomserver.SendEvent{
		Room: room.ID, Type: event.TypeMessage, Content: fmt.Appendf(nil, `{"body":%q}`, text),
	})
	must(w.t, err)
	return id
}

func (w *world) set(room rooms.Room, typ, content string) matrix.EventID {
	w.t.Helper()
	id, err := w.rooms.SendState(w.t.Context(), by(alice), roomserver.SendState{Room: room.ID, Type: typ, Content: []byte(content)})
	must(w.t, err)
	return id
}

// stored returns an event, nil if it is not stored.
func (w *world) stored(room rooms.Room, id matrix.EventID) *rooms.Event {
	w.t.Helper()
	e, _, err := rooms.EventByID(w.t.Context(), w.db, room, id)
	must(w.t, err)
	return e
}

// draft is an event of a user of the peer, on top of the room as it is.
func (p *peer) draft(room rooms.Room, typ string, content string) event.Proto {
	p.w.t.Helper()
	ctx := p.w.t.Context()
	head, _, err := rooms.HeadOf(ctx, p.w.db, room.Num)
	must(p.w.t, err)
	tips, err := p.w.rooms.Events(ctx, room, head.Extremities)
	must(p.w.t, err)
	proto := event.Proto{
		Type: typ, Sender: matrix.UserID("@bob:" + p.name), RoomID: room.ID, Content: []byte(content), OriginServerTS: p.w.clock().UnixMilli(),
	}
	for _, tip := range tips {
		proto.PrevEvents = append(proto.PrevEvents, tip.ID)
		proto.Depth = max(proto.Depth, tip.Depth+1)
	}
	return proto
}

// build authorises a draft by the current state, and signs it.
func (p *peer) build(room rooms.Room, proto event.Proto) *event.Event {
	p.w.t.Helper()
	ctx := p.w.t.Context()
	state, err := p.w.rooms.Current(ctx, room.ID)
	must(p.w.t, err)
	key := ""
	if proto.StateKey != nil {
		key = *proto.StateKey
	}
	found, err := state.Events(ctx, auth.Needed(room.Version, proto.Type, key, proto.Sender, proto.Content)...)
	must(p.w.t, err)
	for _, e := range found {
		if e != nil {
			proto.AuthEvents = append(proto.AuthEvents, e.ID)
		}
	}
	e, err := event.Build(room.Version, proto, p.name, p.key)
	must(p.w.t, err)
	return e
}

// message is one of the peer's user, on top of the room as it is.
func (p *peer) message(room rooms.Room, text string) *event.Event {
	p.w.t.Helper()
	return p.build(room, p.draft(room, event.TypeMessage, fmt.Sprintf(`{"body":%q}`, text)))
}

// member is a membership that the peer's user gives itself.
func (p *peer) member(room rooms.Room, m event.Membership) *event.Event {
	p.w.t.Helper()
	proto := p.draft(room, event.TypeMember, `{"membership":"`+string(m)+`"}`)
	user := string(proto.Sender)
	proto.StateKey = &user
	return p.build(room, proto)
}

// join lets bob of the peer into a room.
func (p *peer) join(room rooms.Room) *event.Event {
	p.w.t.Helper()
	e := p.member(room, event.Join)
	p.put(path("v2", "send_join", string(room.ID), string(e.ID)), []byte(e.JSON)).into(new(any))
	return e
}

// send sends a transaction and returns the errors of its PDUs.
func (p *peer) send(pdus []*event.Event, edus ...string) map[matrix.EventID]string {
	p.w.t.Helper()
	p.txns++
	raw := make([]json.RawMessage, len(pdus))
	for i, e := range pdus {
		raw[i] = e.JSON
	}
	return p.sendRaw(fmt.Sprint(p.txns), raw, edus...)
}

func (p *peer) sendRaw(id string, pdus []json.RawMessage, edus ...string) map[matrix.EventID]string {
	p.w.t.Helper()
	var out struct {
		PDUs map[matrix.EventID]struct{ Error string }
	}
	p.put(path("v1", "send", id), p.transaction(pdus, edus...)).into(&out)
	results := map[matrix.EventID]string{}
	for id, r := range out.PDUs {
		results[id] = r.Error
	}
	return results
}

func (p *peer) transaction(pdus []json.RawMessage, edus ...string) map[string]any {
	list := make([]json.RawMessage, len(edus))
	for i, e := range edus {
		list[i] = json.RawMessage(e)
	}
	if pdus == nil {
		pdus = []json.RawMessage{}
	}
	return map[string]any{"origin": p.name, "origin_server_ts": 1, "pdus": pdus, "edus": list}
}

// flip returns an event's JSON with one bit of its sender's signature changed.
func flip(t testing.TB, e *event.Event) json.RawMessage {
	t.Helper()
	server := e.Sender.Server()
	id := e.SignedBy(server)[0]
	text, _ := canonical.String(canonical.Get(e.JSON, "signatures", string(server), string(id)))
	sig, err := signing.DecodeBase64(text)
	must(t, err)
	sig[7] ^= 1
	obj, err := signing.AddSignature(e.JSON, server, id, signing.EncodeBase64(sig))
	must(t, err)
	return obj
}
