package event

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// RequiredSigners returns the servers whose signatures the event must carry,
// each once: all of them have to be verified before it is used. There are none
// for an invite that came out of a third-party invite, where the signature of
// the identity server counts (event/auth checks that one).
// https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
func (e *Event) RequiredSigners() []matrix.ServerName {
	signers := make([]matrix.ServerName, 0, 2)
	if !e.fromThirdPartyInvite() {
		signers = append(signers, e.Sender.Server())
	}
	if server, ok := e.ID.Server(); ok && e.Version.EventIDSigner {
		signers = appendSigner(signers, server)
	}
	if via, ok := e.JoinAuthoriser(); ok {
		signers = appendSigner(signers, via.Server())
	}
	return signers
}

func appendSigner(signers []matrix.ServerName, server matrix.ServerName) []matrix.ServerName {
	if slices.Contains(signers, server) {
		return signers
	}
	return append(signers, server)
}

// fromThirdPartyInvite says whether the event is an invite that another server
// may have made in the sender's name. What a wrong content hash has taken away
// does not count: JSON is already the redacted form then.
func (e *Event) fromThirdPartyInvite() bool {
	return e.membership == Invite && canonical.Get(e.Content, "third_party_invite") != nil
}

// JoinAuthoriser returns the user that vouches for the join to a restricted
// room, in versions that have such rooms; ok says that content has the field.
// The ID is empty if it is no valid user ID.
// https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms
func (e *Event) JoinAuthoriser() (via matrix.UserID, ok bool) {
	if e.Type != TypeMember || !e.Version.RestrictedJoins {
		return "", false
	}
	raw := canonical.Get(e.Content, "join_authorised_via_users_server")
	if raw == nil {
		return "", false
	}
	s, _ := canonical.String(raw)
	via, err := matrix.ParseUserID(s)
	if err != nil {
		return "", true
	}
	return via, true
}

// SignedBy returns the IDs of the keys with which server has signed the event,
// as the event claims.
func (e *Event) SignedBy(server matrix.ServerName) []signing.KeyID {
	return slices.Collect(signing.KeyIDs(e.JSON, server))
}

// VerifySignature checks the signature that server made on the event with the
// key id. It covers the redacted form.
// https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events
func VerifySignature(e *Event, server matrix.ServerName, id signing.KeyID, pub ed25519.PublicKey) error {
	signature, ok := canonical.String(canonical.Get(e.JSON, "signatures", string(server), string(id)))
	if !ok {
		return matrix.Errorf(matrix.InvalidSignature, "event %s has no signature of %s with the key %s", e.ID, server, id)
	}
	if err := signing.Verify(e.essence(), signature, pub); err != nil {
		return fmt.Errorf("event %s, signature of %s with the key %s: %w", e.ID, server, id, err)
	}
	return nil
}

// Sign returns the event with a further signature of server, as a server gives
// it to invites of its users and to joins that it vouches for.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (e *Event) Sign(server matrix.ServerName, k signing.Key) (*Event, error) {
	signature := signing.EncodeBase64(k.Sign(e.essence()))
	obj, err := signing.AddSignature(e.JSON, server, k.ID(), signature)
	if err != nil {
		return nil, err
	}
	if err := checkSize(obj); err != nil {
		return nil, err
	}
	signed, err := Load(e.Version, e.ID, obj)
	if err != nil {
		return nil, err
	}
	signed.Redacted = e.Redacted
	return signed, nil
}
