package outbound_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

var counting sync.Mutex

// count counts the requests that h gets.
func count(n *int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		counting.Lock()
		*n++
		counting.Unlock()
		h(w, r)
	}
}

// hang answers nothing until stop is closed or the client goes away.
func hang(stop <-chan struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}
}

// endless never stops to write.
func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := io.WriteString(w, strings.Repeat(" ", 1024)); err != nil {
			return
		}
	}
}

// delegating is an internet on which a.example has a discovery file, and b.example is where it delegates to.
func delegating(t *testing.T, file http.HandlerFunc) *internet {
	t.Helper()
	n := newInternet(t)
	n.name("a.example", "8.0.0.1")
	n.name("b.example", "9.0.0.1")
	n.serve("8.0.0.1:443", file, "a.example", "www.a.example")
	n.serve("8.0.0.1:8448", homeserver, "a.example")
	n.serve("9.0.0.1:8448", homeserver, "b.example")
	return n
}

func routeHost(t *testing.T, c *outbound.Client) string {
	t.Helper()
	r, err := c.Route(t.Context(), "a.example")
	if err != nil {
		t.Errorf("got %v, want a route", err)
		return ""
	}
	return r.Host
}

// Hostile discovery files: CVE-2021-21274 and its kind. None of them keeps the server from being found.
func TestCVE_2021_21274_HostileWellKnown(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	// hops leads over so many redirects to the file.
	hops := func(most int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var hop int
			fmt.Sscanf(r.URL.RawQuery, "%d", &hop)
			if hop == most {
				io.WriteString(w, `{"m.server":"b.example"}`)
				return
			}
			http.Redirect(w, r, fmt.Sprintf("?%d", hop+1), http.StatusFound)
		}
	}
	file := `{"m.server":"b.example"}`
	tests := []struct {
		name string
		file http.HandlerFunc
		want string
	}{
		{"good", wellKnown(file), "b.example"},
		{"as large as may be", wellKnown(file + strings.Repeat(" ", 50<<10-len(file))), "b.example"},
		{"a byte larger", wellKnown(file + strings.Repeat(" ", 50<<10-len(file)+1)), "a.example"},
		{"endless", endless, "a.example"},
		{"headers without end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
			io.WriteString(w, file)
		}, "a.example"},
		{"ten redirects", hops(10), "b.example"},
		{"eleven redirects", hops(11), "a.example"},
		{"redirect to itself", redirect("/.well-known/matrix/server"), "a.example"},
		{"redirect to plain HTTP", redirect("http://www.a.example/x"), "a.example"},
		{"redirect inside", redirect("https://127.0.0.1:443/x"), "a.example"},
		{"redirect to a name inside", redirect("https://inside.example/x"), "a.example"},
		{"redirect to the metadata service", redirect("http://169.254.169.254/latest/meta-data"), "a.example"},
		{"redirect to a file", redirect("file:///etc/passwd"), "a.example"},
		{"not found", http.NotFound, "a.example"},
		{"error with a good body", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, file)
		}, "a.example"},
		{"not an object", wellKnown(`"b.example"`), "a.example"},
		{"no name", wellKnown(`{}`), "a.example"},
		{"number", wellKnown(`{"m.server":1}`), "a.example"},
		{"URL", wellKnown(`{"m.server":"https://b.example"}`), "a.example"},
		{"path", wellKnown(`{"m.server":"b.example/x"}`), "a.example"},
		{"user", wellKnown(`{"m.server":"x@b.example"}`), "a.example"},
		{"deep", wellKnown(strings.Repeat(`[`, 20_000)), "a.example"},
		{"other fields", wellKnown(`{"x":1.5,"m.server":"b.example","y":null}`), "b.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := delegating(t, test.file)
			n.name("inside.example", "10.0.0.1")
			if got := routeHost(t, n.client()); got != test.want {
				t.Errorf("got host %q, want %q", got, test.want)
			}
			for _, inside := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254"} {
				if n.wasDialled(inside) {
					t.Errorf("got a connection to %s, want none", inside)
				}
			}
		})
	}
}

func TestWellKnownIsKept(t *testing.T) {
	fetched := 0
	n := delegating(t, count(&fetched, wellKnown(`{"m.server":"b.example"}`)))
	c := n.client()
	for _, step := range []struct {
		pass time.Duration
		want int
	}{{0, 1}, {time.Hour, 1}, {22 * time.Hour, 1}, {time.Hour, 2}, {23 * time.Hour, 2}} {
		n.pass(step.pass)
		if got := routeHost(t, c); got != "b.example" {
			t.Errorf("got host %q, want b.example", got)
		}
		if fetched != step.want {
			t.Errorf("at %v: got %d fetches, want %d", n.now.Sub(start), fetched, step.want)
		}
	}
	c.Doubt("a.example")
	if routeHost(t, c); fetched != 3 {
		t.Errorf("after a failure: got %d fetches, want 3", fetched)
	}
	c.Doubt("a.example")
	if routeHost(t, c); fetched != 3 {
		t.Errorf("after another one: got %d fetches, want 3: it was asked a moment ago", fetched)
	}
}

