package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

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

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lockedRand is the same randomness in every run.
type lockedRand struct {
	mu  sync.Mutex
	src *rand.ChaCha8
}

func (r *lockedRand) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Read(b)
}

// world is a server's accounts under test.
type world struct {
	*Accounts
	t     testing.TB
	ctx   context.Context
	clock *clock
}

func newWorld(t testing.TB, db *storage.DB, change ...func(*Settings)) *world {
	t.Helper()
	c := &clock{now: time.UnixMilli(1_700_000_000_000)}
	s := Settings{
		DB: db, ServerName: "example.org", Registration: config.Open, SharedSecret: "complement",
		PasswordHashCost: 4, DefaultPushRules: pushrules.DefaultContent,
		Now: c.Now, Rand: &lockedRand{src: rand.NewChaCha8([32]byte{1})},
	}
	for _, f := range change {
		f(&s)
	}
	a, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return &world{a, t, t.Context(), c}
}

// each runs a test on both databases.
func each(t *testing.T, f func(w *world), change ...func(*Settings)) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { f(newWorld(t, db, change...)) })
}

func withRegistration(r config.Registration) func(*Settings) {
	return func(s *Settings) { s.Registration = r }
}

func withGuests(s *Settings) { s.Guests = true }

const goodPassword = "correct horse"

var dummy = json.RawMessage(`{"type":"m.login.dummy"}`)

// register makes an account and returns its first session and who that is.
func (w *world) register(name string) (Session, matrix.Requester) {
	w.t.Helper()
	s, err := w.Register(w.ctx, Registration{Username: name, Password: goodPassword, Auth: dummy})
	if err != nil {
		w.t.Fatalf("register %s: %v", name, err)
	}
	return s, w.who(s)
}

func (w *world) who(s Session) matrix.Requester {
	w.t.Helper()
	who, err := w.Authenticate(w.ctx, s.AccessToken)
	if err != nil {
		w.t.Fatalf("authenticate %s: %v", s.User, err)
	}
	return who
}

// login logs in with a password.
func (w *world) login(name, password string) (Session, error) {
	return w.Login(w.ctx, Login{Type: TypePassword, User: name, Password: password})
}

// passwordAuth is the auth member that answers a password stage.
func passwordAuth(session, user, password string) json.RawMessage {
	text, err := json.Marshal(map[string]any{
		"type": TypePassword, "session": session, "password": password,
		"identifier": map[string]string{"type": "m.id.user", "user": user},
	})
	if err != nil {
		panic(err)
	}
	return text
}

// wantCode fails unless err is answered with code; "" means no error.
func wantCode(t testing.TB, what string, err error, code matrix.ErrorCode) {
	t.Helper()
	if got := matrix.CodeOf(err); got != code {
		t.Errorf("%s: got %q (%v), want %q", what, got, err, code)
	}
}

// wantChallenge fails unless err asks for more authentication, with that error code.
func wantChallenge(t testing.TB, what string, err error, code matrix.ErrorCode) *Challenge {
	t.Helper()
	var c *Challenge
	if !errors.As(err, &c) {
		t.Fatalf("%s: got %v, want a challenge", what, err)
	}
	if c.Code != code {
		t.Errorf("%s: got a challenge with %q, want %q", what, c.Code, code)
	}
	return c
}

// wantLoggedOut fails if the token of a session still works.
func (w *world) wantLoggedOut(what string, s Session) {
	w.t.Helper()
	_, err := w.Authenticate(w.ctx, s.AccessToken)
	wantCode(w.t, what, err, matrix.UnknownToken)
}

func TestTokensAreRecognisableAndNeverStored(t *testing.T) {
	w := onSQLite(t)
	s, _ := w.register("alice")
	if want := "myt_"; len(s.AccessToken) != len(want)+43+9 || s.AccessToken[:4] != want {
		t.Errorf("token: got %q, want myt_, 43 characters, _, 8 digits", s.AccessToken)
	}
	other, _ := w.register("bob")
	if s.AccessToken == other.AccessToken {
		t.Error("two sessions have the same token")
	}
	stored, err := storage.Collect[[]byte](w.ctx, w.db, `SELECT token_hash FROM access_tokens WHERE user_id = $1`, s.User)
	if err != nil || len(stored) != 1 {
		t.Fatalf("stored tokens of alice: got %d, %v, want 1", len(stored), err)
	}
	if want := hashToken(s.AccessToken); string(stored[0]) != string(want[:]) {
		t.Errorf("stored: got %x, want the hash %x", stored[0], want)
	}
}

func TestRandomNameKeepsToItsAlphabet(t *testing.T) {
	w := newWorld(t, nil)
	seen := map[rune]int{}
	for range 200 {
		name, err := w.randomName("abc", 9)
		if err != nil || len(name) != 9 {
			t.Fatalf("got %q, %v, want 9 letters", name, err)
		}
		for _, c := range name {
			seen[c]++
		}
	}
	if len(seen) != 3 || seen['a'] < 500 || seen['b'] < 500 || seen['c'] < 500 {
		t.Errorf("letters: got %v, want about 600 each of a, b, c", seen)
	}
}

type brokenRand struct{}

func (brokenRand) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestNothingIsMadeWithoutRandomness(t *testing.T) {
	w := newWorld(t, nil)
	w.settings.Rand = brokenRand{}
	_, _, err := w.newSession(Device{ID: "D"})
	wantCode(t, "session", err, matrix.Unknown)
	_, _, err = w.newSession(Device{})
	wantCode(t, "device", err, matrix.Unknown)
	_, err = w.RegistrationNonce()
	wantCode(t, "nonce", err, matrix.Unknown)
	_, err = New(Settings{Rand: brokenRand{}})
	wantCode(t, "accounts", err, matrix.Unknown)
}
