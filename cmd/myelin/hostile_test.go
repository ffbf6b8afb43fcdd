package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// secret is in the name and in the messages of a room that no attacker is in: no answer may hold it.
const secret = "only for the eyes of alice"

// hostile is a server with peaceful users, and an attacker.
type hostile struct {
	server  running
	log     *errorLog
	alice   session
	witness string // a room of alice and bob, and of every attacker
	private string // a room of alice
	event   string // in private

	attackers int
	attacker  session
	peer      session // of whom nobody is afraid, in the attacker's room
	own       string  // the attacker's room
	ownEvent  string
	filter    string // an ID of the attacker
	since     string // a token of the attacker's sync
	txn       int
}

// eachHostile runs f against a server on each database.
func eachHostile(t *testing.T, f func(*testing.T, *hostile)) {
	for name, database := range map[string]func(*testing.T) string{
		"sqlite":     func(*testing.T) string { return "sqlite" },
		"postgresql": func(t *testing.T) string { return storagetest.PostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := settingsIn(t, storagetest.Dir(t))
			c.Database = config.Database(database(t))
			c.Registration, c.RateLimits.Enabled, c.RegistrationSharedSecret = "open", false, "hush"
			c.Federation.Enabled = false // or it would look for the servers that the requests name
			h := &hostile{log: &errorLog{}}
			h.server = startLogging(t, c, slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelError})))
			h.alice = mustRegister(t, h.server.url, "alice")
			h.witness = h.alice.must(t, "POST", "/createRoom", `{"preset":"public_chat"}`).text("room_id")
			h.private = h.alice.must(t, "POST", "/createRoom", `{"name":"`+secret+`"}`).text("room_id")
			h.event = h.alice.must(t, "PUT", inRoom(h.private, "/send/m.room.message/1"), `{"body":"`+secret+`"}`).text("event_id")
			f(t, h)
		})
	}
}

