package accounts

import (
	"context"
	"sync"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/users"
)

// maxCachedTokens bounds the cache: 300 bytes each.
const maxCachedTokens = 50_000

// Authenticate says who has this access token.
// https://spec.matrix.org/v1.19/client-server-api/#using-access-tokens
func (a *Accounts) Authenticate(ctx context.Context, token string) (matrix.Requester, error) {
	if token == "" {
		return matrix.Requester{}, matrix.Errorf(matrix.MissingToken, "an access token is needed")
	}
	hash := hashToken(token)
	if who, ok := a.tokens.get(hash); ok {
		return who, nil
	}
	epoch := a.tokens.currentEpoch()
	who, found, err := users.TokenOwner(ctx, a.db, hash)
	if err != nil {
		return matrix.Requester{}, err
	}
	if !found {
		return matrix.Requester{}, matrix.Errorf(matrix.UnknownToken, "this access token is not valid").With("soft_logout", false)
	}
	a.tokens.put(hash, who, epoch)
	return who, nil
}

// tokenCache remembers whose tokens were last used. When it is full, any entry goes.
//
// Whoever ends tokens first commits that and then calls forget. A reader that asked the database before the commit
// must not put its answer in after forget: it names the epoch in which it asked, and forget begins a new one.
type tokenCache struct {
	max int

	mu     sync.RWMutex
	epoch  int64
	owners map[users.TokenHash]matrix.Requester
	byUser map[matrix.UserID]map[users.TokenHash]struct{}
}

// newTokenCache makes a cache that holds at most max tokens, so that tokens made to fill it do not.
func newTokenCache(max int) *tokenCache {
	return &tokenCache{
		max:    max,
		owners: map[users.TokenHash]matrix.Requester{},
		byUser: map[matrix.UserID]map[users.TokenHash]struct{}{},
	}
}

func (c *tokenCache) get(hash users.TokenHash) (matrix.Requester, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	who, ok := c.owners[hash]
	return who, ok
}

func (c *tokenCache) currentEpoch() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epoch
}

// put stores an answer of the database, unless tokens were ended since the epoch in which it was asked.
func (c *tokenCache) put(hash users.TokenHash, who matrix.Requester, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	for victim := range c.owners {
		if len(c.owners) < c.max {
			break
		}
		c.drop(victim)
	}
	c.owners[hash] = who
	if c.byUser[who.Account] == nil {
		c.byUser[who.Account] = map[users.TokenHash]struct{}{}
	}
	c.byUser[who.Account][hash] = struct{}{}
}

// forget drops the tokens of a user.
func (c *tokenCache) forget(user matrix.UserID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for hash := range c.byUser[user] {
		c.drop(hash)
	}
}

func (c *tokenCache) drop(hash users.TokenHash) {
	user := c.owners[hash].Account
	delete(c.owners, hash)
	delete(c.byUser[user], hash)
	if len(c.byUser[user]) == 0 {
		delete(c.byUser, user)
	}
}
