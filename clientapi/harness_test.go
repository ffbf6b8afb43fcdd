package clientapi

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const (
	serverName   = "example.org"
	goodPassword = "correct horse"
	sharedSecret = "a secret of programs"
)

// world is a whole server as clients see it, with a database in a file and a clock that stands still.
type world struct {
	t         testing.TB
	db        *storage.DB
	accounts  *accounts.Accounts
	rooms     *roomserver.Server
	ephemeral *ephemeral.Server
	api       *API
	clock     *clock
	handler   http.Handler
	outcast   *client // who has no access token
}

// newWorld makes a server with open registration, guests and a shared secret, without rate limits, unless the test
// changes that.
func newWorld(t testing.TB, change ...func(*config.Config)) *world {
	t.Helper()
	c := config.Default()
	c.ServerName, c.Registration, c.Guests, c.RegistrationSharedSecret = serverName, config.Open, true, sharedSecret
	c.PasswordHashCost, c.RateLimits.Enabled = 4, false
	for _, f := range change {
		f(&c)
	}
	w := &world{t: t, db: storagetest.Open(t, storagetest.SQLite), clock: &clock{now: time.UnixMilli(1_800_000_000_000)}}
	w.build(c)
	_, err := w.db.Commit(t.Context(), nothing{}) // once this is answered, the committer runs
	w.must(err)
	w.outcast = &client{w: w}
	return w
}