// errorLog collects what the server logs as an error.
type errorLog struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; a call is a line.
func (l *errorLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// take returns the lines since the last call.
func (l *errorLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.Join(l.lines, "")
	l.lines = nil
	return text
}

// newAttacker makes a user with a room of its own, where alice is too.
func (h *hostile) newAttacker(t *testing.T, roomVersion string) {
	t.Helper()
	h.attackers++
	h.attacker = mustRegister(t, h.server.url, fmt.Sprintf("mallory%d", h.attackers))
	create := `{"preset":"public_chat","room_version":"` + roomVersion + `"}`
	h.own = h.attacker.must(t, "POST", "/createRoom", create).text("room_id")
	h.ownEvent = h.attacker.must(t, "PUT", inRoom(h.own, "/send/m.room.message/first"), `{"body":"x"}`).text("event_id")
	h.peer = mustRegister(t, h.server.url, fmt.Sprintf("peer%d", h.attackers))
	h.peer.must(t, "POST", inRoom(h.own, "/join"), `{}`)
	h.attacker.must(t, "POST", inRoom(h.witness, "/join"), `{}`)
	mine := "/user/" + h.attacker.user
	h.filter = h.attacker.must(t, "POST", mine+"/filter", `{}`).text("filter_id")
	h.attacker.must(t, "PUT", mine+"/account_data/org.example.data", `{}`)
	h.attacker.must(t, "PUT", mine+"/rooms/"+url.PathEscape(h.own)+"/account_data/org.example.data", `{}`)
	h.attacker.must(t, "PUT", "/profile/"+h.attacker.user+"/displayname", `{"displayname":"Mallory"}`)
	h.attacker.must(t, "PUT", "/directory/room/"+url.PathEscape(h.alias()), `{"room_id":"`+h.own+`"}`)
	h.since = h.attacker.must(t, "GET", "/sync", "").text("next_batch")
}

// renew makes another attacker, if the last attack has ended its session or its stay in its room.
func (h *hostile) renew(t *testing.T) {
	t.Helper()
	answer, err := h.attacker.ask(t.Context(), "GET", "/joined_rooms", "")
	if err != nil {
		t.Fatal(err)
	}
	rooms, _ := answer.body["joined_rooms"].([]any)
	if answer.status != http.StatusOK || !slices.Contains(rooms, any(h.own)) {
		h.newAttacker(t, "12")
	}
}

// alias is one of the attacker's room.
func (h *hostile) alias() string { return fmt.Sprintf("#mallory%d:localhost", h.attackers) }

// lives reports unless peaceful users go on: in a room with the attackers, and in that of the attacker.
func (h *hostile) lives(t *testing.T) {
	t.Helper()
	h.txn++
	h.alice.must(t, "PUT", inRoom(h.witness, "/send/m.room.message/w%d", h.txn), `{"body":"alive"}`)
	answer, err := h.peer.ask(t.Context(), "PUT", inRoom(h.own, "/send/m.room.message/w%d", h.txn), `{"body":"alive"}`)
	if err != nil || answer.status != http.StatusOK && answer.status != http.StatusForbidden {
		t.Errorf("sending into the attacked room: got %d %v and %v", answer.status, answer.body, err)
	}
	for _, path := range []string{"/sync", inRoom(h.witness, "/members"), inRoom(h.witness, "/messages?dir=b"), "/publicRooms"} {
		h.alice.must(t, "GET", path, "")
	}
}

// request is one attack.
type request struct {
	method, path, query, token string
	body                       raw
}

func (r request) String() string {
	return fmt.Sprintf("%s %s?%s %q", r.method, short(r.path), short(r.query), short(string(r.body)))
}

func short(s string) string {
	if len(s) > 150 {
		return fmt.Sprintf("%s... (%d bytes)", s[:150], len(s))
	}
	return s
}

const (
	patience    = 10 * time.Second
	maxReported = 5 // for one endpoint
)

var impatient = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

// attack makes a request, and returns what is wrong with the answer.
func (h *hostile) attack(ctx context.Context, r request) (status int, err error) {
	host := strings.TrimPrefix(h.server.url, "http://")
	wire, err := http.NewRequestWithContext(ctx, r.method, h.server.url, strings.NewReader(string(r.body)))
	if err != nil {
		return 0, err
	}
	wire.URL = &url.URL{Scheme: "http", Host: host, Opaque: r.path, RawQuery: r.query} // just as it stands
	if r.token != "" {
		wire.Header.Set("Authorization", "Bearer "+r.token)
	}
	response, err := impatient.Do(wire)
	if err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, fmt.Errorf("the answer broke off: %w", err)
	}
	return response.StatusCode, wellFormed(response, text)
}

// wellFormed returns what is wrong with an answer: it must be JSON, an error must have a code, and none may be ours.
func wellFormed(response *http.Response, text []byte) error {
	status := response.StatusCode
	var body any
	if err := json.Unmarshal(text, &body); err != nil || response.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("got %d %s %q, want JSON", status, response.Header.Get("Content-Type"), short(string(text)))
	}
	if bytes.Contains(text, []byte(secret)) {
		return fmt.Errorf("got %d %s: it is for alice only", status, short(string(text)))
	}
	object, _ := body.(map[string]any)
	code, _ := object["errcode"].(string)
	challenge := status == http.StatusUnauthorized && object["flows"] != nil // https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
	switch {
	case status >= 500:
		return fmt.Errorf("got %d %s", status, short(string(text)))
	case status >= 400 && !challenge && !strings.HasPrefix(code, "M_"):
		return fmt.Errorf("got %d %s, want an errcode", status, short(string(text)))
	}
	return nil
}

// siege is the attack on one endpoint.
type siege struct {
	*hostile
	t        *testing.T
	e        endpoint
	count    int
	statuses map[int]int // nil: not counted
	failures int
}

// unique stands in examples where every request needs another value.
const unique = "UNIQUE"

