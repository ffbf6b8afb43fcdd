package keys_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// publishedKeys is what this server publishes, as others read it.
type publishedKeys struct {
	ServerName   matrix.ServerName              `json:"server_name"`
	ValidUntilTS int64                          `json:"valid_until_ts"`
	Keys         map[signing.KeyID]publishedKey `json:"verify_keys"`
	OldKeys      map[signing.KeyID]publishedKey `json:"old_verify_keys"`
}

type publishedKey struct {
	Key       string `json:"key"`
	ExpiredTS int64  `json:"expired_ts"`
}

func readPublished(t *testing.T, r *keys.Ring, by signing.Key) (p publishedKeys) {
	t.Helper()
	text, err := r.Published()
	if err != nil {
		t.Fatal(err)
	}
	if err := signing.VerifyJSON(text, us, by.ID(), by.Public()); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// A key stays published when another takes its place, and comes back when it does.
func TestPublished(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		first, second := newKey(t, "ed25519:us", 1), newKey(t, "ed25519:next", 2)
		for i, step := range []struct {
			key  signing.Key
			want string // current keys | old keys and their end
		}{
			{first, "ed25519:us |"},
			{first, "ed25519:us |"},
			{second, "ed25519:next | ed25519:us 2"},
			{second, "ed25519:next | ed25519:us 2"},
			{first, "ed25519:us | ed25519:next 4"},
		} {
			s := w.settings(db)
			s.Key = step.key
			p := readPublished(t, newRing(t, s), step.key)
			got := ""
			for id, k := range p.Keys {
				got += string(id) + " |"
				if want := signing.EncodeBase64(step.key.Public()); k.Key != want {
					t.Errorf("step %d: got the key %s, want %s", i, k.Key, want)
				}
			}
			for id, k := range p.OldKeys {
				got += fmt.Sprintf(" %s %d", id, (k.ExpiredTS-start.UnixMilli())/time.Hour.Milliseconds())
			}
			if got != step.want || p.ServerName != us || p.ValidUntilTS != w.clock().Add(24*time.Hour).UnixMilli() {
				t.Errorf("step %d: got %s of %s until %d, want %s", i, got, p.ServerName, p.ValidUntilTS, step.want)
			}
			w.pass(time.Hour)
		}
	})
}

// What is answered is never about to end.
func TestPublishedIsRenewed(t *testing.T) {
	w := newWorld(t)
	r := w.ring()
	key := newKey(t, "ed25519:us", 1)
	first := readPublished(t, r, key).ValidUntilTS
	w.pass(59 * time.Minute)
	if got := readPublished(t, r, key).ValidUntilTS; got != first {
		t.Errorf("after 59 minutes: got an end at %d, want %d, the same document", got, first)
	}
	w.pass(time.Minute)
	if got, want := readPublished(t, r, key).ValidUntilTS, first+time.Hour.Milliseconds(); got != want {
		t.Errorf("after an hour: got an end at %d, want %d", got, want)
	}
}

func TestKeyIDThatWasAnotherKey(t *testing.T) {
	w := newWorld(t)
	s := w.settings(storagetest.Open(t, storagetest.SQLite))
	newRing(t, s)
	s.Key = newKey(t, s.Key.ID(), 99)
	if _, err := keys.New(t.Context(), s); err == nil || !strings.Contains(err.Error(), string(s.Key.ID())) {
		t.Errorf("got %v, want an error that names %s", err, s.Key.ID())
	}
}

// FuzzDocument: whatever a server sends, keys come of what it has signed with them alone.
func FuzzDocument(f *testing.F) {
	w := newWorld(f)
	p := w.peer("a.example", 7)
	f.Add(p.document())
	p.old["ed25519:o"] = map[string]any{"key": signing.EncodeBase64(p.key.Public()), "expired_ts": 1}
	f.Add(p.document())
	f.Add([]byte(`{"server_name":"a.example","valid_until_ts":1,"verify_keys":{"ed25519:k":1},"signatures":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		server, inUse, retired, err := keys.ParseDocument(raw, start)
		if err != nil {
			if matrix.CodeOf(err) == matrix.Unknown {
				t.Errorf("%q: got %v, want a *matrix.Error", raw, err)
			}
			return
		}
		if inUse < 1 || inUse+retired > 64 || server == "" {
			t.Errorf("%q: got %d keys in use and %d old ones of %q, want at least 1 and at most 64", raw, inUse, retired, server)
		}
	})
}