func (w *world) build(c config.Config) {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(logOf{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	key, err := signing.Generate(rand.Reader)
	w.must(err)
	w.accounts, err = accounts.New(accounts.Settings{
		DB: w.db, ServerName: c.ServerName, Registration: c.Registration, SharedSecret: c.RegistrationSharedSecret,
		Guests: c.Guests, PasswordHashCost: c.PasswordHashCost, DefaultPushRules: pushrules.DefaultContent,
		Now: w.clock.Now, Rand: rand.Reader,
	})
	w.must(err)
	w.ephemeral, err = ephemeral.New(ephemeral.Settings{Bus: &wire{}, Now: w.clock.Now, Boot: "one", Log: log})
	w.must(err)
	w.t.Cleanup(w.ephemeral.Close)
	w.rooms = roomserver.New(roomserver.Settings{
		DB: w.db, ServerName: c.ServerName, Key: key, Profiles: w.accounts, DefaultVersion: c.DefaultRoomVersion,
		Now: w.clock.Now, Rand: rand.Reader, Log: log,
	})
	w.api = New(Settings{
		DB: w.db, Accounts: w.accounts, Rooms: w.rooms, Ephemeral: w.ephemeral,
		Limits: httpapi.NewLimits(c.RateLimits, w.clock.Now), DefaultRoomVersion: c.DefaultRoomVersion,
		WellKnown: WellKnown(c.WellKnown), Now: w.clock.Now, Log: log,
		TURN: TURN{
			URIs: c.TURN.URIs, Secret: string(c.TURN.SharedSecret),
			Lifetime: time.Duration(c.TURN.LifetimeSeconds) * time.Second,
		},
	})
	w.handler = httpapi.New(httpapi.Settings{
		APIs: []httpapi.API{
			{Service: config.Client, Routes: w.api.Routes}, {Service: config.Admin, Routes: w.api.AdminRoutes},
		},
		Log: log, Now: w.clock.Now,
	}).Handler()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// register makes an account and logs in.
func (w *world) register(name string) *client {
	w.t.Helper()
	s, err := w.accounts.Register(w.t.Context(), accounts.Registration{
		Username: name, Password: goodPassword, Auth: json.RawMessage(`{"type":"m.login.dummy"}`),
	})
	w.must(err)
	return w.as(s)
}

// guest makes a guest account and logs in.
func (w *world) guest() *client {
	w.t.Helper()
	s, err := w.accounts.RegisterGuest(w.t.Context(), "")
	w.must(err)
	return w.as(s)
}

// login opens another session of a user.
func (w *world) login(name string) *client {
	w.t.Helper()
	s, err := w.accounts.Login(w.t.Context(), accounts.Login{Type: accounts.TypePassword, User: name, Password: goodPassword})
	w.must(err)
	return w.as(s)
}

func (w *world) as(s accounts.Session) *client {
	return &client{w: w, user: s.User, device: s.Device, token: s.AccessToken}
}

// client is somebody with an access token.
type client struct {
	w      *world
	user   matrix.UserID
	device matrix.DeviceID
	token  string

	address string // empty: 192.0.2.1
}

// who is the client as the server sees it.
func (c *client) who() matrix.Requester {
	return matrix.Requester{Account: c.user, User: c.user, Device: c.device}
}

// do makes a request. The path begins at /_matrix, or at what comes after /_matrix/client/v3. The body is nil, a string
// that is sent as it is, or anything to send as JSON.
func (c *client) do(method, path string, body any) *answer {
	c.w.t.Helper()
	if !strings.HasPrefix(path, "/_") && !strings.HasPrefix(path, "/.well-known") {
		path = "/_matrix/client/v3" + path
	}
	r := httptest.NewRequest(method, path, c.body(body))
	if body == nil {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.address != "" {
		r.RemoteAddr = c.address + ":1234"
	}
	recorder := httptest.NewRecorder()
	c.w.handler.ServeHTTP(recorder, r)
	a := &answer{t: c.w.t, request: method + " " + path, status: recorder.Code, text: recorder.Body.String()}
	if err := json.Unmarshal(recorder.Body.Bytes(), &a.json); err != nil {
		c.w.t.Fatalf("%s: got %d %q, want JSON", a.request, a.status, a.text)
	}
	if a.status == http.StatusOK {
		a.conforms(method, path)
	}
	return a
}

func (c *client) body(body any) io.Reader {
	switch body := body.(type) {
	case nil:
		return http.NoBody
	case string:
		return strings.NewReader(body)
	default:
		text, err := json.Marshal(body)
		c.w.must(err)
		return strings.NewReader(string(text))
	}
}

func (c *client) get(path string) *answer            { c.w.t.Helper(); return c.do("GET", path, nil) }
func (c *client) post(path string, body any) *answer { c.w.t.Helper(); return c.do("POST", path, body) }
func (c *client) put(path string, body any) *answer  { c.w.t.Helper(); return c.do("PUT", path, body) }
func (c *client) delete(path string, body any) *answer {
	c.w.t.Helper()
	return c.do("DELETE", path, body)
}

// object is a JSON object.
type object = map[string]any

// answer is what came back.
type answer struct {
	t       testing.TB
	request string
	status  int
	text    string
	json    any
}

// ok fails the test at once unless the status is 200.
func (a *answer) ok() *answer {
	a.t.Helper()
	if a.status != http.StatusOK {
		a.t.Fatalf("%s: got %d %s, want 200", a.request, a.status, a.text)
	}
	return a
}

// fails reports unless the answer is this error.
func (a *answer) fails(status int, code matrix.ErrorCode) *answer {
	a.t.Helper()
	if a.status != status || a.at("errcode") != string(code) {
		a.t.Errorf("%s: got %d %s, want %d %s", a.request, a.status, a.text, status, code)
	}
	return a
}

// challenge reports unless the answer asks for user-interactive authentication by this stage, and returns the session.
func (a *answer) challenge(stage string) (session string) {
	a.t.Helper()
	if a.status != http.StatusUnauthorized || a.at("flows", "0", "stages", "0") != stage {
		a.t.Fatalf("%s: got %d %s, want 401 with the stage %s", a.request, a.status, a.text, stage)
	}
	return a.str("session")
}

// is reports unless the answer is 200 with just this body, given as JSON.
func (a *answer) is(body string) *answer {
	a.t.Helper()
	var want any
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		a.t.Fatalf("%s: the test wants %q, which is not JSON", a.request, body)
	}
	if a.status != http.StatusOK || !reflect.DeepEqual(a.json, want) {
		a.t.Errorf("%s: got %d %s, want 200 %s", a.request, a.status, a.text, body)
	}
	return a
}

// at returns what stands at a path of member names and indexes; nil if there is nothing.
func (a *answer) at(path ...string) any {
	v := a.json
	for _, name := range path {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// str returns the string at a path; the test fails at once if there is none.
func (a *answer) str(path ...string) string {
	a.t.Helper()
	s, ok := a.at(path...).(string)
	if !ok {
		a.t.Fatalf("%s: got %s, want a string at %v", a.request, a.text, path)
	}
	return s
}

// has reports unless the value at a path is want. Numbers are float64, as encoding/json has them.
func (a *answer) has(want any, path ...string) *answer {
	a.t.Helper()
	if got := a.at(path...); !reflect.DeepEqual(got, want) {
		a.t.Errorf("%s: %v: got %v, want %v, in %s", a.request, path, got, want, a.text)
	}
	return a
}

// nothing is an empty write.
type nothing struct{}

func (nothing) Rows(*storage.Item) {}

// clock is a time that moves when a test says so.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wire is a bus within the process that delivers at once.
type wire struct {
	mu       sync.Mutex
	handlers map[string][]func([]byte)
}

func (w *wire) Publish(topic string, data []byte) error {
	w.mu.Lock()
	handlers := w.handlers[topic]
	w.mu.Unlock()
	for _, handle := range handlers {
		handle(data)
	}
	return nil
}

func (w *wire) Subscribe(topic string, handle func([]byte)) (cancel func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handlers == nil {
		w.handlers = map[string][]func([]byte){}
	}
	w.handlers[topic] = append(w.handlers[topic], handle)
	return func() {}, nil
}

// logOf writes log lines into the output of a test.
type logOf struct{ t testing.TB }

func (l logOf) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