func (s *siege) try(r request) {
	s.t.Helper()
	if s.count++; s.count%thin != 0 {
		return
	}
	s.txn++
	r.body = raw(strings.ReplaceAll(string(r.body), unique, fmt.Sprint(s.txn)))
	status, err := s.attack(s.t.Context(), r)
	if s.statuses != nil {
		s.statuses[status]++
	}
	if err == nil {
		return
	}
	if s.failures++; s.failures <= maxReported {
		s.t.Errorf("%v: %v\n%s", r, err, short(s.log.take()))
	}
}

// base is a request that is as right as can be.
func (s *siege) base() request {
	r := request{method: s.e.method, path: s.path(nil), query: s.query(nil), token: s.attacker.token}
	if s.e.method != http.MethodGet {
		r.body = raw(encode(s.plausible("", s.e.body)))
	}
	return r
}

// value is what stands for a parameter in a path.
func (s *siege) value(name string) string {
	s.txn++
	eventType, stateKey := "org.example.event", "key"
	switch {
	case s.e.method == http.MethodGet && strings.Contains(s.e.pattern, "{stateKey}"):
		eventType, stateKey = "m.room.member", s.attacker.user
	case s.e.method == http.MethodGet:
		eventType = "m.room.create"
	}
	alias := s.alias()
	if s.e.method == http.MethodPut {
		alias = fmt.Sprintf("#fresh%d:localhost", s.txn)
	}
	known := map[string]string{
		"roomid": s.own, "roomidoralias": s.own, "userid": s.attacker.user, "eventid": s.ownEvent, "txnid": fmt.Sprint("t", s.txn),
		"roomalias": alias, "deviceid": s.attacker.device,
		"eventtype": eventType, "statekey": stateKey, "type": "org.example.data", "filterid": s.filter, "field": "displayname",
		"receipttype": "m.read", "kind": "override", "ruleid": ".m.rule.master",
	}
	if value, ok := known[name]; ok {
		return url.PathEscape(value)
	}
	return "x"
}

// path fills the pattern. What replaced has is taken as it is.
func (s *siege) path(replaced map[string]string) string {
	return pathParameter.ReplaceAllStringFunc(s.e.pattern, func(p string) string {
		name := strings.ToLower(strings.Trim(p, "{}"))
		if value, ok := replaced[name]; ok {
			return value
		}
		return s.value(name)
	})
}

// query is one with the parameters that are needed, and those in replaced.
func (s *siege) query(replaced map[string]string) string {
	pairs := []string{}
	if _, given := replaced["dir"]; !given && strings.HasSuffix(s.e.pattern, "/messages") {
		pairs = append(pairs, "dir=b")
	}
	for name, value := range replaced {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "&")
}

