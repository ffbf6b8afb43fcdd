package httpapi

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func newClock() *clock { return &clock{time.Unix(1_000_000, 0)} }

// retryAfter returns what a refusal says, or -1 if there was none.
func retryAfter(t *testing.T, err error) int64 {
	t.Helper()
	if err == nil {
		return -1
	}
	var e *matrix.Error
	if !errors.As(err, &e) || e.Code != matrix.LimitExceeded {
		t.Fatalf("got %v, want M_LIMIT_EXCEEDED", err)
	}
	return e.Fields["retry_after_ms"].(int64)
}

func TestLimit(t *testing.T) {
	c := newClock()
	l := NewLimit(config.Limit{PerSecond: 2, Burst: 3}, c.time)
	steps := []struct {
		after time.Duration
		name  string
		want  int64
	}{
		{0, "a", -1}, {0, "a", -1}, {0, "a", -1}, {0, "a", 500}, {0, "a", 500}, // refusals cost nothing
		{0, "b", -1},
		{499 * time.Millisecond, "a", 1}, {time.Millisecond, "a", -1}, {0, "a", 500},
		{time.Hour, "a", -1}, {0, "a", -1}, {0, "a", -1}, {0, "a", 500}, // no more than the burst
	}
	for i, step := range steps {
		c.now = c.now.Add(step.after)
		if got := retryAfter(t, l.Check(step.name)); got != step.want {
			t.Errorf("step %d, %s: got %d, want %d", i, step.name, got, step.want)
		}
	}
}

func TestLimitsAtTheEdge(t *testing.T) {
	c := newClock()
	var none *Limit
	if err := none.Check("a"); err != nil {
		t.Errorf("no limit: got %v", err)
	}
	never := NewLimit(config.Limit{}, c.time)
	if got, want := retryAfter(t, never.Check("a")), longestWait.Milliseconds(); got != want {
		t.Errorf("a limit of nothing: got %d, want %d", got, want)
	}
	once := NewLimit(config.Limit{Burst: 1}, c.time)
	if err := once.Check("a"); err != nil {
		t.Errorf("first of one: got %v", err)
	}
	if got, want := retryAfter(t, once.Check("a")), longestWait.Milliseconds(); got != want {
		t.Errorf("second of one: got %d, want %d", got, want)
	}
}

// TestEviction: memory is bounded, and whoever goes on asking is not forgotten.
func TestEviction(t *testing.T) {
	l := NewLimit(config.Limit{Burst: 1}, newClock().time)
	if err := l.Check("busy"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * generationSize {
		if i%1000 == 0 && l.Check("busy") == nil {
			t.Fatalf("after %d others the limit was forgotten", i)
		}
		_ = l.Check(fmt.Sprint(i))
	}
	if got := len(l.young) + len(l.older); got > 2*generationSize {
		t.Errorf("got %d buckets, want at most %d", got, 2*generationSize)
	}
}

func TestNewLimits(t *testing.T) {
	off := NewLimits(config.RateLimits{Login: config.Limit{PerSecond: 1, Burst: 1}}, time.Now)
	if off != (Limits{}) {
		t.Errorf("switched off: got %v, want none", off)
	}
	// Each limit gets the setting of its own name.
	var c config.RateLimits
	settings := reflect.ValueOf(&c).Elem()
	for i := range settings.NumField() {
		if l, ok := settings.Field(i).Addr().Interface().(*config.Limit); ok {
			l.Burst = i + 1
		}
	}
	c.Enabled = true
	limits := reflect.ValueOf(NewLimits(c, time.Now))
	for i := range limits.NumField() {
		name := limits.Type().Field(i).Name
		got, want := limits.Field(i).Interface().(*Limit).burst, settings.FieldByName(name).Interface().(config.Limit).Burst
		if got != want {
			t.Errorf("%s: got that of field %d, want of %d", name, got, want)
		}
	}
	if got, want := limits.NumField(), settings.NumField()-1; got != want {
		t.Errorf("got %d limits, want the %d of the configuration", got, want)
	}
}

func TestLimitOfRoutes(t *testing.T) {
	c := newClock()
	limit := func() *Limit { return NewLimit(config.Limit{PerSecond: 1, Burst: 1}, c.time) }
	h, _ := serverOf(t, Settings{}, func(r *Router) {
		r.Get("/authed", Authed(known, limit(), whoami))
		r.Get("/open", Open(limit(), whoami))
	})
	from := func(addr string) string { return "\nX-Forwarded-For: " + addr }
	alice, bob := "\nAuthorization: Bearer secret", "\nAuthorization: Bearer other"
	steps := []struct {
		req    string
		status int
	}{
		{"GET /authed" + alice + from("1.1.1.1"), 200},
		{"GET /authed" + alice + from("2.2.2.2"), 429}, // per user, not per address
		{"GET /authed" + bob + from("1.1.1.1"), 200},
		{"GET /authed", 401},
		{"GET /open" + from("1.1.1.1"), 200},
		{"GET /open" + from("1.1.1.1"), 429},
		{"GET /open" + alice + from("1.1.1.1"), 429},
		{"GET /open" + from("2.2.2.2"), 200},
		{"GET /open" + from("2001:db8:0:1::1"), 200},
		{"GET /open" + from("2001:db8:0:1:ffff::2"), 429}, // the same /64
		{"GET /open" + from("2001:db8:0:2::1"), 200},
	}
	for i, step := range steps {
		if w := ask(t, h, step.req, ""); w.Code != step.status {
			t.Errorf("step %d, %q: got %d %s, want %d", i, step.req, w.Code, w.Body, step.status)
		}
	}
	w := ask(t, h, "GET /authed"+alice, "")
	wantError(t, w, 429, matrix.LimitExceeded, "")
	if got := w.Header().Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After: got %q, want 1", got)
	}
}

