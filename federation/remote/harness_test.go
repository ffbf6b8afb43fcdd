package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/outbound/outboundtest"
)

const (
	us   = matrix.ServerName("us.example")
	them = matrix.ServerName("them.example")

	alice = matrix.UserID("@alice:us.example")
	bob   = matrix.UserID("@bob:them.example")
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

var errNoKey = errors.New("no key")

// A keyBook checks signatures with keys that it was given.
type keyBook map[matrix.ServerName]signing.Key

func (b keyBook) VerifyEvents(ctx context.Context, events []*event.Event) []error {
	errs := make([]error, len(events))
	for i, e := range events {
		for _, s := range e.RequiredSigners() {
			if key, ok := b[s]; !ok {
				errs[i] = errNoKey
			} else if err := event.VerifySignature(e, s, key.ID(), key.Public()); err != nil {
				errs[i] = err
			}
		}
	}
	return errs
}

func (b keyBook) VerifyObject(_ context.Context, obj []byte, by matrix.ServerName, _ int64) error {
	key, ok := b[by]
	if !ok {
		return errNoKey
	}
	return signing.VerifyJSON(obj, by, key.ID(), key.Public())
}

func newKey(t testing.TB, id signing.KeyID, seed byte) signing.Key {
	t.Helper()
	k, err := signing.NewKey(id, bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A world is a client and the one server that answers for all others, by a script.
type world struct {
	t      testing.TB
	keys   keyBook
	client *remote.Client
	http   *outbound.Client

	mu      sync.Mutex
	answer  http.HandlerFunc
	asked   []*http.Request
	content [][]byte // of the bodies of asked
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, keys: keyBook{us: newKey(t, "ed25519:us", 1), them: newKey(t, "ed25519:them", 2)}}
	w.http = outboundtest.Client(t, outboundtest.New(t, w.serve).Settings(us, w.keys[us]))
	w.client = remote.New(remote.Settings{HTTP: w.http, Verifier: w.keys, Log: slog.New(slog.DiscardHandler)})
	return w
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/.well-known/matrix/server" {
		rw.WriteHeader(404)
		return
	}
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.asked = append(w.asked, r)
	w.content = append(w.content, body)
	answer := w.answer
	w.mu.Unlock()
	answer(rw, r)
}

// script sets the answer to all that follows.
func (w *world) script(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer, w.asked, w.content = h, nil, nil
}

func (w *world) says(text string) { w.script(saying(200, text)) }

func saying(status int, text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(status)
		io.WriteString(rw, text)
	}
}

// saysJSON answers with a value.
func (w *world) saysJSON(v any) { w.says(string(mustJSON(w.t, v))) }

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkAsked checks the requests that were made: method and URI.
func (w *world) checkAsked(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, r := range w.asked {
		got = append(got, r.Method+" "+r.RequestURI)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("requests: got %q, want %q", got, want)
	}
}

// lastBody is that of the last request.
func (w *world) lastBody() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.content[len(w.content)-1]
}

// A room is one of theirs, with its state.
type room struct {
	w       *world
	version *event.Version
	id      matrix.RoomID
	events  []*event.Event // create, bob's join, power levels, join rules
	hashes  map[matrix.EventID][32]byte
}

func versionOf(t testing.TB, id matrix.RoomVersion) *event.Version {
	t.Helper()
	v, ok := event.VersionOf(id)
	if !ok {
		t.Fatalf("no room version %s", id)
	}
	return v
}

func (w *world) room(version matrix.RoomVersion) *room {
	w.t.Helper()
	r := &room{w: w, version: versionOf(w.t, version), hashes: map[matrix.EventID][32]byte{}}
	create := event.Proto{
		Type: event.TypeCreate, StateKey: new(string), Sender: bob,
		Content: fmt.Appendf(nil, `{"creator":%q,"room_version":%q}`, bob, version),
	}
	if r.version.RoomIDs == event.ChosenRoomIDs {
		r.id = "!room:them.example"
		create.RoomID = r.id
	}
	r.id = r.add(create).RoomID
	r.state(event.TypeMember, string(bob), `{"membership":"join"}`)
	r.state("m.room.power_levels", "", `{}`)
	r.state("m.room.join_rules", "", `{"join_rule":"public"}`)
	return r
}

