package local

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A batch token comes back from the client as anything.
func FuzzParseBatch(f *testing.F) {
	f.Add(batchToken(rooms.Published{Joined: 5, RoomNum: 7}, true))
	f.Add("")
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, token string) {
		place, backward, err := parseBatch(token)
		if err != nil {
			if matrix.CodeOf(err) != matrix.InvalidParam {
				t.Errorf("got %v, want M_INVALID_PARAM", err)
			}
			return
		}
		again, same, err := parseBatch(batchToken(rooms.Published{Joined: place.Joined, RoomNum: place.RoomNum}, backward))
		if err != nil || again != place || same != backward {
			t.Errorf("got %v %v, %v; want %v %v", again, same, err, place, backward)
		}
	})
}

// Content that a client sends as state is canonical JSON, but otherwise anything.
func FuzzContent(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `{"users":{"@a:b":1},"events":{"x":1},"ban":50}`, `{"users":null}`, `{"alias":"#a:b","alt_aliases":["#c:d"]}`,
		`{"alt_aliases":7}`, `{"alias":null}`, `{"redacts":"$x"}`, `{"users":{"@a:b":" 5 "}}`,
	} {
		f.Add([]byte(seed))
	}
	v10, _ := event.VersionOf("10")
	v9, _ := event.VersionOf("9")
	f.Fuzz(func(t *testing.T, raw []byte) {
		content, err := canonical.JSON(raw, canonical.Strict)
		if err != nil {
			return
		}
		strict, loose := levelRules{version: v10}, levelRules{version: v9}
		if strict.check(content) == nil && loose.check(content) != nil {
			t.Errorf("version 10 takes power levels that version 9 does not: %s", content)
		}
		aliases, err := canonicalAliases(content)
		if len(aliases) > maxCanonicalAliases+1 {
			t.Errorf("got %d aliases, %v", len(aliases), err)
		}
		for _, alias := range aliases {
			changed, did, err := withoutAlias(content, alias)
			if err != nil || !did {
				t.Fatalf("take %s from %s: %v, %v", alias, content, did, err)
			}
			left, _ := canonicalAliases(changed)
			for _, other := range left {
				if other == alias {
					t.Errorf("%s is still in %s", alias, changed)
				}
			}
		}
		_, _ = redactsOf(content)
	})
}