func TestClientAddr(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"direct", "1.2.3.4:5", nil, "1.2.3.4"},
		{"a stranger may not say", "1.2.3.4:5", []string{"6.6.6.6"}, "1.2.3.4"},
		{"loopback", "127.0.0.1:5", []string{"6.6.6.6"}, "6.6.6.6"},
		{"loopback, IPv6", "[::1]:5", []string{"6.6.6.6"}, "6.6.6.6"},
		{"loopback, alone", "[::1]:5", nil, "::1"},
		{"configured", "10.1.2.3:5", []string{"6.6.6.6"}, "6.6.6.6"},
		{"configured, IPv6", "[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1"},
		{"mapped", "[::ffff:10.1.2.3]:5", []string{"::ffff:6.6.6.6"}, "6.6.6.6"},
		{"what the client wrote", "127.0.0.1:5", []string{"9.9.9.9, 6.6.6.6"}, "6.6.6.6"},
		{"a row of proxies", "127.0.0.1:5", []string{"9.9.9.9, 6.6.6.6, 10.0.0.1 ,10.0.0.2"}, "6.6.6.6"},
		{"several lines", "127.0.0.1:5", []string{"9.9.9.9", "6.6.6.6", "10.0.0.1"}, "6.6.6.6"},
		{"only proxies", "127.0.0.1:5", []string{"10.0.0.9, 10.0.0.1"}, "10.0.0.9"},
		{"nonsense", "127.0.0.1:5", []string{"6.6.6.6, nonsense"}, "127.0.0.1"},
		{"nonsense behind", "127.0.0.1:5", []string{"nonsense, 10.0.0.1"}, "10.0.0.1"},
		{"empty", "127.0.0.1:5", []string{""}, "127.0.0.1"},
		{"empty elements", "127.0.0.1:5", []string{",,"}, "127.0.0.1"},
		{"zone", "[fe80::1%eth0]:5", nil, "fe80::1"},
		{"socket file", "@", []string{"6.6.6.6"}, "invalid IP"},
	}
	for _, test := range tests {
		if got := clientAddr(test.remote, test.forwarded, proxies).String(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func FuzzClientAddr(f *testing.F) {
	f.Add("127.0.0.1:1", "1.1.1.1, ::1")
	f.Add("1.1.1.1:1", ",")
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		got := clientAddr(remote, []string{forwarded}, nil)
		peer, err := netip.ParseAddrPort(remote)
		if err != nil {
			if got.IsValid() {
				t.Errorf("got %s without a connection's address", got)
			}
			return
		}
		if peer := peer.Addr().Unmap().WithZone(""); !peer.IsLoopback() && got != peer {
			t.Errorf("got %s, want %s, which nobody may speak for", got, peer)
		}
	})
}
