package clientapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// Routes lists the endpoints of the API.
//
// Each line says who may call: anybody (httpapi.Open), users (user), users and guests (guest); and which limit binds them.
// Lines of r are as they stand; lines of both are served below r0 too.
func (a *API) Routes(r *httpapi.Router) {
	both, limits := alsoR0{r}, a.limits

	// Discovery.
	r.Get("/_matrix/client/versions", httpapi.Open(limits.Read, a.versions))
	both.Get("/_matrix/client/v3/account/whoami", guest(a, limits.Read, a.whoami))
}

// user makes an endpoint for users with an account; guests are refused.
// https://spec.matrix.org/v1.19/client-server-api/#guest-access
func user[In, Out any](a *API, l *httpapi.Limit, h handler[In, Out]) http.HandlerFunc {
	return guest(a, l, func(ctx context.Context, c *httpapi.Call, in *In) (*Out, error) {
		if c.Guest {
			return nil, matrix.Errorf(matrix.GuestAccessForbidden, "guests cannot do this")
		}
		return h(ctx, c, in)
	})
}

// guest makes an endpoint for users and guests. It notes that their device is in use.
func guest[In, Out any](a *API, l *httpapi.Limit, h handler[In, Out]) http.HandlerFunc {
	return httpapi.Authed(a.accounts, l, func(ctx context.Context, c *httpapi.Call, in *In) (*Out, error) {
		a.accounts.Seen(c.Requester, c.IP())
		return h(ctx, c, in)
	})
}

type handler[In, Out any] = func(context.Context, *httpapi.Call, *In) (*Out, error)

// alsoR0 lists routes below v3 a second time under r0, the name of v3 before version 1.1 of the specification. Bots and
// older clients still use it.
// https://spec.matrix.org/v1.19/client-server-api/#api-versions
type alsoR0 struct{ r *httpapi.Router }

// Get routes GET and HEAD.
func (b alsoR0) Get(pattern string, h http.HandlerFunc) {
	b.r.Get(pattern, h)
	b.r.Get(underR0(pattern), h)
}

// Post routes POST.
func (b alsoR0) Post(pattern string, h http.HandlerFunc) {
	b.r.Post(pattern, h)
	b.r.Post(underR0(pattern), h)
}

// Put routes PUT.
func (b alsoR0) Put(pattern string, h http.HandlerFunc) {
	b.r.Put(pattern, h)
	b.r.Put(underR0(pattern), h)
}

// Delete routes DELETE.
func (b alsoR0) Delete(pattern string, h http.HandlerFunc) {
	b.r.Delete(pattern, h)
	b.r.Delete(underR0(pattern), h)
}

func underR0(pattern string) string { return strings.Replace(pattern, "/v3/", "/r0/", 1) }