// Failures are remembered, each for longer than the one before.
func TestWellKnownFailuresAreKept(t *testing.T) {
	fetched := 0
	n := delegating(t, count(&fetched, http.NotFound))
	c := n.client()
	for want, pass := range []time.Duration{0, 30 * time.Second, time.Minute, 2 * time.Minute} {
		if n.pass(pass - time.Second); pass > 0 {
			routeHost(t, c)
			if fetched != want {
				t.Errorf("just before failure %d: got %d fetches, want %d", want+1, fetched, want)
			}
		}
		n.pass(time.Second)
		if routeHost(t, c); fetched != want+1 {
			t.Errorf("failure %d: got %d fetches, want %d", want+1, fetched, want+1)
		}
	}
	for failures, want := range map[int]time.Duration{1: 30 * time.Second, 2: time.Minute, 8: time.Hour, 1 << 40: time.Hour} {
		if got := outbound.WellKnownPause(failures); got != want {
			t.Errorf("after %d failures: got a pause of %v, want %v", failures, got, want)
		}
	}
}

// While the web server is down the delegation stands, for two days at most. If it says that there is none, there is none.
func TestWellKnownOutage(t *testing.T) {
	status := http.StatusOK
	n := delegating(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, `{"m.server":"b.example"}`)
	})
	c := n.client()
	for _, step := range []struct {
		pass   time.Duration
		status int
		want   string
	}{
		{0, http.StatusOK, "b.example"},
		{25 * time.Hour, http.StatusBadGateway, "b.example"},
		{22 * time.Hour, http.StatusBadGateway, "b.example"},
		{2 * time.Hour, http.StatusBadGateway, "a.example"},
		{2 * time.Hour, http.StatusOK, "b.example"},
		{25 * time.Hour, http.StatusNotFound, "a.example"},
	} {
		n.pass(step.pass)
		status = step.status
		if got := routeHost(t, c); got != step.want {
			t.Errorf("at %v, status %d: got host %q, want %q", n.now.Sub(start), status, got, step.want)
		}
	}
}

// A discovery file that never comes costs its time-out once, whether it is the connection or the answer.
func TestSilentWellKnown(t *testing.T) {
	outbound.ShortWellKnown(t, 50*time.Millisecond)
	fetched := 0
	stop := make(chan struct{})
	defer close(stop)
	hanging := delegating(t, count(&fetched, hang(stop))).client()
	for range 3 {
		if got := routeHost(t, hanging); got != "a.example" {
			t.Errorf("got host %q, want a.example", got)
		}
	}
	counting.Lock()
	if fetched > 1 {
		t.Errorf("got %d fetches, want one", fetched)
	}
	counting.Unlock()
	n := delegating(t, wellKnown(`{}`))
	n.silent[netip.MustParseAddr("8.0.0.1")] = true
	c := n.client()
	for range 3 {
		if got := routeHost(t, c); got != "a.example" {
			t.Errorf("got host %q, want a.example", got)
		}
	}
	if got := len(n.dialled); got != 1 {
		t.Errorf("got %d attempts to connect, want 1", got)
	}
}

func TestWellKnownLife(t *testing.T) {
	tests := []struct {
		name    string
		headers []string // name, value, ...
		want    time.Duration
	}{
		{"nothing said", nil, 24 * time.Hour},
		{"max-age", []string{"Cache-Control", "public, max-age=3600"}, time.Hour},
		{"max-age in quotes", []string{"Cache-Control", `Max-Age="3600"`}, time.Hour},
		{"less its age", []string{"Cache-Control", "max-age=3600", "Age", "600"}, 50 * time.Minute},
		{"too short", []string{"Cache-Control", "max-age=0"}, 5 * time.Minute},
		{"too long", []string{"Cache-Control", "max-age=99999999"}, 48 * time.Hour},
		{"far too long", []string{"Cache-Control", "max-age=99999999999999999999999"}, 48 * time.Hour},
		{"nonsense", []string{"Cache-Control", "max-age=-1, =, ,,max-age"}, 24 * time.Hour},
		{"no-store", []string{"Cache-Control", "no-store"}, 5 * time.Minute},
		{"no-cache before max-age", []string{"Cache-Control", "max-age=3600, no-cache"}, 5 * time.Minute},
		{"two headers", []string{"Cache-Control", "public", "Cache-Control", "max-age=3600"}, time.Hour},
		{"expires", []string{"Expires", start.Add(2 * time.Hour).Format(http.TimeFormat)}, 2 * time.Hour},
		{"expired", []string{"Expires", start.Add(-time.Hour).Format(http.TimeFormat)}, 5 * time.Minute},
		{"expires 0", []string{"Expires", "0"}, 24 * time.Hour},
		{"max-age before expires", []string{"Expires", start.Format(http.TimeFormat), "Cache-Control", "max-age=3600"}, time.Hour},
	}
	for _, test := range tests {
		h := http.Header{}
		for i := 0; i < len(test.headers); i += 2 {
			h.Add(test.headers[i], test.headers[i+1])
		}
		if got := outbound.WellKnownLife(h, start); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// FuzzWellKnown: what is taken from a file is a server name, and the file itself decides whether it is.
func FuzzWellKnown(f *testing.F) {
	for _, text := range []string{
		`{"m.server":"b.example:99"}`, `{"m.server":"[::1]"}`, `{"m.server":null}`, `[]`, `{"m.server":"a","m.server":"b"}`,
		"\xef\xbb\xbf{}", `{"m.server":"\u0000"}`,
	} {
		f.Add([]byte(text), "max-age=5")
	}
	f.Fuzz(func(t *testing.T, text []byte, cacheControl string) {
		name, ok := outbound.ParseWellKnown(text)
		if _, err := matrix.ParseServerName(string(name)); ok != (err == nil) {
			t.Errorf("%q: got %q, %t, which is a server name: %t", text, name, ok, err == nil)
		}
		life := outbound.WellKnownLife(http.Header{"Cache-Control": {cacheControl}}, start)
		if life < 5*time.Minute || life > 48*time.Hour {
			t.Errorf("%q: got a life of %v, want one within bounds", cacheControl, life)
		}
	})
}
