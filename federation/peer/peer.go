package peer

import (
	"context"
	"net/http"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// A Gate knows who makes a request. All but Heard are required.
type Gate struct {
	Ring   *keys.Ring
	Client *outbound.Client // says which servers are talked to
	Limits Limits
	Heard  func(matrix.ServerName) // told that a server has spoken; must not block

	unproven unproven
}

// Limits are the rate limits that routes name. All are nil, which means none, if limits are switched off.
type Limits struct {
	Address     *httpapi.Limit // of all requests, by address: before it is known who asks
	Transaction *httpapi.Limit // the others are by server
	Membership  *httpapi.Limit
	Read        *httpapi.Limit
	Heavy       *httpapi.Limit // by address, where nobody signs
}

// NewLimits makes the limits. They are so wide that no server of good will meets them, and narrow enough that one of ill
// will leaves room for the others.
func NewLimits(c config.RateLimits, now func() time.Time) Limits {
	if !c.Enabled {
		return Limits{}
	}
	limit := func(perSecond float64, burst int) *httpapi.Limit {
		return httpapi.NewLimit(config.Limit{PerSecond: perSecond, Burst: burst}, now)
	}
	return Limits{
		Address: limit(1000, 3000), Transaction: limit(500, 1000), Membership: limit(20, 200),
		Read: limit(100, 1000), Heavy: limit(5, 100),
	}
}

// Call is one request of another server.
type Call struct {
	*httpapi.Call
	Origin matrix.ServerName // who asks: it has signed the request
}

// Handler is one endpoint for servers. In is the body: a struct, httpapi.RawBody or httpapi.None. Out is as in httpapi.
type Handler[In, Out any] = func(context.Context, *Call, *In) (*Out, error)

// Signed makes an endpoint for servers that sign their requests, limited by server.
// https://spec.matrix.org/v1.19/server-server-api/#request-authentication
func Signed[In, Out any](g *Gate, l *httpapi.Limit, h Handler[In, Out]) http.HandlerFunc {
	return httpapi.Open(g.Limits.Address, func(ctx context.Context, c *httpapi.Call, body *httpapi.Body) (*Out, error) {
		origin, content, err := g.authenticate(ctx, c.Request(), body)
		if err != nil {
			return nil, err
		}
		if err := l.Check(string(origin)); err != nil {
			return nil, err
		}
		in := new(In)
		switch in := any(in).(type) {
		case *httpapi.None:
		case *httpapi.RawBody:
			*in = content
		default:
			err = httpapi.Decode(content, in)
		}
		if err != nil {
			return nil, err
		}
		return h(ctx, &Call{Call: c, Origin: origin}, in)
	})
}

// authenticate returns who made a request, and its body, which is signed too. Nothing of the body is read for who is not
// talked to, or does not even claim to be somebody.
func (g *Gate) authenticate(ctx context.Context, r *http.Request, body *httpapi.Body) (matrix.ServerName, []byte, error) {
	claim, err := outbound.ParseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return "", nil, err
	}
	if err := g.Client.Permits(claim.Origin); err != nil {
		return "", nil, err
	}
	content, release, err := g.unproven.read(body)
	defer release()
	if err != nil {
		return "", nil, err
	}
	origin, err := g.Ring.Authenticate(ctx, keys.Request{
		Method: r.Method, URI: r.RequestURI, Authorization: r.Header.Values("Authorization"), Content: content,
	})
	if err != nil {
		return "", nil, err
	}
	if g.Heard != nil {
		g.Heard(origin)
	}
	return origin, content, nil
}