// plausible puts values that name something into an example. Each request has its own number in place of unique.
func (s *siege) plausible(name string, v any) any {
	password := map[string]any{"type": "m.login.password", "password": "secret", "identifier": map[string]any{"type": "m.id.user", "user": s.attacker.user}}
	auth := password
	if strings.HasSuffix(s.e.pattern, "/register") {
		auth = map[string]any{"type": "m.login.dummy"}
	}
	ids := []any{s.attacker.user}
	known := map[string]any{
		"user_id": s.peer.user, "senders": ids, "not_senders": ids, "rooms": []any{s.own}, "not_rooms": []any{s.private}, "new_password": "secret",
		"event_format": "client", "room_id": s.own, "event_id": s.ownEvent, "event": s.ownEvent, "m.read": s.ownEvent,
		"m.fully_read": s.ownEvent, "m.read.private": s.ownEvent, "invite": []any{s.peer.user}, "invite_3pid": []any{},
		"room_version": "12", "room_alias_name": "alias" + unique, "type": "m.login.password", "password": "secret",
		"identifier": password["identifier"], "auth": auth,
		"initial_state": []any{map[string]any{"type": "m.room.topic", "state_key": "", "content": map[string]any{"topic": "x"}}},
		"thread_id":     "main", "alias": s.alias(), "alt_aliases": []any{s.alias()}, "join_authorised_via_users_server": s.attacker.user,
		"users": map[string]any{s.peer.user: 50.0}, "allow": []any{map[string]any{"type": "m.room_membership", "room_id": s.witness}},
		"creation_content": map[string]any{"m.federate": false, "type": "m.space", "predecessor": map[string]any{"room_id": "!x:localhost", "event_id": "$x"}},
		"power_level_content_override": map[string]any{
			"users": map[string]any{s.peer.user: 50}, "events": map[string]any{"m.room.name": 50}, "users_default": 0,
			"events_default": 0, "state_default": 50, "ban": 50, "notifications": map[string]any{"room": 50},
		},
		"username": "new" + unique, "devices": []any{s.attacker.device}, "server": "localhost", "presence": "online",
		"displayname": "Mallory", "avatar_url": "mxc://localhost/x",
	}
	if value, ok := known[name]; ok && reflect.TypeOf(v) == reflect.TypeOf(value) {
		return value
	}
	switch v := v.(type) {
	case nil:
		return map[string]any{}
	case map[string]any:
		out := map[string]any{}
		for key, inner := range v {
			out[key] = s.plausible(key, inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = s.plausible("", inner)
		}
		return out
	}
	return v
}

func (s *siege) tokens() {
	for _, token := range []string{"", "x", "myt_x", strings.Repeat("k", 10_000), "\xff\xfe", s.attacker.token + "x", s.alice.device} {
		r := s.base()
		r.token = token
		s.try(r)
	}
	for _, token := range []string{"%00", "%ff", "", "x%00", strings.Repeat("k", 10_000)} {
		r := s.base()
		r.token, r.query = "", s.query(map[string]string{"access_token": token})
		s.try(r)
	}
}

func (s *siege) paths() {
	hostileNames := []string{
		"%00", "%2F", "%2e%2e%2f%2e%2e", "%20", "%0A%0D", "%ff%fe", "%C0%80", "%ED%A0%80", "%F0%9F%98%80", "'%22;--", "%7B%7D", "%25%30%30", "%5Cu0000",
		"!abc", "!%00:localhost", "!x%00y:localhost", "!x:localhost", "!x:localhost:99999", "!x:%5B::1%5D:8448", "!x:", "!:localhost", "!",
		"!" + strings.Repeat("a", 43), "!" + strings.Repeat("a", 300), "!" + strings.Repeat("%C3%A9", 200) + ":localhost",
		"@abc:localhost", "@%00:localhost", "@%ff:localhost", "@:localhost", "@x", "@" + strings.Repeat("a", 300) + ":localhost", "@x:%00",
		"%23a:localhost", "%23%00:localhost", "%23:localhost", "%23" + strings.Repeat("a", 300) + ":localhost", "%23a:elsewhere.org",
		"$x", "$%00", "$" + strings.Repeat("a", 43), "$" + strings.Repeat("a", 300), "$x:localhost", "-1", "99999999999999999999", "1e9", "null",
		"m.room.create", "m.room.power_levels", "m.room.member", "m.room.redaction", "m.room.encrypted", "m.fully_read", "m.push_rules", "displayname%00", strings.Repeat("n", 5000),
		url.PathEscape(s.private), url.PathEscape(s.alice.user), url.PathEscape(s.event), url.PathEscape(s.witness), url.PathEscape(s.alice.device),
	}
	for _, param := range s.e.params() {
		for _, name := range hostileNames {
			r := s.base()
			r.path = s.path(map[string]string{param: name})
			s.try(r)
		}
	}
	all := map[string]string{}
	for _, param := range s.e.params() {
		all[param] = "%00%ff"
	}
	all["roomid"], all["userid"], all["eventid"] = url.PathEscape(s.private), url.PathEscape(s.alice.user), url.PathEscape(s.event)
	for _, token := range []string{s.attacker.token, ""} {
		r := s.base()
		r.path, r.token = s.path(all), token
		s.try(r)
		r.path = s.path(map[string]string{"roomid": url.PathEscape(s.private), "roomidoralias": url.PathEscape(s.private), "eventid": url.PathEscape(s.event)})
		s.try(r)
	}
}

func (s *siege) queries() {
	values := []string{
		"", "-1", "0", "1", "1e9", "4294967296", "99999999999999999999", "-9223372036854775808", "x", "%00", "%ff", "a%00b", "null", "true", "%7B%7D", "%5B%5D", "%22x%22",
		url.QueryEscape(`{"room":1}`), url.QueryEscape(`{"room":{"timeline":{"limit":-1,"types":["*","\u0000"]}}}`), url.QueryEscape(string(deep("[", "]"))),
		url.QueryEscape(`{"types":["\u0000","m.*","*"],"not_senders":[1]}`), url.QueryEscape(`{"types":["` + strings.Repeat("*a", 5000) + `"]}`), url.QueryEscape(`{"types":["\ud800"]}`),
		strings.Repeat("q", 20_000), "b", "f", "join", "event", "s", "s__", "s1_2_3_4_5", "t1-2", "s-1", s.since, s.since + "x", s.since[:len(s.since)/2],
		strings.ReplaceAll(s.since, "_", "_-"), strings.ReplaceAll(s.since, "_", "_99999999999999999999"), strings.ReplaceAll(s.since, "_", "__"), strings.ReplaceAll(s.since, "_", "_1000000000"),
		"9223372036854775807", "9223372036854775807.-9223372036854775808", "1.-1", "-1.-1", "g1_1", "localhost", "elsewhere.org", "%5B::1", "@x:localhost",
	}
	for _, name := range append([]string{"user_id"}, s.e.query...) {
		for _, value := range values {
			r := s.base()
			r.query = s.query(map[string]string{name: value})
			s.try(r)
		}
	}
	r := s.base()
	for _, query := range []string{"%zz=1", "&&&", "=", "a;b=c", "%00=%00", "dir=b&dir=f", "dir", strings.Repeat("a=b&", 5000)} {
		r.query = query
		s.try(r)
	}
}

func (s *siege) bodies() {
	if s.e.method == http.MethodGet {
		return
	}
	for _, body := range nastyBodies {
		r := s.base()
		r.body = body
		s.try(r)
	}
	if s.e.body == nil {
		return
	}
	mutations(s.plausible("", s.e.body), func(body raw) {
		r := s.base()
		r.body = body
		s.try(r)
	})
}

// largeBodies sends bodies of 100 MB, announced and in chunks, as far as the server reads them.
func (s *siege) largeBodies() {
	const size = 100 << 20
	r := s.base()
	target := r.path
	if r.query != "" {
		target += "?" + r.query
	}
	for _, head := range []string{fmt.Sprintf("Content-Length: %d", size), "Transfer-Encoding: chunked"} {
		s.count++
		if err := s.large(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", r.method, target, r.token, head), size); err != nil {
			s.t.Errorf("%v with 100 MB and %s: %v", r, head, err)
		}
	}
}

func (s *siege) large(head string, size int) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.server.url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	go func() { // until the server closes the connection
		piece := `{"a":"` + strings.Repeat("x", 1<<16)
		if strings.Contains(head, "chunked") {
			piece = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
		}
		for sent := 0; sent < size; sent += len(piece) {
			if _, err := io.WriteString(conn, piece); err != nil {
				return
			}
		}
	}()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	return wellFormed(response, text)
}

