package keys

import (
	"crypto/ed25519"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxDocumentBytes = 64 << 10
	maxDocumentKeys  = 64
	// maxValidity is how long a key is trusted without asking again, whatever its server says.
	// https://spec.matrix.org/v1.19/rooms/v5/#signing-key-validity-period
	maxValidity = 7 * 24 * time.Hour
)

// bannedKeys are public keys whose private halves are public, too: CVE-2026-24044.
var bannedKeys = map[string]bool{
	"l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og": true,
}

func banned(public ed25519.PublicKey) bool { return bannedKeys[signing.EncodeBase64(public)] }

// document is what a server publishes, with its own signatures checked.
type document struct {
	server       matrix.ServerName
	keys         []servers.Key
	validUntilMS int64
	fetchedMS    int64
	json         []byte // canonical, with the signatures of the server alone
}

// parseDocument reads a document that is said to be of a server, at the given time. A key counts if the document is
// signed with it; an old key if such a document lists it.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server
func parseDocument(raw []byte, now time.Time) (document, error) {
	if len(raw) > maxDocumentBytes {
		return document{}, matrix.Errorf(matrix.TooLarge, "the document has more than %d bytes", maxDocumentBytes)
	}
	obj, err := canonical.JSON(raw, canonical.Lenient)
	if err != nil {
		return document{}, err
	}
	name, _ := canonical.String(canonical.Get(obj, "server_name"))
	server, err := matrix.ParseServerName(name)
	if err != nil {
		return document{}, err
	}
	validUntil, ok := canonical.Int(canonical.Get(obj, "valid_until_ts"))
	if !ok {
		return document{}, matrix.Errorf(matrix.BadJSON, "the document has no valid_until_ts")
	}
	d := document{
		server: server, validUntilMS: min(validUntil, now.Add(maxValidity).UnixMilli()), fetchedMS: now.UnixMilli(),
		json: ownSignatures(obj, server),
	}
	if err := d.addKeys(); err != nil {
		return document{}, err
	}
	d.addOldKeys()
	return d, nil
}

// ownSignatures is the document as its server signed it, without signatures of others.
func ownSignatures(obj []byte, s matrix.ServerName) []byte {
	own := canonical.Get(obj, "signatures", string(s))
	if own == nil {
		return obj
	}
	return canonical.AppendWith(nil, obj, "signatures", canonical.AppendWith(nil, []byte("{}"), string(s), own))
}

func (d *document) addKeys() error {
	msg := canonical.AppendWithout(nil, d.json, "signatures", "unsigned")
	for name, raw := range canonical.Fields(canonical.Get(d.json, "verify_keys")) {
		id, public, ok := parseKey(name, raw)
		signature, signed := canonical.String(canonical.Get(d.json, "signatures", string(d.server), name))
		if !ok || !signed || len(d.keys) == maxDocumentKeys {
			continue
		}
		if err := signing.Verify(msg, signature, public); err != nil {
			return err
		}
		d.keys = append(d.keys, servers.Key{ID: id, Public: public, ValidUntilMS: d.validUntilMS, FetchedMS: d.fetchedMS})
	}
	if len(d.keys) == 0 {
		return matrix.Errorf(matrix.InvalidSignature, "the document is not signed with a key that it lists")
	}
	return nil
}

// addOldKeys adds the keys that are not used any more. One that expires later than now is, so its time ends now.
func (d *document) addOldKeys() {
	current := len(d.keys)
	for name, raw := range canonical.Fields(canonical.Get(d.json, "old_verify_keys")) {
		id, public, ok := parseKey(name, raw)
		expired, dated := canonical.Int(canonical.Get(raw, "expired_ts"))
		if !ok || !dated || len(d.keys) == maxDocumentKeys || hasKey(d.keys[:current], id) {
			continue
		}
		d.keys = append(d.keys, servers.Key{
			ID: id, Public: public, ValidUntilMS: min(expired, d.fetchedMS), Retired: true, FetchedMS: d.fetchedMS,
		})
	}
}

func hasKey(list []servers.Key, id signing.KeyID) bool {
	for _, k := range list {
		if k.ID == id {
			return true
		}
	}
	return false
}

// parseKey reads a member of verify_keys or old_verify_keys; ok is false for one that is of no use.
func parseKey(name string, raw []byte) (id signing.KeyID, public ed25519.PublicKey, ok bool) {
	id, err := signing.ParseKeyID(name)
	if err != nil {
		return "", nil, false
	}
	text, _ := canonical.String(canonical.Get(raw, "key"))
	public, err = signing.DecodeBase64(text)
	if err != nil || len(public) != ed25519.PublicKeySize || banned(public) {
		return "", nil, false
	}
	return id, public, true
}

// countersigned returns a document with our signature beside those of its server.
func countersigned(json []byte, by matrix.ServerName, k signing.Key) ([]byte, error) {
	msg := canonical.AppendWithout(nil, json, "signatures", "unsigned")
	return signing.AddSignature(json, by, k.ID(), signing.EncodeBase64(k.Sign(msg)))
}
