package accounts

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// onSQLite makes a world for tests that are not about the database.
func onSQLite(t *testing.T, change ...func(*Settings)) *world {
	t.Helper()
	return newWorld(t, storagetest.Open(t, storagetest.SQLite), change...)
}

func TestChallengeAsJSON(t *testing.T) {
	c := &Challenge{Flows: []Flow{{[]string{"a", "b"}}}, Session: "s"}
	for _, want := range []string{
		`{"flows":[{"stages":["a","b"]}],"params":{},"session":"s"}`,
		`{"errcode":"M_FORBIDDEN","error":"no","completed":["a"],"flows":[{"stages":["a","b"]}],"params":{},"session":"s"}`,
	} {
		if got, err := json.Marshal(c); string(got) != want || err != nil {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		c.Code, c.Message, c.Completed = matrix.Forbidden, "no", []string{"a"}
	}
	if c.Status() != 401 {
		t.Errorf("status: got %d, want 401", c.Status())
	}
}

// opX is an operation that a user confirms.
var opX = operation{name: "op", params: "x"}

func TestConfirmWithThePassword(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	w.register("bob")
	ask := func(params any, auth json.RawMessage) error {
		return w.confirm(w.ctx, who, operation{name: "op", params: params}, auth)
	}

	c := wantChallenge(t, "no auth", ask("x", nil), "")
	again := wantChallenge(t, "wrong password", ask("x", passwordAuth(c.Session, "alice", "wrong")), matrix.Forbidden)
	if again.Session != c.Session || again.Message == "" {
		t.Errorf("another try: got %+v, want the same session %s and why", again, c.Session)
	}
	wantCode(t, "password of another", ask("x", passwordAuth(c.Session, "bob", goodPassword)), matrix.Forbidden)
	wantCode(t, "other parameters", ask("y", passwordAuth(c.Session, "alice", goodPassword)), matrix.Forbidden)
	wantCode(t, "other operation", w.confirm(w.ctx, who, operation{name: "other", params: "x"}, passwordAuth(c.Session, "alice", goodPassword)), matrix.Forbidden)
	only := wantChallenge(t, "session only", ask("x", json.RawMessage(fmt.Sprintf(`{"session":%q}`, c.Session))), "")
	if len(only.Completed) != 0 {
		t.Errorf("completed: got %v, want none", only.Completed)
	}
	wantChallenge(t, "stage of no flow", ask("x", json.RawMessage(fmt.Sprintf(`{"type":"m.login.dummy","session":%q}`, c.Session))), matrix.Unrecognized)
	wantCode(t, "right", ask("x", passwordAuth(c.Session, "@Alice:example.org", goodPassword)), "")
	wantChallenge(t, "used up", ask("x", passwordAuth(c.Session, "alice", goodPassword)), matrix.Unknown)
	wantCode(t, "at once, without a session", ask("x", passwordAuth("", "alice", goodPassword)), "")
}

func TestASessionIsItsUsersOwn(t *testing.T) {
	w := onSQLite(t)
	_, alice := w.register("alice")
	_, bob := w.register("bob")
	c := wantChallenge(t, "alice", w.confirm(w.ctx, alice, opX, nil), "")
	err := w.confirm(w.ctx, bob, opX, passwordAuth(c.Session, "bob", goodPassword))
	wantCode(t, "bob in her session", err, matrix.Forbidden)
}

func TestSessionsExpire(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	c := wantChallenge(t, "begin", w.confirm(w.ctx, who, opX, nil), "")
	w.clock.Advance(sessionLife)
	err := w.confirm(w.ctx, who, opX, passwordAuth(c.Session, "alice", goodPassword))
	next := wantChallenge(t, "too late", err, matrix.Unknown)
	if next.Session == c.Session {
		t.Error("too late: the session goes on")
	}
	wantCode(t, "in the new one", w.confirm(w.ctx, who, opX, passwordAuth(next.Session, "alice", goodPassword)), "")
}

// Strangers can ask for as many sessions as they like; those of users stay.
func TestStrangersDoNotPushOutUsers(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	c := wantChallenge(t, "alice", w.confirm(w.ctx, who, opX, nil), "")
	for range maxSessions + 1 {
		w.Register(w.ctx, Registration{})
	}
	if n := len(w.sessions.strangers.entries); n > maxSessions {
		t.Errorf("sessions of strangers: %d, want at most %d", n, maxSessions)
	}
	wantCode(t, "alice afterwards", w.confirm(w.ctx, who, opX, passwordAuth(c.Session, "alice", goodPassword)), "")
}

func TestOneSessionConfirmsOneRequest(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	c := wantChallenge(t, "begin", w.confirm(w.ctx, who, opX, nil), "")
	var wg sync.WaitGroup
	errs := make(chan error, 10)
	for range cap(errs) {
		wg.Go(func() { errs <- w.confirm(w.ctx, who, opX, passwordAuth(c.Session, "alice", goodPassword)) })
	}
	wg.Wait()
	close(errs)
	confirmed := 0
	for err := range errs {
		if err == nil {
			confirmed++
		} else {
			wantChallenge(t, "too late", err, matrix.Unknown)
		}
	}
	if confirmed != 1 {
		t.Errorf("confirmed: %d, want 1", confirmed)
	}
}

// A guest, or the account of an application service, has no password: nothing it says is one.
func TestAnAccountWithoutAPasswordCannotConfirm(t *testing.T) {
	w := onSQLite(t, withGuests)
	s, err := w.RegisterGuest(w.ctx, "")
	wantCode(t, "register", err, "")
	for _, password := range []string{"", "x", goodPassword} {
		err := w.confirm(w.ctx, w.who(s), operation{name: "op"}, passwordAuth("", string(s.User), password))
		wantChallenge(t, password, err, matrix.Forbidden)
	}
}

func TestABusyServerIsNoWrongPassword(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	w.hasher.waiting.Store(maxWaitingHashes)
	wantCode(t, "busy", w.confirm(w.ctx, who, opX, passwordAuth("", "alice", goodPassword)), matrix.LimitExceeded)
}

func TestStagesComeInOrder(t *testing.T) {
	w := newWorld(t, (*storage.DB)(nil))
	op := operation{name: "op", flows: []Flow{{[]string{TypeDummy, "second"}}, {[]string{"other"}}}}
	auth := func(stage, session string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"type":%q,"session":%q}`, stage, session))
	}
	_, err := w.interact(w.ctx, op, auth("second", ""))
	wantChallenge(t, "the second first", err, matrix.Unrecognized)
	_, err = w.interact(w.ctx, op, auth(TypeDummy, ""))
	c := wantChallenge(t, "the first", err, "")
	if !slices.Equal(c.Completed, []string{TypeDummy}) {
		t.Errorf("completed: got %v, want %s", c.Completed, TypeDummy)
	}
	_, err = w.interact(w.ctx, op, auth(TypeDummy, c.Session))
	again := wantChallenge(t, "the first again", err, "")
	if !slices.Equal(again.Completed, c.Completed) {
		t.Errorf("completed: got %v, want %v", again.Completed, c.Completed)
	}
	_, err = w.interact(w.ctx, op, auth("other", c.Session))
	wantChallenge(t, "of another flow", err, matrix.Unrecognized)
	done, err := w.interact(w.ctx, op, auth("second", c.Session))
	if err != nil || len(done.completed) != 2 {
		t.Errorf("all: got %v, %v, want both stages", done.completed, err)
	}
}

// A session begun without parameters is bound by the first request that has some and stays in it.
func TestParametersAreBoundOnce(t *testing.T) {
	w := newWorld(t, (*storage.DB)(nil))
	op := func(params any) operation {
		return operation{name: "op", params: params, flows: []Flow{{[]string{TypeDummy, "second"}}}}
	}
	_, err := w.interact(w.ctx, op(nil), nil)
	c := wantChallenge(t, "begin", err, "")
	auth := json.RawMessage(fmt.Sprintf(`{"type":%q,"session":%q}`, TypeDummy, c.Session))
	_, err = w.interact(w.ctx, op("a"), auth)
	wantChallenge(t, "first parameters", err, "")
	for _, params := range []any{"b", nil} {
		_, err = w.interact(w.ctx, op(params), auth)
		wantCode(t, fmt.Sprint("then ", params), err, matrix.Forbidden)
	}
	_, err = w.interact(w.ctx, op("a"), auth)
	wantChallenge(t, "the same again", err, "")
}

func TestSessionsKeepNoParameters(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	wantChallenge(t, "begin", w.ChangePassword(w.ctx, who, PasswordChange{NewPassword: "my new secret"}), "")
	for _, s := range w.sessions.users.entries {
		if s.value.params == w.sessions.digest([]any{"other", false}) {
			t.Error("two passwords have the same digest")
		}
		if s.value.token != "" {
			t.Errorf("session: got %+v, want no secret in it", s.value)
		}
	}
	other := newSessions([]byte("another process"))
	if w.sessions.digest("x") == other.digest("x") {
		t.Error("digests do not depend on the secret of the process")
	}
}

func TestSessionLifeIsCountedFromItsBegin(t *testing.T) {
	w := newWorld(t, (*storage.DB)(nil))
	op := operation{name: "op", flows: []Flow{{[]string{TypeDummy, "second"}}}}
	_, err := w.interact(w.ctx, op, nil)
	c := wantChallenge(t, "begin", err, "")
	w.clock.Advance(sessionLife - time.Second)
	auth := json.RawMessage(fmt.Sprintf(`{"type":%q,"session":%q}`, TypeDummy, c.Session))
	_, err = w.interact(w.ctx, op, auth)
	wantChallenge(t, "in time", err, "")
	w.clock.Advance(time.Second)
	_, err = w.interact(w.ctx, op, auth)
	wantChallenge(t, "too late", err, matrix.Unknown)
}

func FuzzParseAuth(f *testing.F) {
	for _, seed := range []string{
		`{"type":"m.login.dummy"}`, `{"type":"m.login.password","session":"x","identifier":{"type":"m.id.user"},"password":"p"}`,
		`null`, `{}`, `[]`, `"x"`, `{"type":1}`, `{"session":{}}`, `{"type":"m.login.registration_token","token":"t"}`, ``, ` null`,
	} {
		f.Add([]byte(seed))
	}
	w := newWorld(f, (*storage.DB)(nil))
	op := operation{name: "op", flows: []Flow{{[]string{TypeDummy}}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		auth, err := parseAuth(raw)
		if err != nil {
			wantCode(t, string(raw), err, matrix.BadJSON)
			return
		}
		_, err = w.interact(t.Context(), op, raw)
		if passes := auth != nil && auth.Type == TypeDummy && auth.Session == ""; passes != (err == nil) {
			t.Errorf("%s: got %v, want success: %v", raw, err, passes)
		}
	})
}