// TestHostileRequests attacks every endpoint in all ways that it has parts: token, path, query, body.
func TestHostileRequests(t *testing.T) {
	eachHostile(t, func(t *testing.T, h *hostile) {
		total := 0
		for _, e := range endpoints(t) {
			t.Run(strings.ReplaceAll(e.String(), "/", "|"), func(t *testing.T) {
				h.newAttacker(t, "12")
				s := &siege{hostile: h, t: t, e: e, statuses: map[int]int{}}
				for _, attack := range []func(){s.tokens, s.paths, s.queries, s.bodies, s.largeBodies} {
					h.renew(t)
					attack()
				}
				h.lives(t)
				if s.failures > maxReported {
					t.Errorf("%d of %d requests were answered wrongly", s.failures, s.count)
				}
				t.Logf("%d requests: %v", s.count, s.statuses)
				total += s.count
			})
		}
		t.Logf("%d requests", total)
	})
}

var allVersions = flag.Bool("hostile.versions", false, "put hostile contents into rooms of old versions too")

// TestHostileContents puts contents of every kind into rooms, and reads the rooms as others do.
func TestHostileContents(t *testing.T) {
	versions := []string{"12"}
	if *allVersions {
		versions = []string{"1", "3", "6", "9", "10", "11", "12"}
	}
	eachHostile(t, func(t *testing.T, h *hostile) {
		for _, version := range versions {
			t.Run("v"+version, func(t *testing.T) {
				for _, c := range contentsOfSpec(t) {
					if c.State || c.Type == "m.room.redaction" || c.Type == "m.reaction" || c.Type == "m.room.encrypted" {
						h.putContents(t, version, c)
					}
				}
			})
		}
	})
}

