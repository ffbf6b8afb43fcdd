package federation

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Limits are the rate limits that routes name. All are nil, which means none, if limits are switched off.
type Limits struct {
	Address     *httpapi.Limit // of all requests, by address: before it is known who asks
	Transaction *httpapi.Limit // the others are by server
	Membership  *httpapi.Limit
	Read        *httpapi.Limit
	Heavy       *httpapi.Limit
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

// call is one request of another server.
type call struct {
	*httpapi.Call
	Origin matrix.ServerName // who asks: it has signed the request
}

// handler is one endpoint for servers. In is the body: a struct, httpapi.RawBody or httpapi.None. Out is as in httpapi.
type handler[In, Out any] = func(context.Context, *call, *In) (*Out, error)

// server makes an endpoint for other servers, limited by server.
// https://spec.matrix.org/v1.19/server-server-api/#request-authentication
func server[In, Out any](a *API, l *httpapi.Limit, h handler[In, Out]) http.HandlerFunc {
	return httpapi.Open(a.limits.Address, func(ctx context.Context, c *httpapi.Call, body *httpapi.Body) (*Out, error) {
		origin, content, err := a.authenticate(ctx, c.Request(), body)
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
		return h(ctx, &call{Call: c, Origin: origin}, in)
	})
}

// authenticate returns who made a request, and its body, which is signed too. Nothing of the body is read for who is not
// talked to, or does not even claim to be somebody.
func (a *API) authenticate(ctx context.Context, r *http.Request, body io.Reader) (matrix.ServerName, []byte, error) {
	claim, err := outbound.ParseAuthorization(r.Header.Get("Authorization"))
	if err != nil {
		return "", nil, err
	}
	if err := a.client.Permits(claim.Origin); err != nil {
		return "", nil, err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return "", nil, err
	}
	origin, err := a.ring.Authenticate(ctx, keys.Request{
		Method: r.Method, URI: r.RequestURI, Authorization: r.Header.Values("Authorization"), Content: content,
	})
	if err != nil {
		return "", nil, err
	}
	a.heard(origin)
	return origin, content, nil
}
