package outbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

const (
	maxAddresses   = 8 // of one name that are tried
	connectTimeout = 10 * time.Second
	// headStart is how long an address has to answer before the next one is tried beside it.
	// https://www.rfc-editor.org/rfc/rfc8305#section-5
	headStart = 250 * time.Millisecond
)

// Resolver looks names up. *net.Resolver is one; tests have their own.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// dialer is the only place where connections are made.
type dialer struct {
	resolver Resolver
	connect  func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	private  bool
	slots    chan struct{} // one for each connection
}

func newDialer(s Settings) *dialer {
	d := &dialer{
		resolver: s.Resolver, connect: s.Connect, private: s.Outbound.AllowPrivateAddresses,
		slots: make(chan struct{}, maxConns),
	}
	if d.connect == nil {
		d.connect = connectTCP
	}
	return d
}

func connectTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

// dialContext is dial for an http.Transport.
func (d *dialer) dialContext(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := splitHostPort(address)
	if err != nil {
		return nil, err
	}
	return d.dial(ctx, host, port)
}

// dial resolves host and connects to the first of its addresses that answers and is permitted. What is connected to is
// the address that was checked, so a name server that says something else the next moment changes nothing.
func (d *dialer) dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	addresses, err := d.lookup(ctx, host, port)
	if err != nil {
		return nil, err
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("connect to %s: too many connections: %w", host, ctx.Err())
	}
	conn, err := d.race(ctx, addresses)
	if err != nil {
		<-d.slots
		return nil, fmt.Errorf("connect to %s: %w", host, err)
	}
	return &slotConn{Conn: conn, slots: d.slots}, nil
}

// lookup returns where host may be connected to, both families by turns.
func (d *dialer) lookup(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	found, err := d.addresses(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	var refused error
	var families [2][]netip.AddrPort
	for _, a := range found {
		if !permitted(a, d.private) {
			refused = &AddressError{Host: host, Address: a}
			continue
		}
		a = a.Unmap()
		family := 0
		if a.Is4() {
			family = 1
		}
		families[family] = append(families[family], netip.AddrPortFrom(a, port))
	}
	list := byTurns(families[0], families[1])
	if len(list) == 0 {
		if refused == nil {
			refused = fmt.Errorf("resolve %s: no address", host)
		}
		return nil, refused
	}
	return list[:min(len(list), maxAddresses)], nil
}

// byTurns mixes two lists: where one family of addresses leads nowhere, that costs a head start or two, not one for each
// of its addresses.
func byTurns(a, b []netip.AddrPort) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, len(a)+len(b))
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			list = append(list, a[i])
		}
		if i < len(b) {
			list = append(list, b[i])
		}
	}
	return list
}

// addresses of host, which may be one itself. Forms that only old C libraries take for an address, such as 0x7f.1, are
// names here; should the resolver know better, its answer is checked like any other.
func (d *dialer) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return d.resolver.LookupNetIP(ctx, "ip", host)
}

// race connects to the addresses in order, the next one as soon as one fails or has used up its head start, and
// returns the first connection.
func (d *dialer) race(ctx context.Context, addresses []netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := make(chan attempt)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var all []error
	for running := 0; running > 0 || len(addresses) > 0; {
		select {
		case <-timer.C:
			if len(addresses) == 0 {
				continue
			}
			go d.attempt(ctx, addresses[0], attempts)
			addresses = addresses[1:]
			running++
			timer.Reset(headStart)
		case a := <-attempts:
			running--
			if a.err == nil {
				cancel()
				closeLate(attempts, running)
				return a.conn, nil
			}
			all = append(all, a.err)
			timer.Reset(0)
		}
	}
	return nil, errors.Join(all...)
}

// attempt is how the connection to one address went.
type attempt struct {
	conn net.Conn
	err  error
}

func (d *dialer) attempt(ctx context.Context, to netip.AddrPort, done chan<- attempt) {
	conn, err := d.connect(ctx, to)
	done <- attempt{conn, err}
}

// closeLate waits for the attempts that another has beaten. Their context has ended, so they do at once.
func closeLate(attempts <-chan attempt, running int) {
	for range running {
		if a := <-attempts; a.err == nil {
			a.conn.Close()
		}
	}
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	slots chan struct{}
	once  sync.Once
}

// Close implements net.Conn.
func (c *slotConn) Close() error {
	c.once.Do(func() { <-c.slots })
	return c.Conn.Close()
}

func splitHostPort(address string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = parsePort(digits)
	return host, port, err
}

func parsePort(digits string) (uint16, error) {
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", digits)
	}
	return uint16(n), nil
}
