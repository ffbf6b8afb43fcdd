package outbound_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Every step of the specification: where the request goes, and with which Host and TLS name.
// https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
func TestDiscovery(t *testing.T) {
	const wellKnownAt = "8.0.0.1:443"
	srv := func(host string, port uint16) *net.SRV { return &net.SRV{Target: host, Port: port} }
	tests := []struct {
		name       string
		server     matrix.ServerName
		set        func(n *internet)
		listens    string   // where the homeserver is
		cert       []string // its certificate
		host, sni  string
		mustAskSRV []string
	}{
		{"1: address", "9.0.0.1", nil, "9.0.0.1:8448", []string{"9.0.0.1"}, "9.0.0.1", "", nil},
		{"1: address and port", "9.0.0.1:99", nil, "9.0.0.1:99", []string{"9.0.0.1"}, "9.0.0.1:99", "", nil},
		{"1: IPv6", "[2600::9]", nil, "[2600::9]:8448", []string{"2600::9"}, "[2600::9]", "", nil},
		{"1: IPv6 and port", "[2600::9]:99", nil, "[2600::9]:99", []string{"2600::9"}, "[2600::9]:99", "", nil},
		{"2: name and port", "a.example:99", func(n *internet) {
			n.name("a.example", "9.0.0.1")
			n.serve(wellKnownAt, wellKnown(`{"m.server":"wrong.example"}`), "a.example")
		}, "9.0.0.1:99", []string{"a.example"}, "a.example:99", "a.example", nil},
		{"3.1: delegated to an address", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"9.0.0.1"}`), "a.example")
		}, "9.0.0.1:8448", []string{"9.0.0.1"}, "9.0.0.1", "", nil},
		{"3.1: delegated to an address and port", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"[2600::9]:99"}`), "a.example")
		}, "[2600::9]:99", []string{"2600::9"}, "[2600::9]:99", "", nil},
		{"3.2: delegated to a name and port", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"b.example:99"}`), "a.example")
			n.name("b.example", "9.0.0.1")
		}, "9.0.0.1:99", []string{"b.example"}, "b.example:99", "b.example", nil},
		{"3.3: delegated, SRV", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"b.example"}`), "a.example")
			n.service("matrix-fed", "b.example", srv("c.example.", 77))
			n.name("c.example", "9.0.0.1")
		}, "9.0.0.1:77", []string{"b.example"}, "b.example", "b.example", []string{"_matrix-fed._tcp.b.example"}},
		{"3.4: delegated, old SRV", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"b.example"}`), "a.example")
			n.service("matrix", "b.example", srv("c.example.", 77))
			n.name("c.example", "9.0.0.1")
		}, "9.0.0.1:77", []string{"b.example"}, "b.example", "b.example",
			[]string{"_matrix-fed._tcp.b.example", "_matrix._tcp.b.example"}},
		{"3.5: delegated, no SRV", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"b.example"}`), "a.example")
			n.name("b.example", "9.0.0.1")
		}, "9.0.0.1:8448", []string{"b.example"}, "b.example", "b.example", nil},
		{"4: SRV", "a.example", func(n *internet) {
			n.service("matrix-fed", "a.example", srv("c.example.", 77))
			n.name("c.example", "9.0.0.1")
		}, "9.0.0.1:77", []string{"a.example"}, "a.example", "a.example", []string{"_matrix-fed._tcp.a.example"}},
		{"4: SRV, the first target is dead", "a.example", func(n *internet) {
			n.service("matrix-fed", "a.example", srv("dead.example.", 78), srv("c.example.", 77))
			n.name("dead.example", "9.0.0.9")
			n.name("c.example", "9.0.0.1")
		}, "9.0.0.1:77", []string{"a.example"}, "a.example", "a.example", nil},
		{"5: old SRV", "a.example", func(n *internet) {
			n.service("matrix", "a.example", srv("c.example.", 77))
			n.name("c.example", "9.0.0.1")
		}, "9.0.0.1:77", []string{"a.example"}, "a.example", "a.example", []string{"_matrix-fed._tcp.a.example", "_matrix._tcp.a.example"}},
		{"6: nothing", "a.example", nil, "8.0.0.1:8448", []string{"a.example"}, "a.example", "a.example", nil},
		{"6: the name server does not know", "a.example", func(n *internet) { n.broken = true },
			"8.0.0.1:8448", []string{"a.example"}, "a.example", "a.example", nil},
		{"6: a discovery file that is none", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`<html>m.server: b.example</html>`), "a.example")
		}, "8.0.0.1:8448", []string{"a.example"}, "a.example", "a.example", nil},
		{"6: a discovery file with a wrong certificate", "a.example", func(n *internet) {
			n.serve(wellKnownAt, wellKnown(`{"m.server":"b.example"}`), "other.example")
		}, "8.0.0.1:8448", []string{"a.example"}, "a.example", "a.example", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newInternet(t)
			if test.server.Port() == "" && !test.server.IsIPLiteral() {
				n.name("a.example", "8.0.0.1")
			}
			if test.set != nil {
				test.set(n)
			}
			n.serve(test.listens, homeserver, test.cert...)
			got, err := ask(t, n.client(), test.server)
			if want := `{"host":"` + test.host + `","sni":"` + test.sni + `"}`; err != nil || got != want {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
			if test.mustAskSRV != nil && !slices.Equal(n.asked, test.mustAskSRV) {
				t.Errorf("got questions for %q, want %q", n.asked, test.mustAskSRV)
			}
		})
	}
}