// build makes an event of the room, with a key of its sender's server.
func (r *room) build(p event.Proto) *event.Event {
	r.w.t.Helper()
	server := p.Sender.Server()
	key, ok := r.w.keys[server]
	if !ok {
		key = newKey(r.w.t, "ed25519:stranger", 99)
	}
	if p.OriginServerTS == 0 {
		p.OriginServerTS = start.UnixMilli()
	}
	p.ReferenceHashes = r.hashes
	e, err := event.Build(r.version, p, server, key)
	if err != nil {
		r.w.t.Fatal(err)
	}
	return e
}

func (r *room) add(p event.Proto) *event.Event {
	r.w.t.Helper()
	for _, e := range r.events {
		p.AuthEvents = append(p.AuthEvents, e.ID)
	}
	if n := len(p.AuthEvents); n > 4 {
		p.AuthEvents = p.AuthEvents[:4]
	}
	if n := len(r.events); n > 0 {
		p.PrevEvents = []matrix.EventID{r.events[n-1].ID}
	}
	p.Depth = int64(len(r.events) + 1)
	e := r.build(p)
	r.hashes[e.ID] = e.ReferenceHash()
	r.events = append(r.events, e)
	return e
}

func (r *room) state(typ, key, content string) *event.Event {
	r.w.t.Helper()
	return r.add(event.Proto{Type: typ, StateKey: &key, Sender: bob, RoomID: r.id, Content: []byte(content)})
}

func (r *room) message(text string) *event.Event {
	r.w.t.Helper()
	return r.add(event.Proto{
		Type: event.TypeMessage, Sender: bob, RoomID: r.id, Content: fmt.Appendf(nil, `{"body":%q}`, text),
	})
}

func (r *room) known() remote.Room { return remote.Room{ID: r.id, Version: r.version} }

func (r *room) at(id matrix.EventID) remote.Place { return remote.Place{Room: r.known(), Event: id} }

func raws(events ...*event.Event) []json.RawMessage {
	list := make([]json.RawMessage, len(events))
	for i, e := range events {
		list[i] = e.JSON
	}
	return list
}

func ids(events []*event.Event) []matrix.EventID {
	list := make([]matrix.EventID, len(events))
	for i, e := range events {
		list[i] = e.ID
	}
	return list
}

func checkIDs(t testing.TB, what string, got []*event.Event, want ...*event.Event) {
	t.Helper()
	if fmt.Sprint(ids(got)) != fmt.Sprint(ids(want)) {
		t.Errorf("%s: got %v, want %v", what, ids(got), ids(want))
	}
}

// edit returns the event's JSON with a member set.
func edit(t testing.TB, e *event.Event, key, raw string) []byte {
	t.Helper()
	obj, err := canonical.JSON(canonical.AppendWith(nil, e.JSON, key, []byte(raw)), canonical.Lenient)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// flipped returns the event's JSON with one bit of its signature changed.
func flipped(t testing.TB, e *event.Event) []byte {
	t.Helper()
	server := e.Sender.Server()
	id := e.SignedBy(server)[0]
	text, _ := canonical.String(canonical.Get(e.JSON, "signatures", string(server), string(id)))
	sig, err := signing.DecodeBase64(text)
	if err != nil {
		t.Fatal(err)
	}
	sig[7] ^= 1
	obj, err := signing.AddSignature(e.JSON, server, id, signing.EncodeBase64(sig))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func checkError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func checkCode(t testing.TB, what string, got error, want matrix.ErrorCode) {
	t.Helper()
	if matrix.CodeOf(got) != want {
		t.Errorf("%s: got error %v, want the code %q", what, got, want)
	}
}
