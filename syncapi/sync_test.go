package syncapi_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/syncapi"
)

const serverName = matrix.ServerName("test")

// world is a server without its client API: what happens in it is done directly,
// what is synced is asked for over HTTP.
type world struct {
	t     testing.TB
	db    *storage.DB
	rooms *roomserver.Server
	acc   *accounts.Accounts
	eph   *ephemeral.Server
	http  *httptest.Server

	mu      sync.Mutex
	api     *syncapi.API
	handler http.Handler
	stop    func() // ends what restart began
}

// everybody lets the access token name the user: "@alice:test/DEVICE".
type everybody struct{}

func (everybody) Authenticate(_ context.Context, token string) (matrix.Requester, error) {
	user, device, found := strings.Cut(token, "/")
	by := who(matrix.UserID(user))
	if found {
		by.Device = matrix.DeviceID(device)
	}
	return by, nil
}

func who(u matrix.UserID) matrix.Requester {
	return matrix.Requester{Account: u, User: u, Device: "D"}
}

// noBus is a bus of one node, which has nobody to tell.
type noBus struct{}

func (noBus) Publish(string, []byte) error { return nil }
func (noBus) Subscribe(string, func([]byte)) (func(), error) {
	return func() {}, nil
}

// each runs a test on both databases.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, kind))
		})
	}
}

// Wake passes the wake-ups of the database on to who syncs now.
func (w *world) Wake(storage.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.api != nil {
		w.api.Wake()
	}
}

