package outbound_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

const us = matrix.ServerName("us.example")

// start is when tests begin.
var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// An internet has names, addresses and servers, all of them in this process. Its addresses are public ones, so that
// the policy is in force as it is outside.
type internet struct {
	t      testing.TB
	issuer *x509.Certificate
	key    *ecdsa.PrivateKey
	caFile string

	mu        sync.Mutex
	addresses map[string][][]netip.Addr // of a name: an answer for each time it is asked, the last one for ever
	services  map[string][]*net.SRV     // "_matrix-fed._tcp.name"
	broken    bool                      // the name server does not answer for services
	listeners map[netip.AddrPort]string
	silent    map[netip.Addr]bool // packets to there are lost
	dialled   []netip.AddrPort
	asked     []string // services
	now       time.Time
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &internet{
		t: t, key: key, now: start,
		addresses: map[string][][]netip.Addr{}, services: map[string][]*net.SRV{},
		listeners: map[netip.AddrPort]string{}, silent: map[netip.Addr]bool{},
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if n.issuer, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	n.caFile = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(n.caFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// certificate is for names and addresses.
func (n *internet) certificate(hosts ...string) tls.Certificate {
	n.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, n.issuer, &n.key.PublicKey, n.key)
	if err != nil {
		n.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: n.key}
}

// serve has a server with the certificate of hosts answer at address; of no hosts, without TLS.
func (n *internet) serve(address string, h http.HandlerFunc, hosts ...string) *httptest.Server {
	n.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if len(hosts) == 0 {
		s.Start()
	} else {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{Certificates: []tls.Certificate{n.certificate(hosts...)}}
		s.StartTLS()
	}
	n.t.Cleanup(s.Close)
	n.listeners[netip.MustParseAddrPort(address)] = s.Listener.Addr().String()
	return s
}

// name gives a name addresses; of several calls each is one answer.
func (n *internet) name(name string, addresses ...string) {
	var list []netip.Addr
	for _, a := range addresses {
		list = append(list, netip.MustParseAddr(a))
	}
	n.addresses[name] = append(n.addresses[name], list)
}

func (n *internet) service(service, name string, records ...*net.SRV) {
	n.services["_"+service+"._tcp."+name] = records
}

func (n *internet) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answers := n.addresses[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		n.addresses[host] = answers[1:]
	}
	return answers[0], nil
}

func (n *internet) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	query := "_" + service + "._" + proto + "." + name
	n.asked = append(n.asked, query)
	if n.broken {
		return "", nil, &net.DNSError{Err: "server misbehaving", Name: query, IsTemporary: true}
	}
	records := n.services[query]
	if len(records) == 0 {
		return "", nil, &net.DNSError{Err: "no such host", Name: query, IsNotFound: true}
	}
	return query + ".", records, nil
}

func (n *internet) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, to)
	real, there := n.listeners[to]
	silent := n.silent[to.Addr()]
	n.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if !there {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", real)
}

// wasDialled says whether there was a connection to the address, or an attempt to make one.
func (n *internet) wasDialled(address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.dialled, func(a netip.AddrPort) bool { return a.Addr().String() == address })
}

func (n *internet) clock() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

func (n *internet) pass(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now = n.now.Add(d)
}

// settings are those of a client on this internet.
func (n *internet) settings() outbound.Settings {
	key, err := signing.NewKey("ed25519:a", make([]byte, 32))
	if err != nil {
		n.t.Fatal(err)
	}
	return outbound.Settings{
		Federation: config.Federation{Enabled: true, CAFile: n.caFile}, ServerName: us, Key: key, UserAgent: "test",
		Resolver: n, Connect: n.connect, Now: n.clock,
	}
}

func (n *internet) client() *outbound.Client { return newClient(n.t, n.settings()) }

func newClient(t testing.TB, s outbound.Settings) *outbound.Client {
	t.Helper()
	c, err := outbound.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// homeserver answers every request with where it was sent to.
func homeserver(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, `{"host":"`+r.Host+`","sni":"`+r.TLS.ServerName+`"}`)
}

func wellKnown(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

const version = "/_matrix/federation/v1/version"

// ask makes a plain call.
func ask(t testing.TB, c *outbound.Client, to matrix.ServerName) (string, error) {
	t.Helper()
	text, err := c.Bytes(t.Context(), outbound.Call{To: to, URI: version})
	return string(text), err
}
