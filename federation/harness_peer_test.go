package federation_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

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

// canonicalOf reads JSON as a canonical object.
func canonicalOf(t testing.TB, raw []byte) []byte {
	t.Helper()
	obj, err := canonical.JSON(raw, canonical.Lenient)
	must(t, err)
	return obj
}
