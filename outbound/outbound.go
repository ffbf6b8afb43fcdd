// Package outbound is the one HTTP client of everything that leaves the server: requests to other homeservers, found
// by the rules of the specification and signed with our key, and requests to anywhere else.
//
// Whatever is asked, and by whichever redirects and name servers it goes: no connection is made to an address of a
// private network or of this machine unless the settings permit it, and every answer ends at a size and a time. The
// check of an address stands where the connection is made, behind the resolution of the name, so there is no way
// around it.
//
// The package does not remember which servers are down: who sends to one again and again keeps its own count. It knows
// nothing of what the requests mean.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
)

const (
	maxConns        = 2048 // open or being opened, of all transports together
	maxConnsPerHost = 16   // to one destination without HTTP/2
	maxIdleConns    = 512  // each keeps two goroutines and some 40 kB
	maxIdlePerHost  = 4
	maxHeaderBytes  = 64 << 10
	tlsSessions     = 1024

	idleTimeout = 60 * time.Second
	tlsTimeout  = 10 * time.Second

	// What a peer with HTTP/2 may send that nobody has read yet, on one connection and for one request.
	maxUnreadPerConn    = 16 << 20
	maxUnreadPerRequest = 1 << 20
	// A connection on which nothing comes is asked for a sign of life. Otherwise one that a router on the way has
	// dropped would swallow requests for a quarter of an hour.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
)

// Settings say how to reach others, and as whom.
type Settings struct {
	Federation config.Federation
	Outbound   config.Outbound
	ServerName matrix.ServerName
	Key        signing.Key
	UserAgent  string
	Resolver   Resolver         // nil: that of the system
	Now        func() time.Time // nil: time.Now

	// Connect opens a connection to an address that the policy permits; nil: by TCP. Tests build a network with it.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Client makes requests. All methods may be called from any goroutine.
type Client struct {
	settings  Settings
	servers   serverList
	dialer    *dialer
	tls       *tls.Config // towards homeservers
	peers     *http.Transport
	lone      *http.Transport // to homeservers, without HTTP/2: see Call.Lone
	web       *http.Transport
	discovery *discovery
}

// New makes a client. It fails if the file of certificate authorities is no good.
func New(s Settings) (*Client, error) {
	if s.Resolver == nil {
		s.Resolver = net.DefaultResolver
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	roots, err := readRoots(s.Federation.CAFile)
	if err != nil {
		return nil, err
	}
	c := &Client{settings: s, servers: newServerList(s.Federation), dialer: newDialer(s)}
	c.tls = &tls.Config{
		RootCAs:            roots,
		InsecureSkipVerify: s.Federation.InsecureSkipVerify,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
	}
	c.peers, c.lone, c.web = c.transport(), c.transport(), c.transport()
	c.peers.DialTLSContext = c.dialPeer("h2", "http/1.1")
	c.lone.DialTLSContext = c.dialPeer("http/1.1")
	c.lone.ForceAttemptHTTP2 = false
	c.discovery = newDiscovery(s.Resolver, c.fetchWellKnown, s.Now)
	return c, nil
}

// transport has no proxy: the environment of the process must not decide where requests go, and behind a proxy the
// policy could not see the address.
func (c *Client) transport() *http.Transport {
	return &http.Transport{
		DialContext:            c.dialer.dialContext,
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           maxIdleConns,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		MaxConnsPerHost:        maxConnsPerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: maxUnreadPerConn,
			MaxReceiveBufferPerStream:     maxUnreadPerRequest,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
}

// readRoots returns the certificate authorities in a PEM file, nil (those of the system) without one.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("certificate authorities: %s has no certificate in PEM form", file)
	}
	return roots, nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() {
	c.peers.CloseIdleConnections()
	c.lone.CloseIdleConnections()
	c.web.CloseIdleConnections()
}

// Permits returns an error that says why this server does not talk to s, neither way; nil if it does.
func (c *Client) Permits(s matrix.ServerName) error {
	switch {
	case !c.settings.Federation.Enabled:
		return matrix.Errorf(matrix.Forbidden, "this server does not talk to others")
	case !c.servers.permit(s):
		return matrix.Errorf(matrix.Forbidden, "this server does not talk to %s", s)
	}
	return nil
}

// routeKey is the context key of the route that a request to a homeserver takes.
type routeKey struct{}

// dialPeer returns what connects to the first target of the request's route that can be reached and shows the right
// certificate, for one of the protocols. Without a route the address is as it is, for the discovery files.
func (c *Client) dialPeer(protocols ...string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		route, ok := ctx.Value(routeKey{}).(*Route)
		if !ok {
			host, port, err := splitHostPort(address)
			if err != nil {
				return nil, err
			}
			route = &Route{Targets: []Target{{host, port}}, TLSName: host}
		}
		settings := c.tls.Clone()
		settings.ServerName, settings.NextProtos = route.TLSName, protocols
		var all []error
		for _, target := range route.Targets {
			conn, err := c.dialTarget(ctx, target, settings)
			if err == nil {
				return conn, nil
			}
			all = append(all, err)
		}
		return nil, errors.Join(all...)
	}
}

func (c *Client) dialTarget(ctx context.Context, target Target, settings *tls.Config) (net.Conn, error) {
	raw, err := c.dialer.dial(ctx, target.Host, target.Port)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, settings)
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS with %s: %w", raw.RemoteAddr(), err)
	}
	return conn, nil
}