func TestServersThatAreNotFound(t *testing.T) {
	tests := []struct {
		name   string
		server matrix.ServerName
		set    func(n *internet)
		want   string
	}{
		{"certificate of the SRV target", "a.example", func(n *internet) {
			n.service("matrix-fed", "a.example", &net.SRV{Target: "c.example.", Port: 8448})
			n.name("c.example", "9.0.0.1")
			n.serve("9.0.0.1:8448", homeserver, "c.example")
		}, "certificate"},
		{"certificate of the delegating server", "a.example", func(n *internet) {
			n.name("a.example", "9.0.0.1")
			n.serve("9.0.0.1:443", wellKnown(`{"m.server":"b.example:8448"}`), "a.example")
			n.name("b.example", "9.0.0.1")
			n.serve("9.0.0.1:8448", homeserver, "a.example")
		}, "certificate"},
		{"certificate of another address", "9.0.0.1", func(n *internet) {
			n.serve("9.0.0.1:8448", homeserver, "9.0.0.2")
		}, "certificate"},
		{"no service, says its DNS", "a.example", func(n *internet) {
			n.service("matrix-fed", "a.example", &net.SRV{Target: ".", Port: 0})
		}, "no homeserver"},
		{"SRV to an inner address", "a.example", func(n *internet) {
			n.service("matrix-fed", "a.example", &net.SRV{Target: "127.0.0.1.", Port: 8448})
			n.serve("127.0.0.1:8448", homeserver, "a.example")
		}, "no connections"},
		{"delegated to an inner address", "a.example", func(n *internet) {
			n.name("a.example", "9.0.0.1")
			n.serve("9.0.0.1:443", wellKnown(`{"m.server":"169.254.169.254:80"}`), "a.example")
		}, "no connections"},
		{"port that is none", "a.example:99999", nil, "not a port"},
		{"port zero", "9.0.0.1:0", nil, "not a port"},
		{"no TLS", "9.0.0.1", func(n *internet) { n.serve("9.0.0.1:8448", homeserver) }, "TLS"},
		{"no such name", "a.example", nil, "no such host"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newInternet(t)
			if test.set != nil {
				test.set(n)
			}
			if got, err := ask(t, n.client(), test.server); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %s, %v, want an error with %q", got, err, test.want)
			}
			if n.wasDialled("127.0.0.1") || n.wasDialled("169.254.169.254") {
				t.Errorf("got connections to %v, want none inside", n.dialled)
			}
		})
	}
}

