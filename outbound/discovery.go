package outbound

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/myelin-chat/myelin/matrix"
)

const (
	federationPort   = 8448
	maxTargets       = 8 // of a service that are tried
	maxRoutes        = 20_000
	discoveryTimeout = 25 * time.Second

	// routeLife is how long a route is used before its SRV records are looked up again: their own lifetime does not
	// come through the resolver.
	routeLife = 5 * time.Minute
	// doubtfulLife is that of a route found while the name server did not answer.
	doubtfulLife = 30 * time.Second
)

// Route says how a homeserver is reached. It is not changed after it was made.
type Route struct {
	Targets []Target // to be tried in this order
	Host    string   // for the header of that name
	TLSName string   // for which the certificate must be valid: a name, or an address without brackets
	id      string   // the same for routes that can share connections
}

// Target is a name or address (without brackets) and a port to connect to.
type Target struct {
	Host string
	Port uint16
}

// newRoute is to the targets, with the certificate of name.
func newRoute(name matrix.ServerName, targets ...Target) *Route {
	r := &Route{Targets: targets, Host: string(name), TLSName: bareHost(name)}
	parts := make([]string, len(targets))
	for i, t := range targets {
		parts[i] = fmt.Sprintf("%s %d", t.Host, t.Port)
	}
	slices.Sort(parts) // the order of SRV records is drawn by lot
	sum := sha256.Sum256([]byte(r.TLSName + "\n" + strings.Join(parts, "\n")))
	r.id = hex.EncodeToString(sum[:16])
	return r
}

// bareHost is the host of a server name, without the brackets of an IPv6 address.
func bareHost(s matrix.ServerName) string { return strings.Trim(s.Host(), "[]") }

// discovery finds out how homeservers are reached.
// https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
type discovery struct {
	resolver Resolver
	fetch    func(ctx context.Context, host string) wellKnown
	now      func() time.Time

	routes      *cache[*Route]
	delegations *cache[delegation]
	flights     singleflight.Group
}

func newDiscovery(r Resolver, fetch func(context.Context, string) wellKnown, now func() time.Time) *discovery {
	return &discovery{
		resolver: r, fetch: fetch, now: now,
		routes: newCache[*Route](maxRoutes), delegations: newCache[delegation](maxRoutes),
	}
}

// Route returns how s is reached.
func (c *Client) Route(ctx context.Context, s matrix.ServerName) (*Route, error) {
	return c.discovery.route(ctx, s)
}

// route answers from memory where it can. Those who ask for the same server at the same time wait for one search,
// which goes on when the first of them does not wait any more.
func (d *discovery) route(ctx context.Context, name matrix.ServerName) (*Route, error) {
	if r, fresh := d.routes.get(string(name), d.now()); fresh {
		return r, nil
	}
	if r, ok, err := literalRoute(name); ok {
		// Nothing needs looking up, but the next request finds it as any other, without taking the name to pieces.
		if err == nil {
			d.routes.put(string(name), r, d.now().Add(routeLife))
		}
		return r, err
	}
	found := d.flights.DoChan(string(name), func() (route any, err error) {
		defer recovered(&err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discoveryTimeout)
		defer cancel()
		return d.find(ctx, name)
	})
	select {
	case r := <-found:
		if r.Err != nil {
			return nil, fmt.Errorf("find %s: %w", name, r.Err)
		}
		return r.Val.(*Route), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("find %s: %w", name, ctx.Err())
	}
}

// recovered turns a panic into an error: it would end the process in the goroutine of a flight.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// literalRoute is that of names that have an address or a port (steps 1 and 2); ok says that name has.
func literalRoute(name matrix.ServerName) (r *Route, ok bool, err error) {
	digits := name.Port()
	if digits == "" && !name.IsIPLiteral() {
		return nil, false, nil
	}
	port := uint16(federationPort)
	if digits != "" {
		if port, err = parsePort(digits); err != nil {
			return nil, true, fmt.Errorf("find %s: %w", name, err)
		}
	}
	return newRoute(name, Target{bareHost(name), port}), true, nil
}

// find goes through the steps from 3 on.
func (d *discovery) find(ctx context.Context, name matrix.ServerName) (*Route, error) {
	delegated := d.delegation(ctx, name)
	effective := name
	if delegated.to != "" {
		effective = delegated.to
	}
	r, literal, err := literalRoute(effective)
	if err != nil {
		return nil, err
	}
	life := routeLife
	if !literal {
		var sure bool
		if r, sure, err = d.serviceRoute(ctx, effective); err != nil {
			return nil, err
		}
		if !sure {
			life = doubtfulLife
		}
	}
	until := d.now().Add(life)
	if delegated.until.Before(until) {
		until = delegated.until
	}
	d.routes.put(string(name), r, until)
	return r, nil
}

// serviceRoute is that of a name without address and port: its SRV records, else port 8448 (steps 3.3 to 3.5, 4 to 6).
// sure is false if the resolver did not know whether there are such records.
func (d *discovery) serviceRoute(ctx context.Context, name matrix.ServerName) (r *Route, sure bool, err error) {
	sure = true
	for _, service := range []string{"matrix-fed", "matrix"} {
		targets, err := d.service(ctx, service, string(name))
		switch {
		case errors.Is(err, errNoService):
			return nil, true, err
		case err != nil:
			sure = false
		case len(targets) > 0:
			return newRoute(name, targets...), sure, nil
		}
	}
	return newRoute(name, Target{string(name), federationPort}), sure, nil
}

var errNoService = errors.New("its DNS says that there is no homeserver")

// service returns the targets of an SRV record, in the order to try them; none if there is no record.
func (d *discovery) service(ctx context.Context, service, name string) ([]Target, error) {
	_, records, err := d.resolver.LookupSRV(ctx, service, "tcp", name)
	if len(records) == 0 {
		if isNotFound(err) {
			return nil, nil
		}
		return nil, err
	}
	if len(records) == 1 && records[0].Target == "." {
		return nil, errNoService // https://www.rfc-editor.org/rfc/rfc2782
	}
	var targets []Target
	for _, record := range records[:min(len(records), maxTargets)] {
		if host := strings.TrimSuffix(record.Target, "."); host != "" && record.Port != 0 {
			targets = append(targets, Target{host, record.Port})
		}
	}
	return targets, nil
}

func isNotFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// doubt makes the next request look again how name is reached, but not at what was asked a moment ago.
func (d *discovery) doubt(name matrix.ServerName) {
	now := d.now()
	if r, fresh := d.routes.get(string(name), now); fresh {
		d.routes.put(string(name), r, now)
	}
	delegated, fresh := d.delegations.get(string(name), now)
	if fresh && delegated.failures == 0 && now.Sub(delegated.fetched) > minWellKnownLife {
		d.delegations.put(string(name), delegated, now)
	}
}
