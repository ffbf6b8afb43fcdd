package ephemeral

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

const (
	alice = matrix.UserID("@alice:test")
	bob   = matrix.UserID("@bob:test")
	room  = matrix.RoomID("!room:test")
)

// wire is a bus between the servers of one test. It delivers at once.
type wire struct{ handlers map[string][]func([]byte) }

func (w *wire) Publish(topic string, data []byte) error {
	for _, h := range w.handlers[topic] {
		h(data)
	}
	return nil
}

func (w *wire) Subscribe(topic string, h func([]byte)) (func(), error) {
	w.handlers[topic] = append(w.handlers[topic], h)
	return func() {}, nil
}

// clock is the time of one test.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

// pass moves time on and does what became due.
func (c *clock) pass(d time.Duration, servers ...*Server) {
	c.now = c.now.Add(d)
	for _, s := range servers {
		s.step(c.now)
	}
}

func newServer(t *testing.T, w *wire, c *clock, boot string) *Server {
	t.Helper()
	s, err := New(Settings{Bus: w, Now: c.read, Boot: boot, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func newWorld(t *testing.T) (*Server, *wire, *clock) {
	w := &wire{handlers: map[string][]func([]byte){}}
	c := &clock{now: time.Unix(1_700_000_000, 0)}
	return newServer(t, w, c, "one"), w, c
}

func wantTyping(t *testing.T, s *Server, want ...matrix.UserID) int64 {
	t.Helper()
	got, changed := s.Typing(room)
	if !slices.Equal(got, want) {
		t.Errorf("typing: got %v, want %v", got, want)
	}
	return changed
}

func TestTypingStartsExtendsAndStops(t *testing.T) {
	s, _, c := newWorld(t)
	var told []Change
	s.Listen(func(ch Change) { told = append(told, ch) })

	s.SetTyping(room, alice, 10*time.Second)
	first := wantTyping(t, s, alice)
	s.SetTyping(room, bob, 30*time.Second)
	second := wantTyping(t, s, alice, bob)
	if second <= first {
		t.Errorf("counter after a second typist: got %d, want more than %d", second, first)
	}
	s.SetTyping(room, alice, 20*time.Second)
	if again := wantTyping(t, s, alice, bob); again != second {
		t.Errorf("an extension is no news: got counter %d, want %d", again, second)
	}
	c.pass(15*time.Second, s)
	wantTyping(t, s, alice, bob)
	c.pass(6*time.Second, s)
	wantTyping(t, s, bob)
	s.SetTyping(room, bob, 0)
	if last := wantTyping(t, s); last != s.Counter() {
		t.Errorf("counter of the empty list: got %d, want %d", last, s.Counter())
	}
	if len(told) != 4 {
		t.Errorf("changes told: got %d (%v), want 4", len(told), told)
	}
}

func TestTypingIsBounded(t *testing.T) {
	s, _, c := newWorld(t)
	s.SetTyping(room, alice, 24*time.Hour)
	c.pass(maxTyping, s)
	wantTyping(t, s)
	c.pass(keepSilent, s)
	if _, changed := s.Typing(room); changed != 0 {
		t.Errorf("a silent room is forgotten: got counter %d, want 0", changed)
	}
	s.SetTyping("!other:test", bob, 0)
	if len(s.typing) != 0 {
		t.Errorf("stopping where nobody types keeps nothing: got %d rooms, want 0", len(s.typing))
	}
}

func TestStepSleepsUntilTheNextEnd(t *testing.T) {
	s, _, c := newWorld(t)
	if got := s.step(c.now); got != maxPause {
		t.Errorf("pause with nothing to do: got %v, want %v", got, maxPause)
	}
	s.SetTyping(room, alice, 2*time.Second)
	if got := s.step(c.now); got != 2*time.Second {
		t.Errorf("pause: got %v, want 2s", got)
	}
}

func TestNodesHearEachOther(t *testing.T) {
	one, w, c := newWorld(t)
	two := newServer(t, w, c, "two")

	one.SetTyping(room, alice, 5*time.Second)
	wantTyping(t, two, alice)
	if err := one.SetPresence(alice, Unavailable, "lunch"); err != nil {
		t.Fatal(err)
	}
	got := two.Presence(alice)
	if got.State != Unavailable || got.Status != "lunch" {
		t.Errorf("presence at the other node: got %+v, want unavailable, lunch", got)
	}
	if c1, c2 := one.Counter(), two.Counter(); c1 != 2 || c2 != 2 {
		t.Errorf("counters: got %d and %d, want 2 and 2: a node counts its own change once", c1, c2)
	}
	for _, garbage := range []string{"", "{", `{"state":"asleep"}`, `[]`} {
		two.hearTyping([]byte(garbage))
		two.hearPresence([]byte(garbage))
	}
	if got := two.Counter(); got != 2 {
		t.Errorf("counter after garbage: got %d, want 2", got)
	}
}

func TestPresenceFollowsSyncs(t *testing.T) {
	s, _, c := newWorld(t)
	if got := s.Presence(alice); got.State != Offline || got.Known {
		t.Errorf("before any sync: got %+v, want offline, unknown", got)
	}
	done := s.Syncing(alice, Online)
	if got := s.Presence(alice); got.State != Online || !got.CurrentlyActive {
		t.Errorf("in a sync: got %+v, want online and active", got)
	}
	c.pass(2*time.Minute, s)
	if got := s.Presence(alice); got.State != Online || got.CurrentlyActive {
		t.Errorf("after two quiet minutes: got %+v, want online, not active", got)
	}
	c.pass(idleAfter, s)
	if got := s.Presence(alice).State; got != Unavailable {
		t.Errorf("after a long silence: got %s, want unavailable", got)
	}
	s.Active(alice)
	if got := s.Presence(alice).State; got != Online {
		t.Errorf("after activity: got %s, want online", got)
	}
	done()
	c.pass(offlineAfter-time.Second, s)
	if got := s.Presence(alice).State; got != Online {
		t.Errorf("between two syncs: got %s, want online", got)
	}
	c.pass(maxPause, s)
	if got := s.Presence(alice).State; got != Offline {
		t.Errorf("without a sync: got %s, want offline", got)
	}
	c.pass(forgetAfter, s)
	if len(s.presence) != 0 {
		t.Errorf("an offline user is forgotten: got %d kept, want 0", len(s.presence))
	}
}

func TestSetPresenceParameterOfSync(t *testing.T) {
	for _, tc := range []struct{ name, before, parameter, want string }{
		{"online lifts offline", Offline, Online, Online},
		{"unavailable lifts offline", Offline, Unavailable, Unavailable},
		{"offline leaves offline", Offline, Offline, Offline},
		{"online leaves a chosen unavailable", Unavailable, Online, Unavailable},
		{"unavailable lowers online", Online, Unavailable, Unavailable},
		{"offline leaves online", Online, Offline, Online},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, _, _ := newWorld(t)
			if err := s.SetPresence(alice, tc.before, ""); err != nil {
				t.Fatal(err)
			}
			s.Syncing(alice, tc.parameter)()
			if got := s.Presence(alice).State; got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Others drop who was last active a year ago, so the first word of a user counts as activity, whatever it says. A later
// one that it is away does not.
func TestFirstWordIsActivity(t *testing.T) {
	for name, first := range map[string]func(*Server){
		"presence": func(s *Server) { _ = s.SetPresence(alice, Unavailable, "busy") },
		"sync":     func(s *Server) { s.Syncing(alice, Unavailable)() },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, clock := newWorld(t)
			first(s)
			clock.pass(time.Minute)
			if err := s.SetPresence(alice, Unavailable, "later"); err != nil {
				t.Fatal(err)
			}
			if got := s.Presence(alice); !got.Known || got.LastActiveAgo != time.Minute {
				t.Errorf("got known %v, active %v ago, want a minute", got.Known, got.LastActiveAgo)
			}
		})
	}
}

func TestSetPresenceRefusesNonsense(t *testing.T) {
	s, _, _ := newWorld(t)
	if err := s.SetPresence(alice, "asleep", ""); err == nil {
		t.Error("an unknown state: got no error")
	}
	if err := s.SetPresence(alice, Online, string(make([]byte, MaxStatusBytes+1))); err == nil {
		t.Error("a status that is too long: got no error")
	}
	if got := s.Counter(); got != 0 {
		t.Errorf("counter: got %d, want 0", got)
	}
}

func TestPresenceSince(t *testing.T) {
	s, _, _ := newWorld(t)
	everybody := func(matrix.UserID) bool { return true }
	for _, u := range []matrix.UserID{alice, bob} {
		if err := s.SetPresence(u, Online, ""); err != nil {
			t.Fatal(err)
		}
	}
	mark := s.Counter()
	if got := s.PresenceSince(mark, everybody); len(got) != 0 {
		t.Errorf("nothing changed: got %v", got)
	}
	if err := s.SetPresence(bob, Offline, "gone"); err != nil {
		t.Fatal(err)
	}
	got := s.PresenceSince(mark, everybody)
	if len(got) != 1 || got[0].User != bob || got[0].State != Offline || got[0].Status != "gone" {
		t.Errorf("since the mark: got %v, want bob offline", got)
	}
	if got := s.PresenceSince(0, everybody); len(got) != 1 || got[0].User != alice {
		t.Errorf("from the start: got %v, want alice only, as bob is offline", got)
	}
	if got := s.PresenceSince(0, func(u matrix.UserID) bool { return u == bob }); len(got) != 0 {
		t.Errorf("invisible users: got %v, want none", got)
	}
}

func TestPresenceIsToldInBatches(t *testing.T) {
	s, _, c := newWorld(t)
	var told []Change
	cancel := s.Listen(func(ch Change) { told = append(told, ch) })
	for _, u := range []matrix.UserID{alice, bob, alice} {
		s.Syncing(u, Online)
	}
	if len(told) != 0 {
		t.Errorf("before a step: got %v, want nothing", told)
	}
	c.pass(tellEvery, s)
	if len(told) != 1 || len(told[0].Users) != 2 {
		t.Errorf("after a step: got %v, want one change of two users", told)
	}
	cancel()
	s.SetTyping(room, alice, time.Second)
	if len(told) != 1 {
		t.Errorf("after cancel: got %v, want no more", told)
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"boot":"two","room":"!r:t","user":"@a:t","until_ms":99999999999999}`))
	f.Add([]byte(`{"boot":"two","user":"@a:t","state":"online","last_active_ms":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &clock{now: time.Unix(1_700_000_000, 0)}
		s := newServer(t, &wire{handlers: map[string][]func([]byte){}}, c, "one")
		s.hearTyping(data)
		s.hearPresence(data)
		s.step(c.now)
	})
}
