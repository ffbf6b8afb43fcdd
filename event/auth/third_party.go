package auth

import (
	"crypto/ed25519"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// The limits of the work that one third-party invite can make. An honest one
// has one signature, and two or three keys.
const (
	maxInviteKeys       = 8
	maxInviteSignatures = 4
)

// thirdPartyInvite is v11 rule 4.4.1.
// https://spec.matrix.org/v1.19/server-server-api/#verifying-the-invite
func (c *check) thirdPartyInvite(third []byte) error {
	ev, target := c.ev, c.ev.Target()
	// v11 rule 4.4.1.1.
	if c.membership(target) == event.Ban {
		return reject("4.4.1.1", "%s is banned", target)
	}
	// v11 rule 4.4.1.2.
	signed := canonical.Get(third, "signed")
	if len(signed) == 0 || signed[0] != '{' {
		return reject("4.4.1.2", "third_party_invite has no signed object")
	}
	// v11 rule 4.4.1.3.
	mxid, okID := canonical.String(canonical.Get(signed, "mxid"))
	token, okToken := canonical.String(canonical.Get(signed, "token"))
	if !okID || !okToken {
		return reject("4.4.1.3", "signed of third_party_invite has no mxid and token")
	}
	// v11 rule 4.4.1.4.
	if mxid != string(target) {
		return reject("4.4.1.4", "the third-party invite is for %s, not for %s", mxid, target)
	}
	// v11 rule 4.4.1.5.
	offer := c.st(event.Key{Type: event.TypeThirdPartyInvite, StateKey: token})
	if offer == nil {
		return reject("4.4.1.5", "there is no third-party invite with the token")
	}
	// v11 rule 4.4.1.6.
	if offer.Sender != ev.Sender {
		return reject("4.4.1.6", "the third-party invite was made by %s, not by %s", offer.Sender, ev.Sender)
	}
	// v11 rules 4.4.1.7 and 4.4.1.8.
	if !anySignatureMatches(signed, inviteKeys(offer.Content)) {
		return reject("4.4.1.8", "no signature of the third-party invite is right")
	}
	return nil
}

// inviteKeys returns the public keys in the content of an
// m.room.third_party_invite event (v11 rules 4.4.1.7.1 and 4.4.1.7.2).
func inviteKeys(content []byte) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	add := func(raw []byte) {
		s, ok := canonical.String(raw)
		if !ok {
			return
		}
		if key, err := signing.DecodeBase64(s); err == nil && len(key) == ed25519.PublicKeySize && len(keys) < maxInviteKeys {
			keys = append(keys, key)
		}
	}
	add(canonical.Get(content, "public_key"))
	for item := range canonical.Elements(canonical.Get(content, "public_keys")) {
		add(canonical.Get(item, "public_key"))
	}
	return keys
}

// anySignatureMatches says whether any Ed25519 signature in the signed object
// was made with one of the keys.
func anySignatureMatches(signed []byte, keys []ed25519.PublicKey) bool {
	message := canonical.AppendWithout(nil, signed, "signatures", "unsigned")
	for _, signature := range inviteSignatures(signed) {
		for _, key := range keys {
			if signing.Verify(message, signature, key) == nil {
				return true
			}
		}
	}
	return false
}

// inviteSignatures returns the Ed25519 signatures of the signed object.
func inviteSignatures(signed []byte) []string {
	var signatures []string
	for server := range canonical.Fields(canonical.Get(signed, "signatures")) {
		for id := range signing.KeyIDs(signed, matrix.ServerName(server)) {
			if len(signatures) == maxInviteSignatures {
				return signatures
			}
			s, _ := canonical.String(canonical.Get(signed, "signatures", server, string(id)))
			signatures = append(signatures, s)
		}
	}
	return signatures
}
