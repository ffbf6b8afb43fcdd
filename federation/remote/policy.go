package remote

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// PolicyKey is the ID of every policy server's key. The key itself stands in the state of the room.
// https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
const PolicyKey signing.KeyID = "ed25519:policy_server"

// policyPlace is where the state says whom to ask. That is never asked about.
var policyPlace = event.Key{Type: "m.room.policy"}

// PolicyServer is whom a room wants to be asked about each event.
type PolicyServer struct {
	Name matrix.ServerName
	Key  ed25519.PublicKey
}

// PolicySign asks the policy server of a room for its signature, and returns the event with it. If the server does not
// recommend the event, the error is a *outbound.RemoteError with the code M_FORBIDDEN.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixpolicyv1sign
func (c *Client) PolicySign(ctx context.Context, p PolicyServer, e *event.Event) (*event.Event, error) {
	if e.IsState() && e.StateID() == policyPlace {
		return nil, matrix.Errorf(matrix.BadState, "what names the policy server is not put before it")
	}
	text, err := c.http.Bytes(ctx, outbound.Call{
		To: p.Name, Method: http.MethodPost, URI: "/_matrix/policy/v1/sign", Content: e.JSON,
		MaxBytes: maxSmallBytes, Timeout: policyTimeout,
	})
	if err != nil {
		return nil, err
	}
	signatures, err := canonical.JSON(text, canonical.Lenient)
	if err != nil {
		return nil, badOf(p.Name, err)
	}
	signature, ok := canonical.String(canonical.Get(signatures, string(p.Name), string(PolicyKey)))
	if !ok {
		return nil, badOf(p.Name, bad("no signature"))
	}
	obj, err := signing.AddSignature(e.JSON, p.Name, PolicyKey, signature)
	if err != nil {
		return nil, badOf(p.Name, err)
	}
	signed, err := reload(e, obj)
	if err != nil {
		return nil, badOf(p.Name, err)
	}
	if err := event.VerifySignature(signed, p.Name, PolicyKey, p.Key); err != nil {
		return nil, badOf(p.Name, err)
	}
	return signed, nil
}

// ExplainPolicy turns an error of PolicySign into one that may be shown to a client. Why the event is refused is passed on
// word by word.
// https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
func ExplainPolicy(policy matrix.ServerName, err error) error {
	var refused *outbound.RemoteError
	switch {
	case errors.As(err, &refused) && refused.Code == matrix.Forbidden && refused.Status < 500:
		return matrix.Errorf(matrix.Forbidden, "%s", refused.Message).WithStatus(refused.Status)
	case errors.Is(err, ErrBadAnswer):
		return matrix.Errorf(matrix.Forbidden, "the policy server %s of this room has not signed the event", policy)
	}
	return Explain(err)
}
