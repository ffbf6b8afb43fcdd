package servers_test

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const a, b = matrix.ServerName("a.example"), matrix.ServerName("b.example")

// store is a database under test.
type store struct {
	*storage.DB
	t   *testing.T
	ctx context.Context
}

func each(t *testing.T, f func(s *store)) {
	t.Helper()
	storagetest.Each(t, func(t *testing.T, db *storage.DB) { f(&store{db, t, t.Context()}) })
}

// set stores keys with a document of that number.
func (s *store) set(server matrix.ServerName, number int64, keys ...servers.Key) {
	s.t.Helper()
	for i := range keys {
		keys[i].Document = number
	}
	d := servers.Document{Number: number, Server: server, ValidUntilMS: number * 10, JSON: text(number)}
	if _, err := s.Commit(s.ctx, servers.SetKeys{Document: d, Keys: keys}); err != nil {
		s.t.Fatalf("document %d: %v", number, err)
	}
}

// text is that of a document, with what databases do not like.
func text(number int64) []byte {
	return fmt.Appendf(nil, `{"n":%d,"x":"`+"\x00\x01"+`'"}`, number)
}

func (s *store) keys(names ...matrix.ServerName) map[matrix.ServerName][]servers.Key {
	s.t.Helper()
	got, err := servers.Keys(s.ctx, s, names...)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// documents returns the numbers of those that are there.
func (s *store) documents(numbers ...int64) []int64 {
	s.t.Helper()
	list, err := servers.Documents(s.ctx, s, numbers...)
	if err != nil {
		s.t.Fatal(err)
	}
	var found []int64
	for _, d := range list {
		found = append(found, d.Number)
		if !bytes.Equal(d.JSON, text(d.Number)) || d.ValidUntilMS != d.Number*10 {
			s.t.Errorf("document %d: got %q valid until %d, want %q and %d", d.Number, d.JSON, d.ValidUntilMS, text(d.Number), d.Number*10)
		}
	}
	return found
}

func key(id string, fetched int64) servers.Key {
	return servers.Key{
		ID: signing.KeyID("ed25519:" + id), Public: bytes.Repeat([]byte(id[:1]), 32), ValidUntilMS: fetched + 100, FetchedMS: fetched,
	}
}

// of is a key as it is read from a document.
func of(document int64, k servers.Key) servers.Key {
	k.Document = document
	return k
}

func TestKeys(t *testing.T) {
	each(t, func(s *store) {
		old := key("o", 5)
		old.Retired, old.Direct = true, true
		s.set(a, 1, key("x", 5), old)
		s.set(b, 2, key("x", 6))
		want := map[matrix.ServerName][]servers.Key{a: {of(1, old), of(1, key("x", 5))}, b: {of(2, key("x", 6))}}
		if got := s.keys(a, b, "c.example"); !reflect.DeepEqual(got, want) {
			s.t.Errorf("got %v, want %v", got, want)
		}
		if got := s.keys(); len(got) != 0 {
			s.t.Errorf("of nobody: got %v, want none", got)
		}
	})
}

// A key that is heard of again is replaced; one that is not, stays, with the document that has it.
func TestKeysAreReplaced(t *testing.T) {
	each(t, func(s *store) {
		s.set(a, 1, key("x", 5), key("y", 5))
		s.set(b, 2, key("x", 5))
		again := key("x", 7)
		again.Direct = true
		s.set(a, 3, again)
		if got, want := s.keys(a)[a], []servers.Key{of(3, again), of(1, key("y", 5))}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("got %v, want %v", got, want)
		}
		s.set(a, 4, key("x", 8), key("y", 8))
		if got, want := s.documents(1, 2, 3, 4, 5), []int64{2, 4}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("got the documents %v, want %v", got, want)
		}
	})
}

// A document that says nothing new is not kept.
func TestDocumentWithoutKeys(t *testing.T) {
	each(t, func(s *store) {
		s.set(a, 1, key("x", 5))
		s.set(a, 2)
		if got, want := s.documents(1, 2), []int64{1}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("got the documents %v, want %v", got, want)
		}
	})
}

// A server that makes up keys without end replaces its own ones, and nobody else's.
func TestKeysOfAServerAreBounded(t *testing.T) {
	each(t, func(s *store) {
		s.set(b, 1, key("x", 0))
		for round := range int64(5) {
			var keys []servers.Key
			for i := range 40 {
				keys = append(keys, key(fmt.Sprintf("%d_%d", round, i), round))
			}
			s.set(a, 10+round, keys...)
		}
		got := s.keys(a, b)
		if len(got[a]) != 100 || len(got[b]) != 1 {
			s.t.Errorf("got %d and %d keys, want 100 and 1", len(got[a]), len(got[b]))
		}
		if got, want := s.documents(1, 10, 11, 12, 13, 14), []int64{1, 12, 13, 14}; !reflect.DeepEqual(got, want) {
			s.t.Errorf("got the documents %v, want %v", got, want)
		}
	})
}

func TestOwnKeys(t *testing.T) {
	each(t, func(s *store) {
		public := func(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }
		use := func(id signing.KeyID, c byte, at int64) {
			if _, err := s.Commit(s.ctx, servers.UseKey{ID: id, Public: public(c), AtMS: at}); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, step := range []struct {
			id     signing.KeyID
			public byte
			at     int64
			want   []servers.OwnKey
		}{
			{"ed25519:a", 1, 10, []servers.OwnKey{{"ed25519:a", public(1), 0}}},
			{"ed25519:a", 1, 20, []servers.OwnKey{{"ed25519:a", public(1), 0}}},
			{"ed25519:b", 2, 30, []servers.OwnKey{{"ed25519:a", public(1), 30}, {"ed25519:b", public(2), 0}}},
			{"ed25519:c", 3, 40, []servers.OwnKey{
				{"ed25519:a", public(1), 30}, {"ed25519:b", public(2), 40}, {"ed25519:c", public(3), 0}}},
			{"ed25519:a", 1, 50, []servers.OwnKey{
				{"ed25519:a", public(1), 0}, {"ed25519:b", public(2), 40}, {"ed25519:c", public(3), 50}}},
		} {
			use(step.id, step.public, step.at)
			if got, err := servers.OwnKeys(s.ctx, s); err != nil || !reflect.DeepEqual(got, step.want) {
				s.t.Errorf("using %s at %d: got %v, %v, want %v", step.id, step.at, got, err, step.want)
			}
		}
	})
}
