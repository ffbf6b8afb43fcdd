package outbound

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
)

// For tests in the other package.
var (
	Permitted      = permitted
	ParseWellKnown = parseWellKnown
	WellKnownLife  = wellKnownLife
	WellKnownPause = wellKnownPause
	RetryAfter     = retryAfter
)

// ShortWellKnown makes discovery files wait for d at most.
func ShortWellKnown(t testing.TB, d time.Duration) {
	old := wellKnownRules
	wellKnownRules.Timeout = d
	t.Cleanup(func() { wellKnownRules = old })
}

// Doubt is what a failed request does.
func (c *Client) Doubt(s matrix.ServerName) { c.discovery.doubt(s) }

// ServersPermit applies the lists of allowed and denied servers.
func ServersPermit(f config.Federation, s matrix.ServerName) bool { return newServerList(f).permit(s) }

// Dial connects as for any request.
func (c *Client) Dial(ctx context.Context, host string, port uint16) error {
	conn, err := c.dialer.dial(ctx, host, port)
	if err == nil {
		conn.Close()
	}
	return err
}

// SlotsInUse counts connections.
func (c *Client) SlotsInUse() int { return len(c.dialer.slots) }

// NewRequest makes the request of a call by a route to nowhere.
func (c *Client) NewRequest(ctx context.Context, call Call) (*http.Request, error) {
	return c.newRequest(ctx, call, newRoute(call.To, Target{"nowhere", 1}))
}

// CacheOf puts n values into a cache of limit and returns how many it holds.
func CacheOf(limit, n int) int {
	c := newCache[int](limit)
	for i := range n {
		c.put(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i)}).String(), i, time.Now())
	}
	return len(c.values)
}