// A route is looked up again after its time, and at once after a failure.
func TestRoutesAreKept(t *testing.T) {
	n := newInternet(t)
	n.name("a.example", "8.0.0.1")
	n.name("c.example", "9.0.0.1")
	n.service("matrix-fed", "a.example", &net.SRV{Target: "c.example.", Port: 77})
	n.serve("9.0.0.1:77", homeserver, "a.example")
	n.serve("9.0.0.1:78", homeserver, "a.example")
	s := n.client()
	questions := func(what string, want int) {
		t.Helper()
		if _, err := ask(t, s, "a.example"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := len(n.asked); got != want {
			t.Errorf("%s: got %d questions for services, want %d", what, got, want)
		}
	}
	questions("first", 1)
	questions("second", 1)
	n.pass(6 * time.Minute)
	questions("after six minutes", 2)
	n.pass(29 * time.Second)
	questions("29 seconds after an answer that came without the discovery file", 2)
	s.Doubt("a.example")
	questions("after a failure", 3)
}

// Those who ask at the same time wait for one search.
func TestOneSearchForMany(t *testing.T) {
	n := newInternet(t)
	n.name("a.example", "8.0.0.1")
	n.name("b.example", "9.0.0.1")
	fetched := 0
	n.serve("8.0.0.1:443", count(&fetched, wellKnown(`{"m.server":"b.example"}`)), "a.example")
	c := n.client()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if r, err := c.Route(t.Context(), "a.example"); err != nil || r.Host != "b.example" {
				t.Errorf("got %v, %v, want the route to b.example", r, err)
			}
		})
	}
	all.Wait()
	if fetched != 1 || len(n.asked) != 2 {
		t.Errorf("got %d fetches and questions %q, want 1 fetch and 2 questions", fetched, n.asked)
	}
}

// Two servers that one machine hosts under one name share connections; another certificate means another connection.
func TestConnectionsAreShared(t *testing.T) {
	n := newInternet(t)
	for _, name := range []string{"a.example", "b.example"} {
		n.name(name, "8.0.0.1")
	}
	n.serve("8.0.0.1:443", wellKnown(`{"m.server":"hosting.example:443"}`), "a.example", "b.example")
	n.name("hosting.example", "9.0.0.1")
	n.serve("9.0.0.1:443", homeserver, "hosting.example")
	c := n.client()
	for _, server := range []matrix.ServerName{"a.example", "b.example", "a.example"} {
		if got, err := ask(t, c, server); err != nil || !strings.Contains(got, `"hosting.example:443"`) {
			t.Errorf("got %s, %v, want an answer of hosting.example:443", got, err)
		}
	}
	got := 0
	for _, to := range n.dialled {
		if to.Addr().String() == "9.0.0.1" {
			got++
		}
	}
	if got != 1 {
		t.Errorf("got %d connections to the host of both servers, want 1", got)
	}
}

func TestRouteEndsWithItsContext(t *testing.T) {
	n := newInternet(t)
	n.name("a.example", "8.0.0.1")
	stop := make(chan struct{})
	n.serve("8.0.0.1:443", hang(stop), "a.example")
	defer close(stop)
	_, err := n.client().Bytes(t.Context(), outbound.Call{To: "a.example", URI: version, Timeout: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v, want a deadline that has passed", err)
	}
}

// panicking is a resolver with a bug.
type panicking struct{ *internet }

func (panicking) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	panic("resolver")
}

// A search runs in a goroutine of its own, where nobody else could recover.
func TestSearchThatPanics(t *testing.T) {
	n := newInternet(t)
	s := n.settings()
	s.Resolver = panicking{n}
	if _, err := newClient(t, s).Route(t.Context(), "a.example"); err == nil || !strings.Contains(err.Error(), "panic: resolver") {
		t.Errorf("got %v, want an error that names the panic", err)
	}
}
