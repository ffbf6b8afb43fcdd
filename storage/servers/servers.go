// Package servers is the SQL of what this server has to do with others: their signing keys and its own, what it owes
// them (the outbox), and what they have sent that is not in the rooms yet (the staging).
//
// Reads are functions over a storage.Querier. Writes are values for the committer. Each has one maker: federation/keys the
// keys, federation/outbox the state of the outbox, federation/inbox the staging. An EDU is owed by whoever commits it together
// with what it tells of.
package servers

import (
	"context"
	"crypto/ed25519"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
)

// maxKeys is how many keys of one server are kept; those heard of last.
const maxKeys = 100

// Key is a signing key of a server.
type Key struct {
	ID           signing.KeyID
	Public       ed25519.PublicKey
	ValidUntilMS int64 // signatures later than this are void
	Retired      bool  // an old key: good for events up to ValidUntilMS, and for nothing else
	Direct       bool  // heard from the server itself, not from a notary
	FetchedMS    int64
	Document     int64 // the number of the document that said all this
}

// Document is what a server published, canonical and signed by it.
type Document struct {
	Number       int64
	Server       matrix.ServerName
	ValidUntilMS int64
	JSON         []byte
}

// Keys returns the keys of servers. A server without any is not in the map.
func Keys(ctx context.Context, q storage.Querier, servers ...matrix.ServerName) (map[matrix.ServerName][]Key, error) {
	all := make(map[matrix.ServerName][]Key, len(servers))
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var server matrix.ServerName
		var k Key
		err := rows.Scan(&server, &k.ID, &k.Public, &k.ValidUntilMS, &k.Retired, &k.Direct, &k.FetchedMS, &k.Document)
		all[server] = append(all[server], k)
		return err
	}, `
		SELECT server, key_id, public_key, valid_until_ms, retired, direct, fetched_ms, document_num
		FROM server_keys
		WHERE server IN (SELECT key FROM json_each($1))
		ORDER BY server, key_id`, storage.Set(servers...))
	return all, err
}

// Documents returns the documents of those numbers that are there.
func Documents(ctx context.Context, q storage.Querier, numbers ...int64) ([]Document, error) {
	scan := func(d *Document, rows storage.Rows) error {
		return rows.Scan(&d.Number, &d.Server, &d.ValidUntilMS, &d.JSON)
	}
	return storage.List(ctx, q, scan, `
		SELECT document_num, server, valid_until_ms, json
		FROM server_key_documents
		WHERE document_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1))
		ORDER BY document_num`, storage.Numbers(numbers...))
}

var keysTable = storage.NewTable("server_keys", storage.Replace, `
	server TEXT KEY, key_id TEXT KEY, public_key BYTEA, valid_until_ms BIGINT, retired BOOLEAN,
	direct BOOLEAN, fetched_ms BIGINT, document_num BIGINT`)

var documentsTable = storage.NewTable("server_key_documents", storage.Fail, `
	document_num BIGINT KEY, server TEXT, valid_until_ms BIGINT, json TEXT`)

// SetKeys stores a document, and keys, which replace those of the same IDs: those that the document lists, and others
// of the server of which it says something by not listing them. Documents of which no key is left are dropped.
type SetKeys struct {
	Document Document
	Keys     []Key
}

// Rows implements storage.Write.
func (w SetKeys) Rows(it *storage.Item) {
	d := w.Document
	it.Insert(documentsTable, d.Number, d.Server, d.ValidUntilMS, string(d.JSON))
	for _, k := range w.Keys {
		it.Insert(keysTable, d.Server, k.ID, []byte(k.Public), k.ValidUntilMS, k.Retired, k.Direct, k.FetchedMS, k.Document)
	}
	it.Exec(`
		DELETE FROM server_keys
		WHERE server = $1 AND key_id NOT IN (
			SELECT key_id FROM server_keys
			WHERE server = $1
			ORDER BY fetched_ms DESC, key_id LIMIT $2)`, d.Server, maxKeys)
	it.Exec(`
		DELETE FROM server_key_documents
		WHERE server = $1 AND document_num NOT IN (SELECT document_num FROM server_keys WHERE server = $1)`, d.Server)
}

// OwnKey is a key that this server signs with, or did.
type OwnKey struct {
	ID        signing.KeyID
	Public    ed25519.PublicKey
	RetiredMS int64 // 0: in use
}

// OwnKeys returns all keys that this server has ever signed with.
func OwnKeys(ctx context.Context, q storage.Querier) ([]OwnKey, error) {
	scan := func(k *OwnKey, rows storage.Rows) error {
		return rows.Scan(&k.ID, &k.Public, &k.RetiredMS)
	}
	return storage.List(ctx, q, scan, `SELECT key_id, public_key, retired_ms FROM own_keys ORDER BY key_id`)
}

var ownKeysTable = storage.NewTable("own_keys", storage.Replace, "key_id TEXT KEY, public_key BYTEA, retired_ms BIGINT")

// UseKey makes a key the one that this server signs with from now on; the one before is retired.
type UseKey struct {
	ID     signing.KeyID
	Public ed25519.PublicKey
	AtMS   int64
}

// Rows implements storage.Write.
func (w UseKey) Rows(it *storage.Item) {
	it.Insert(ownKeysTable, w.ID, []byte(w.Public), 0)
	it.Exec(`UPDATE own_keys SET retired_ms = $2 WHERE key_id <> $1 AND retired_ms = 0`, w.ID, w.AtMS)
}
