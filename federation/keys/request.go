package keys

import (
	"context"
	"crypto/ed25519"
	"errors"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// Request is a request of another server, as it came.
type Request struct {
	Method        string
	URI           string   // path and query, not decoded
	Authorization []string // all headers of that name
	Content       []byte   // the body; nil or empty: none
}

// Authenticate returns the server that made a request. An error is a *matrix.Error to answer with.
// https://spec.matrix.org/v1.19/server-server-api/#request-authentication
func (r *Ring) Authenticate(ctx context.Context, req Request) (matrix.ServerName, error) {
	signatures, origin, err := r.authorizations(req.Authorization)
	if err != nil {
		return "", err
	}
	if err := r.settings.Client.Permits(origin); err != nil {
		return "", err
	}
	signed := outbound.SignedRequest{Method: req.Method, URI: req.URI, Origin: origin, Destination: r.settings.ServerName}
	if len(req.Content) > 0 {
		// Lenient: the body may hold events of old room versions.
		if signed.Content, err = canonical.JSON(req.Content, canonical.Lenient); err != nil {
			return "", err
		}
	}
	msg := signed.Message()
	t := task{server: origin, at: moment{ms: r.nowMS(), live: true}}
	for _, a := range signatures {
		t.ids = append(t.ids, a.Key)
	}
	t.verify = func(id signing.KeyID, public ed25519.PublicKey) error {
		return signing.Verify(msg, signatures[id].Signature, public)
	}
	err = r.verify(ctx, []task{t}, 1, r.forRequests)[0]
	if errors.Is(err, ErrUnavailable) { // the cause is our own affair
		return "", matrix.Errorf(matrix.Unauthorized, "the signing keys of %s cannot be had now", origin)
	}
	if err != nil {
		return "", matrix.Errorf(matrix.Unauthorized, "the request is not signed by %s: %s", origin, err)
	}
	return origin, nil
}

// authorizations reads the headers, one for each key that the origin signed with.
func (r *Ring) authorizations(headers []string) (map[signing.KeyID]outbound.Authorization, matrix.ServerName, error) {
	all := map[signing.KeyID]outbound.Authorization{}
	var origin matrix.ServerName
	for _, header := range headers[:min(len(headers), maxSignatures)] {
		a, err := outbound.ParseAuthorization(header)
		if err != nil {
			return nil, "", err
		}
		if origin != "" && a.Origin != origin {
			return nil, "", matrix.Errorf(matrix.Unauthorized, "the Authorization headers are of different servers")
		}
		if a.Destination != "" && a.Destination != r.settings.ServerName {
			return nil, "", matrix.Errorf(matrix.Unauthorized, "the request is for %s, not for this server", a.Destination)
		}
		origin = a.Origin
		all[a.Key] = a
	}
	switch origin {
	case "":
		return nil, "", matrix.Errorf(matrix.Unauthorized, "no Authorization header")
	case r.settings.ServerName:
		return nil, "", matrix.Errorf(matrix.Unauthorized, "the request claims to be of this server itself")
	}
	return all, origin, nil
}