func newWorld(t testing.TB, kind string) *world {
	t.Helper()
	w := &world{t: t}
	settings := storagetest.Settings(t, kind)
	settings.Waker = w
	w.db = storagetest.Start(t, settings)
	db := w.db
	log := slog.New(slog.DiscardHandler)
	var err error
	w.acc, err = accounts.New(accounts.Settings{
		DB: db, ServerName: serverName, Registration: config.Open, PasswordHashCost: 4,
		DefaultPushRules: func(matrix.UserID) []byte { return []byte(`{"global":{}}`) },
		Now:              time.Now, Rand: rand.Reader,
	})
	must(t, err)
	key, err := signing.Generate(rand.Reader)
	must(t, err)
	w.rooms = roomserver.New(roomserver.Settings{
		DB: db, ServerName: serverName, Key: key, Profiles: w.acc, DefaultVersion: "12",
		Now: time.Now, Rand: rand.Reader, Log: log,
	})
	w.eph, err = ephemeral.New(ephemeral.Settings{Bus: noBus{}, Now: time.Now, Boot: "b1", Log: log})
	must(t, err)
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start begins to answer syncs; again, it does so like a process that was started anew.
func (w *world) start() {
	w.restart()
	w.http = httptest.NewServer(w.handler)
	w.t.Cleanup(w.http.Close)
}

func (w *world) settings() syncapi.Settings {
	return syncapi.Settings{
		DB: w.db, Rooms: w.rooms, Accounts: w.acc, Ephemeral: w.eph, Auth: everybody{},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

// serve lets an API answer from now on.
func (w *world) serve(api *syncapi.API) {
	w.api = api
	w.handler = httpapi.New(httpapi.Settings{APIs: []httpapi.API{{Service: config.Client, Routes: api.Routes}}}).Handler()
}

// restart makes the parts that keep something in memory anew, with nothing in it but typing.
func (w *world) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.stop()
	}
	w.serve(syncapi.New(w.settings()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.api.Run(ctx) })
	running.Go(func() { _ = w.eph.Run(ctx) })
	w.stop = func() {
		cancel()
		running.Wait()
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The shape of an answer, as far as tests look at it.
type answer struct {
	NextBatch string `json:"next_batch"`
	Rooms     struct {
		Join   map[matrix.RoomID]roomAnswer `json:"join"`
		Leave  map[matrix.RoomID]roomAnswer `json:"leave"`
		Invite map[matrix.RoomID]struct {
			State events `json:"invite_state"`
		} `json:"invite"`
		Knock map[matrix.RoomID]struct {
			State events `json:"knock_state"`
		} `json:"knock"`
	} `json:"rooms"`
	AccountData events `json:"account_data"`
	Presence    events `json:"presence"`
	ToDevice    events `json:"to_device"`
}

type roomAnswer struct {
	Timeline struct {
		Events    []clientEvent `json:"events"`
		Limited   bool          `json:"limited"`
		PrevBatch string        `json:"prev_batch"`
	} `json:"timeline"`
	State       *events `json:"state"`
	StateAfter  *events `json:"state_after"`
	Ephemeral   events  `json:"ephemeral"`
	AccountData events  `json:"account_data"`
	Summary     struct {
		Heroes  []matrix.UserID `json:"m.heroes"`
		Joined  int             `json:"m.joined_member_count"`
		Invited int             `json:"m.invited_member_count"`
	} `json:"summary"`
}

type events struct {
	Events []clientEvent `json:"events"`
}

type clientEvent struct {
	ID       matrix.EventID  `json:"event_id"`
	Type     string          `json:"type"`
	StateKey *string         `json:"state_key"`
	Sender   matrix.UserID   `json:"sender"`
	Content  json.RawMessage `json:"content"`
	Unsigned struct {
		TxnID       string          `json:"transaction_id"`
		Membership  string          `json:"membership"`
		PrevContent json.RawMessage `json:"prev_content"`
		Because     *clientEvent    `json:"redacted_because"`
	} `json:"unsigned"`
}

// query is what a sync is asked with.
type query map[string]string

// sync asks and fails the test if the answer is not 200.
func (w *world) sync(u matrix.UserID, q query) answer {
	w.t.Helper()
	status, body := w.ask(u, q)
	if status != 200 {
		w.t.Fatalf("sync of %s: status %d: %s", u, status, body)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		w.t.Fatalf("sync of %s: %v in %s", u, err, body)
	}
	return a
}

func (w *world) ask(u matrix.UserID, q query) (int, []byte) {
	w.t.Helper()
	values := url.Values{"access_token": {string(u)}}
	for k, v := range q {
		values.Set(k, v)
	}
	response, err := w.http.Client().Get(w.http.URL + "/_matrix/client/v3/sync?" + values.Encode())
	must(w.t, err)
	defer response.Body.Close()
	var body json.RawMessage
	must(w.t, json.NewDecoder(response.Body).Decode(&body))
	return response.StatusCode, body
}

func (w *world) create(u matrix.UserID, in roomserver.CreateRoom) matrix.RoomID {
	w.t.Helper()
	if in.Preset == "" {
		in.Preset = "public_chat"
	}
	room, err := w.rooms.Create(ctx, who(u), in)
	must(w.t, err)
	return room
}

func (w *world) send(u matrix.UserID, room matrix.RoomID, text string) matrix.EventID {
	w.t.Helper()
	id, err := w.rooms.Send(ctx, who(u), roomserver.SendEvent{
		Room: room, Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":%q,"msgtype":"m.text"}`, text),
	})
	must(w.t, err)
	return id
}

func (w *world) state(u matrix.UserID, room matrix.RoomID, typ, content string) matrix.EventID {
	w.t.Helper()
	id, err := w.rooms.SendState(ctx, who(u), roomserver.SendState{Room: room, Type: typ, Content: []byte(content)})
	must(w.t, err)
	return id
}

func (w *world) join(room matrix.RoomID, users ...matrix.UserID) {
	w.t.Helper()
	for _, u := range users {
		must(w.t, w.rooms.Join(ctx, who(u), room, ""))
	}
}

// bodies lists the texts of messages, and the types of other events.
func bodies(list []clientEvent) []string {
	var all []string
	for _, e := range list {
		var c struct{ Body, Membership string }
		_ = json.Unmarshal(e.Content, &c)
		switch {
		case c.Body != "":
			all = append(all, c.Body)
		case c.Membership != "" && e.StateKey != nil:
			all = append(all, c.Membership+" "+*e.StateKey)
		default:
			all = append(all, e.Type)
		}
	}
	return all
}

func want(t testing.TB, what string, got []string, expected ...string) {
	t.Helper()
	if !slices.Equal(got, expected) {
		t.Errorf("%s: got %q, want %q", what, got, expected)
	}
}

// wantSorted compares without regard to order.
func wantSorted(t testing.TB, what string, got []string, expected ...string) {
	t.Helper()
	got, expected = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(expected))
	want(t, what, got, expected...)
}

const (
	alice = matrix.UserID("@alice:test")
	bob   = matrix.UserID("@bob:test")
	carol = matrix.UserID("@carol:test")
)

var ctx = context.Background()

func TestInitialThenIncremental(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{Name: "den"})
		w.send(alice, room, "one")
		first := w.sync(alice, nil)
		r := first.Rooms.Join[room]
		if n := len(r.Timeline.Events); n == 0 || bodies(r.Timeline.Events)[n-1] != "one" {
			t.Errorf("initial timeline: got %q, want it to end with one", bodies(r.Timeline.Events))
		}
		if got := w.sync(alice, query{"since": first.NextBatch}); len(got.Rooms.Join) != 0 {
			t.Errorf("nothing happened: got %v", got.Rooms.Join)
		}
		w.send(alice, room, "two")
		w.send(alice, room, "three")
		next := w.sync(alice, query{"since": first.NextBatch})
		r = next.Rooms.Join[room]
		want(t, "timeline", bodies(r.Timeline.Events), "two", "three")
		if r.Timeline.Limited || r.State != nil {
			t.Errorf("got limited %v and state %v, want neither", r.Timeline.Limited, r.State)
		}
		again := w.sync(alice, query{"since": first.NextBatch})
		want(t, "the same again", bodies(again.Rooms.Join[room].Timeline.Events), "two", "three")
	})
}

