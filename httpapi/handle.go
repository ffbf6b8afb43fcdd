package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/myelin-chat/myelin/matrix"
)

// Authenticator finds out who an access token belongs to. Its error is what the client is told.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (matrix.Requester, error)
}

// Authed makes an endpoint for callers with an access token, limited per user.
//
// In is the request: a struct or map to decode the JSON body into, or [None], [RawBody], [Body]. Out is the answer: what
// is to be encoded as JSON, or [None], [Raw], [Answer]. A nil answer is {}.
func Authed[In, Out any](a Authenticator, l *Limit, h func(context.Context, *Call, *In) (*Out, error)) http.HandlerFunc {
	return endpoint(admission{auth: a, limit: l}, h)
}

// Open makes an endpoint for everybody, limited per address. See [Authed] for In and Out.
func Open[In, Out any](l *Limit, h func(context.Context, *Call, *In) (*Out, error)) http.HandlerFunc {
	return endpoint(admission{limit: l}, h)
}

// MaxBody sets how large the bodies of a route may be, in place of [DefaultMaxBody].
func MaxBody(maxBytes int64, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(w)
		x.maxBody = maxBytes
		h(x, r)
	}
}

func endpoint[In, Out any](admit admission, h func(context.Context, *Call, *In) (*Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(w)
		ctx := r.Context()
		if err := admit.check(ctx, x); err != nil {
			x.fail(err)
			return
		}
		in := new(In)
		if err := x.readBody(in); err != nil {
			x.fail(err)
			return
		}
		out, err := h(ctx, &x.call, in)
		switch {
		case err != nil:
			x.fail(err)
		case out == nil:
			x.answer(&None{})
		default:
			x.answer(out)
		}
	}
}

// admission is who is let in.
type admission struct {
	auth  Authenticator // nil: nobody is asked who they are
	limit *Limit
}

func (a admission) check(ctx context.Context, x *exchange) error {
	if err := a.authenticate(ctx, x); err != nil {
		return err
	}
	if a.limit == nil {
		return nil
	}
	if user := x.call.User; user != "" {
		return a.limit.check(bucketKey{name: string(user)})
	}
	return a.limit.check(bucketKey{addr: network(x.clientAddr())})
}

func (a admission) authenticate(ctx context.Context, x *exchange) error {
	if a.auth == nil {
		return nil
	}
	token := accessToken(x.r)
	if token == "" {
		return matrix.Errorf(matrix.MissingToken, "an access token is needed")
	}
	who, err := a.auth.Authenticate(ctx, token)
	if err != nil {
		return err
	}
	x.call.Requester, x.call.token = who, token
	return nil
}

// accessToken finds the token in the header or, deprecated but still to be supported, in the query.
// https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens
func accessToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	token, _ = firstQuery(r.URL.RawQuery, "access_token")
	return token
}
