// Package accounts is the only writer of users: accounts, devices, tokens, profiles, account data, filters, and messages
// to devices.
//
// It decides who may come in (registration, login, access tokens, user-interactive authentication) and keeps what
// users set about themselves. Secrets are never stored: passwords are bcrypt hashes, tokens are known by their SHA-256
// only. Sessions of user-interactive authentication, nonces and the cache of access tokens live in memory, each with
// a limit; a restart costs their owners one more request.
//
// What it leaves to others: rate limits (the routes have them), whether a requester may act for the user it names
// (the callers compare), and rooms. A changed display name or avatar is not carried into rooms, and who deactivates an
// account is not taken out of rooms: the callers do both through roomserver, after the call here succeeded.
//
// Errors are *matrix.Error where the caller is at fault, and *[Challenge] where a request needs more authentication.
package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// Settings is what Accounts needs.
type Settings struct {
	DB               *storage.DB
	ServerName       matrix.ServerName
	Registration     config.Registration
	SharedSecret     config.Secret // of programs that make accounts; empty: they cannot
	Guests           bool          // whether guest accounts can be made
	PasswordHashCost int           // of bcrypt

	// DefaultPushRules returns the content of m.push_rules for a user who never changed a rule.
	DefaultPushRules func(matrix.UserID) []byte

	// Permits returns an error if nothing is ever sent to a server. Nil: this server speaks to no others.
	Permits func(matrix.ServerName) error

	Now  func() time.Time
	Rand io.Reader // cryptographic, safe for concurrent use
}

// Accounts answers for the accounts of this server. It is safe for concurrent use.
type Accounts struct {
	settings Settings
	db       *storage.DB
	hasher   *hasher
	tokens   *tokenCache
	sessions sessions
	nonces   *expiring[struct{}]
	openIDs  *expiring[matrix.UserID] // by the hash of the token
	seen     *sightings

	trimmedMS int64        // Run's: when inboxes were last looked through
	dropped   atomic.Int64 // messages that nobody came for
}

// New returns the accounts in a database.
func New(s Settings) (*Accounts, error) {
	secret := make([]byte, sha256.Size)
	if _, err := io.ReadFull(s.Rand, secret); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return &Accounts{
		settings: s,
		db:       s.DB,
		hasher:   newHasher(s.PasswordHashCost),
		tokens:   newTokenCache(maxCachedTokens),
		sessions: newSessions(secret),
		nonces:   newExpiring[struct{}](maxNonces, nonceLife),
		openIDs:  newExpiring[matrix.UserID](maxOpenIDTokens, openIDTokenLife),
		seen:     newSightings(),
	}, nil
}

// Run writes, from time to time, when devices were last used, and forgets what is old, or waits for a device that nobody
// uses. It returns when ctx ends. What the database does not take is tried again; that it has failed is told by the requests that need it.
func (a *Accounts) Run(ctx context.Context) error {
	ticker := time.NewTicker(seenFlushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenLastFlush)
			defer cancel()
			_ = a.flushSeen(last)
			return ctx.Err()
		case <-ticker.C:
			_ = a.flushSeen(ctx)
			_ = a.forgetKnown(ctx)
			_ = a.trimInboxes(ctx)
		}
	}
}

func (a *Accounts) nowMS() int64 { return a.settings.Now().UnixMilli() }

// Prefixes of tokens, by which scanners of leaked secrets can know them.
const (
	accessTokenPrefix = "myt_"
	loginTokenPrefix  = "myl_"
)

// secretBytes is the entropy of tokens and of session IDs.
const secretBytes = 32

// newToken makes an opaque token: prefix, randomness, and a checksum that tells scanners a real token from a lookalike.
func (a *Accounts) newToken(prefix string) (string, users.TokenHash, error) {
	random, err := a.randomText(secretBytes)
	if err != nil {
		return "", users.TokenHash{}, err
	}
	token := prefix + random
	var sum [crc32.Size]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(token)))
	token += "_" + hex.EncodeToString(sum[:])
	return token, hashToken(token), nil
}

// hashToken is how a token is known once it was given out. Tokens are random, so a plain hash cannot be reversed by guessing.
func hashToken(token string) users.TokenHash {
	var short [128]byte // so that tokens of ordinary length need no allocation
	if len(token) <= len(short) {
		return sha256.Sum256(short[:copy(short[:], token)])
	}
	return sha256.Sum256([]byte(token))
}

// randomText makes text that can stand in URLs and headers unescaped.
func (a *Accounts) randomText(bytes int) (string, error) {
	b := make([]byte, bytes)
	if _, err := io.ReadFull(a.settings.Rand, b); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// randomName makes text of length letters out of an alphabet of at most 256.
func (a *Accounts) randomName(alphabet string, length int) (string, error) {
	name := make([]byte, 0, length)
	fair := byte(256 - 256%len(alphabet) - 1) // what is above would favour the first letters
	b := make([]byte, length)
	for len(name) < length {
		if _, err := io.ReadFull(a.settings.Rand, b); err != nil {
			return "", fmt.Errorf("read randomness: %w", err)
		}
		for _, c := range b {
			if c <= fair && len(name) < length {
				name = append(name, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(name), nil
}

// local returns an error unless user belongs to this server.
func (a *Accounts) local(user matrix.UserID) error {
	if user.Server() != a.settings.ServerName {
		return matrix.Errorf(matrix.NotFound, "%s is not a user of this server", user)
	}
	return nil
}