func TestLimitedTimelineHasStateOfTheGap(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, nil).NextBatch
		w.state(alice, room, "m.room.topic", `{"topic":"lost"}`)
		for i := range 5 {
			w.send(alice, room, fmt.Sprint("m", i))
		}
		w.state(alice, room, "m.room.name", `{"name":"shown"}`)
		filter := `{"room":{"timeline":{"limit":3}}}`
		for _, restarted := range []bool{false, true} {
			if restarted {
				w.start()
			}
			r := w.sync(alice, query{"since": since, "filter": filter}).Rooms.Join[room]
			want(t, "timeline", bodies(r.Timeline.Events), "m3", "m4", "m.room.name")
			if !r.Timeline.Limited || r.State == nil {
				t.Fatalf("restarted %v: got limited %v, state %v, want both", restarted, r.Timeline.Limited, r.State)
			}
			want(t, "state", bodies(r.State.Events), "m.room.topic")
			r = w.sync(alice, query{"since": since, "filter": filter, "use_state_after": "true"}).Rooms.Join[room]
			if r.StateAfter == nil || r.State != nil {
				t.Fatalf("use_state_after: got state %v, after %v, want the latter", r.State, r.StateAfter)
			}
			wantSorted(t, "state_after", bodies(r.StateAfter.Events), "m.room.topic", "m.room.name")
		}
	})
}

func TestLongPollWakes(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		w.join(room, bob)
		for name, act := range map[string]func(){
			"message": func() { w.send(alice, room, "hello") },
			"typing":  func() { w.eph.SetTyping(room, alice, time.Minute) },
			"receipt": func() {
				id := w.send(alice, room, "read me")
				must(t, w.rooms.SetReceipt(ctx, who(alice), roomserver.SetReceipt{Room: room, Type: "m.read", Event: id}))
			},
			"account data": func() { w.setData(bob, "", "org.example", `{"a":1}`) },
			"presence":     func() { must(t, w.eph.SetPresence(alice, "unavailable", "tea")) },
			"kick": func() {
				must(t, w.rooms.Kick(ctx, who(alice), roomserver.Move{Room: room, Target: bob}))
				w.join(room, bob)
			},
		} {
			since := w.sync(bob, nil).NextBatch
			got := make(chan answer)
			go func() { got <- w.sync(bob, query{"since": since, "timeout": "20000"}) }()
			act()
			if a := <-got; a.NextBatch == since {
				t.Errorf("%s: the poll ended without news", name)
			}
		}
	})
}

func (w *world) setData(u matrix.UserID, room matrix.RoomID, typ, content string) {
	w.t.Helper()
	must(w.t, w.acc.SetAccountData(ctx, u, accountDatum(room, typ, content)))
}

func TestTimeoutEndsWithAnEmptyAnswer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.create(alice, roomserver.CreateRoom{})
		since := w.sync(alice, query{"set_presence": "offline"}).NextBatch
		a := w.sync(alice, query{"since": since, "timeout": "30", "set_presence": "offline"})
		if len(a.Rooms.Join)+len(a.Presence.Events)+len(a.AccountData.Events) != 0 {
			t.Errorf("got %+v, want nothing", a)
		}
	})
}

func TestBadParameters(t *testing.T) {
	w := newWorld(t, "sqlite")
	for _, q := range []query{
		{"since": "garbage"}, {"since": "s1_2"}, {"since": "sx_-1_0_b_0"}, {"timeout": "soon"}, {"timeout": "-1"},
		{"full_state": "perhaps"}, {"use_state_after": "1"}, {"set_presence": "asleep"},
		{"filter": "{"}, {"filter": "77"}, {"filter": `{"room":7}`}, {"filter": `{"event_format":"xml"}`},
		{"filter": `{"room":{"timeline":{"limit":-1}}}`},
	} {
		if status, body := w.ask(alice, q); status != 400 {
			t.Errorf("%v: got %d %s, want 400", q, status, body)
		}
	}
}

func TestForeignTokenStartsAfresh(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		room := w.create(alice, roomserver.CreateRoom{})
		for _, since := range []string{"sother_1_1_b1_0", "s" + w.db.Incarnation() + "_999999_0_b1_0"} {
			if got := w.sync(alice, query{"since": since, "timeout": "20000"}); len(got.Rooms.Join[room].Timeline.Events) == 0 {
				t.Errorf("since %s: got nothing of the room, want all", since)
			}
		}
	})
}

func TestTokenText(t *testing.T) {
	token := view.SyncToken{Incarnation: "abc", Position: 12, ToDevice: 9, Boot: "b", Ephemeral: 3}
	got, err := view.ParseSyncToken(token.String())
	if err != nil || got != token {
		t.Errorf("got %+v, %v, want %+v", got, err, token)
	}
}
