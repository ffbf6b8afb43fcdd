package roomserver_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// restless is a profile whose display name is the first of these until it was read, then the next; the last stays.
type restless struct{ names []string }

func (r *restless) Profile(context.Context, matrix.UserID) (map[string]json.RawMessage, error) {
	name := r.names[0]
	if len(r.names) > 1 {
		r.names = slices.Delete(r.names, 0, 1)
	}
	return map[string]json.RawMessage{"displayname": canonical.AppendString(nil, name)}, nil
}

// A profile that changes while an older one is carried into the rooms ends as the newer one there.
func TestProfileChangesWhileItIsCarried(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		in := settings(t, db)
		profile := &restless{[]string{"first"}}
		in.Profiles = profile
		s := roomserver.New(in)
		id := mustCreate(t, s, "alice", roomserver.CreateRoom{})
		profile.names = []string{"second", "third", "fourth"}
		if err := s.ProfileChanged(t.Context(), user("alice")); err != nil {
			t.Fatal(err)
		}
		state, err := s.Current(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		_, ev, err := state.Member(t.Context(), user("alice"))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(canonical.Get(ev.Content, "displayname")); got != `"fourth"` {
			t.Errorf("the room shows %s, want the last name", got)
		}
	})
}