// putContents sends variants of a content into a room of the attacker.
func (h *hostile) putContents(t *testing.T, version string, c exampleContent) {
	t.Helper()
	h.newAttacker(t, version)
	s := &siege{hostile: h, t: t, statuses: map[int]int{}}
	send := func(body raw, key string) {
		h.txn++
		path := inRoom(h.own, "/send/%s/c%d", c.Type, h.txn)
		if c.State {
			path = inRoom(h.own, "/state/%s/%s", c.Type, key)
		}
		s.try(request{method: "PUT", path: "/_matrix/client/v3" + path, token: h.attacker.token, body: body})
	}
	mutations(s.plausible("", c.Content), func(body raw) { send(body, "") })
	if c.Type == "m.room.member" {
		for _, key := range []string{h.attacker.user, h.peer.user, "@nobody:localhost", "%00"} {
			mutations(map[string]any{"membership": "join", "displayname": "x"}, func(body raw) { send(body, key) })
		}
	}
	h.lives(t)
	for _, reader := range []session{h.attacker, h.peer} {
		s.readAll(reader)
	}
	t.Logf("%s: %d requests: %v", c.Type, s.count, s.statuses)
	if s.failures > maxReported {
		t.Errorf("%s: %d of %d requests were answered wrongly", c.Type, s.failures, s.count)
	}
}

// readAll reads the attacked room in all ways.
func (s *siege) readAll(reader session) {
	for _, path := range []string{"/state", "/members", "/joined_members", "/messages?dir=b&limit=1000", "/aliases"} {
		s.try(request{method: "GET", path: "/_matrix/client/v3" + inRoom(s.own, "%s", path), token: reader.token})
	}
	lazy := url.QueryEscape(`{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":100}}}`)
	for _, query := range []string{"", "filter=" + lazy, "full_state=true&since=" + s.since, "since=" + s.since, "since=" + s.since + "&filter=" + lazy} {
		s.try(request{method: "GET", path: "/_matrix/client/v3/sync", query: query, token: reader.token})
	}
	s.try(request{method: "GET", path: "/_matrix/client/v3/publicRooms", token: reader.token})
}

// TestSlowBodies keeps many connections whose bodies never come: the others are served as ever.
func TestSlowBodies(t *testing.T) {
	const slow = 300
	server := start(t, settingsIn(t, storagetest.Dir(t)))
	for range slow {
		conn, err := net.Dial("tcp", strings.TrimPrefix(server.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"type\":"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	server.get(t, "/ready")
	server.get(t, "/_matrix/client/versions")
	if took := time.Since(began); took > time.Second {
		t.Errorf("beside %d slow bodies two requests took %v, want less than a second", slow, took)
	}
}
