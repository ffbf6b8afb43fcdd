// Package outboundtest is a network in one process, for tests of what asks other servers: every name has an address of
// its own, and one HTTPS handler answers for all of them, on the port of Matrix.
package outboundtest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// Denied is a server that clients of a Network do not talk to.
const Denied = matrix.ServerName("denied.example")

// A Network leads to one handler.
type Network struct {
	// IsUp says whether a host takes connections. All do if it is nil. It must be set before the first request.
	IsUp func(host string) bool

	server *httptest.Server
	mu     sync.Mutex
	hosts  map[netip.Addr]string
}

// New returns a network on which h answers, until the test ends. The Host of a request says who is asked.
func New(t testing.TB, h http.HandlerFunc) *Network {
	t.Helper()
	n := &Network{server: httptest.NewUnstartedServer(h), hosts: map[netip.Addr]string{}}
	n.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.server.StartTLS()
	t.Cleanup(n.server.Close)
	return n
}

// Settings are for a client of the network that asks in the name of a server. Callers may add to them.
func (n *Network) Settings(name matrix.ServerName, key signing.Key) outbound.Settings {
	return outbound.Settings{
		Federation: config.Federation{Enabled: true, InsecureSkipVerify: true, Deny: []string{string(Denied)}},
		ServerName: name, Key: key, Resolver: n, Connect: n.connect,
	}
}

// Client makes a client that is closed when the test ends.
func Client(t testing.TB, s outbound.Settings) *outbound.Client {
	t.Helper()
	client, err := outbound.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// Cut breaks all connections.
func (n *Network) Cut() { n.server.CloseClientConnections() }

// LookupNetIP implements outbound.Resolver. The addresses are public ones, so that the policy is in force.
func (n *Network) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for addr, had := range n.hosts {
		if had == host {
			return []netip.Addr{addr}, nil
		}
	}
	i := len(n.hosts) + 1
	addr := netip.AddrFrom4([4]byte{8, 0, byte(i >> 8), byte(i)})
	n.hosts[addr] = host
	return []netip.Addr{addr}, nil
}

// LookupSRV implements outbound.Resolver: there are no such records.
func (n *Network) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *Network) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	host := n.hosts[to.Addr()]
	n.mu.Unlock()
	if to.Port() != 8448 || n.IsUp != nil && !n.IsUp(host) {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", n.server.Listener.Addr().String())
}
