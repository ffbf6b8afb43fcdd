package accounts

import (
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/storagetest"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestAuthenticate(t *testing.T) {
	each(t, func(w *world) {
		s, _ := w.register("alice")
		want := matrix.Requester{Account: "@alice:example.org", User: "@alice:example.org", Device: s.Device}
		for _, how := range []string{"from the cache", "from the database"} {
			if got, err := w.Authenticate(w.ctx, s.AccessToken); got != want || err != nil {
				w.t.Errorf("%s: got %+v, %v, want %+v", how, got, err, want)
			}
			w.tokens = newTokenCache(10)
		}
		_, err := w.Authenticate(w.ctx, "")
		wantCode(w.t, "no token", err, matrix.MissingToken)
		for _, token := range []string{"x", s.AccessToken + "x", s.AccessToken[:20], "myt_\x00", "\xff"} {
			_, err := w.Authenticate(w.ctx, token)
			wantCode(w.t, token, err, matrix.UnknownToken)
		}
	})
}

func TestTokenCacheDropsAUsersTokens(t *testing.T) {
	c := newTokenCache(10)
	alice, bob := matrix.Requester{Account: "@alice:x"}, matrix.Requester{Account: "@bob:x"}
	c.put(users.TokenHash{1}, alice, 0)
	c.put(users.TokenHash{2}, alice, 0)
	c.put(users.TokenHash{3}, bob, 0)
	c.forget("@alice:x")
	for i, want := range map[byte]bool{1: false, 2: false, 3: true} {
		if _, ok := c.get(users.TokenHash{i}); ok != want {
			t.Errorf("token %d: got %v, want %v", i, ok, want)
		}
	}
	if len(c.byUser) != 1 {
		t.Errorf("users in the cache: got %d, want 1", len(c.byUser))
	}
}

// A request may have asked the database before a logout was committed, and come back after it.
func TestTokenCacheTakesNoAnswerFromBeforeALogout(t *testing.T) {
	c := newTokenCache(10)
	asked := c.currentEpoch()
	c.forget("@alice:x")
	c.put(users.TokenHash{1}, matrix.Requester{Account: "@alice:x"}, asked)
	if _, ok := c.get(users.TokenHash{1}); ok {
		t.Error("the token of a session that has ended is in the cache")
	}
	c.put(users.TokenHash{1}, matrix.Requester{Account: "@alice:x"}, c.currentEpoch())
	if _, ok := c.get(users.TokenHash{1}); !ok {
		t.Error("a later answer is not in the cache")
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	c := newTokenCache(10)
	for i := range 1000 {
		user := matrix.UserID(fmt.Sprintf("@%d:x", i%50))
		c.put(users.TokenHash{byte(i), byte(i >> 8)}, matrix.Requester{Account: user}, 0)
		if _, ok := c.get(users.TokenHash{byte(i), byte(i >> 8)}); !ok {
			t.Fatalf("token %d is not there just after it was put in", i)
		}
	}
	inUsers := 0
	for _, hashes := range c.byUser {
		inUsers += len(hashes)
	}
	if len(c.owners) != 10 || inUsers != 10 {
		t.Errorf("entries: got %d, by user %d, want 10", len(c.owners), inUsers)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b, storagetest.Open(b, storagetest.SQLite))
	s, _ := w.register("alice")
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Authenticate(w.ctx, s.AccessToken); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hit by many", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := w.Authenticate(w.ctx, s.AccessToken); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("miss", func(b *testing.B) {
		for b.Loop() {
			w.tokens.forget(s.User)
			if _, err := w.Authenticate(w.ctx, s.AccessToken); err != nil {
				b.Fatal(err)
			}
		}
	})
}
