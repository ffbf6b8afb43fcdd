package rooms_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func TestOfServer(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for i, stay := range [][2]string{{"@a:one.org", "leave"}, {"@b:one.org", "join"}, {"@c:bone.org", "join"}, {"@d:one.org", "invite"}, {"@e:one.org:8448", "join"}} {
			members(t, db, rooms.Membership{
				RoomNum: 7, User: matrix.UserID(stay[0]), Membership: event.Membership(stay[1]), EventNum: 1, Position: storage.Position(i),
			})
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
		for server, want := range map[matrix.ServerName]bool{"one.org": true, "bone.org": true, "ne.org": false, "one.org:8448": true, "8448": false} {
			if got, err := rooms.HasJoined(t.Context(), db, 7, server); err != nil || got != want {
				t.Errorf("%s is in the room: got %v, %v, want %v", server, got, err, want)
			}
		}
		members(t, db, rooms.Membership{RoomNum: 7, User: "@b:one.org", Membership: event.Leave, EventNum: 2, Position: 9})
		if got, err := rooms.HasJoined(t.Context(), db, 7, "one.org"); err != nil || got {
			t.Errorf("after the last has left: got %v, %v, want false", got, err)
		}
		for user, want := range map[matrix.UserID]bool{"@a:one.org": false, "@c:bone.org": true, "@none:one.org": false} {
			if got, err := rooms.IsJoinedAnywhere(t.Context(), db, user); err != nil || got != want {
				t.Errorf("%s is joined anywhere: got %v, %v, want %v", user, got, err, want)
			}
		}
		if nums, err := rooms.RoomsOfEvent(t.Context(), db, "$none", 10); err != nil || len(nums) != 0 {
			t.Errorf("rooms of no event: got %v, %v, want none", nums, err)
		}
	})
}

// However many users of one server are in a room, the others are found.
func TestJoinedServers(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		var all []rooms.Membership
		add := func(user string, stay event.Membership) {
			all = append(all, rooms.Membership{RoomNum: 7, User: matrix.UserID(user), Membership: stay, EventNum: 1})
		}
		for i := range 100 {
			add(fmt.Sprintf("@a%d:b.org", i), event.Join)
		}
		add("@z:a.org", event.Join)
		add("@z:c.org", event.Leave)
		add("@z:d.org", event.Join)
		add("@a:e.org", event.Invite)
		members(t, db, all...)
		for limit, want := range map[int][]matrix.ServerName{10: {"a.org", "b.org", "d.org"}, 2: {"a.org", "b.org"}} {
			if got, err := rooms.JoinedServers(t.Context(), db, 7, limit); err != nil || !slices.Equal(got, want) {
				t.Errorf("at most %d: got %v, %v, want %v", limit, got, err, want)
			}
		}
		if got, err := rooms.JoinedServers(t.Context(), db, 8, 10); err != nil || len(got) != 0 {
			t.Errorf("of another room: got %v, %v, want none", got, err)
		}
	})
}

// members stores memberships and nothing that belongs to them.
func members(t testing.TB, db *storage.DB, all ...rooms.Membership) {
	t.Helper()
	if _, err := db.Commit(t.Context(), rooms.ImportMembers{Members: all}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkHasJoined asks for a server that is in a room of 20,000 members, for one that is not, and for 50 of its 500
// servers.
func BenchmarkHasJoined(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		db := storagetest.Open(b, kind)
		var all []rooms.Membership
		for i := range 20_000 {
			user := matrix.UserID(fmt.Sprintf("@u%d:s%d.org", i, i%500))
			all = append(all, rooms.Membership{RoomNum: 7, User: user, Membership: event.Join, EventNum: 1})
		}
		for some := range slices.Chunk(all, 1000) {
			members(b, db, some...)
		}
		b.Run(kind+"/servers", func(b *testing.B) {
			for b.Loop() {
				if got, err := rooms.JoinedServers(b.Context(), db, 7, 50); err != nil || len(got) != 50 {
					b.Fatal(got, err)
				}
			}
		})
		for _, server := range []matrix.ServerName{"s499.org", "none.org"} {
			b.Run(kind+"/"+string(server), func(b *testing.B) {
				for b.Loop() {
					if got, err := rooms.HasJoined(b.Context(), db, 7, server); err != nil || got != (server != "none.org") {
						b.Fatal(got, err)
					}
				}
			})
		}
	}
}
