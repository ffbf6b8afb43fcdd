package rooms_test

import (
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func TestOfServer(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for i, stay := range [][2]string{{"@a:one.org", "leave"}, {"@b:one.org", "join"}, {"@c:bone.org", "join"}, {"@d:one.org", "invite"}, {"@e:one.org:8448", "join"}} {
			if _, err := db.Commit(t.Context(), memberRow{room: 7, user: stay[0], membership: stay[1], position: int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := rooms.UsersOf(t.Context(), db, 7, "one.org", 10)
		if err != nil || len(got) != 3 || got[0] != "@b:one.org" {
			t.Errorf("users of one.org: got %v, %v, want the joined one first, of three", got, err)
		}
		if got, err = rooms.UsersOf(t.Context(), db, 7, "one.org", 1); err != nil || len(got) != 1 {
			t.Errorf("one user of one.org: got %v, %v", got, err)
		}
		if got, err = rooms.UsersOf(t.Context(), db, 7, "8448", 10); err != nil || len(got) != 0 {
			t.Errorf("users of a port: got %v, %v, want none", got, err)
		}
		if got, err = rooms.UsersOf(t.Context(), db, 8, "one.org", 10); err != nil || len(got) != 0 {
			t.Errorf("in another room: got %v, %v, want none", got, err)
		}
		for user, want := range map[matrix.UserID]bool{"@a:one.org": false, "@b:one.org": true, "@none:one.org": false} {
			if got, err := rooms.IsJoinedAnywhere(t.Context(), db, user); err != nil || got != want {
				t.Errorf("%s is joined anywhere: got %v, %v, want %v", user, got, err, want)
			}
		}
		if nums, err := rooms.RoomsOfEvent(t.Context(), db, "$none", 10); err != nil || len(nums) != 0 {
			t.Errorf("rooms of no event: got %v, %v, want none", nums, err)
		}
	})
}

// memberRow stores one membership and nothing that belongs to it.
type memberRow struct {
	room             int64
	user, membership string
	position         int64
}

var memberTable = &storage.Table{
	Name: "memberships",
	Columns: []storage.Column{
		{Name: "room_num", Type: storage.BigInt}, {Name: "user_id", Type: storage.Text}, {Name: "membership", Type: storage.Text},
		{Name: "event_num", Type: storage.BigInt}, {Name: "position", Type: storage.BigInt}, {Name: "forgotten", Type: storage.Boolean},
	},
}

func (m memberRow) Rows(it *storage.Item) {
	it.Insert(memberTable, m.room, m.user, m.membership, int64(1), m.position, false)
}
