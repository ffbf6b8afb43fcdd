package rooms_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

var stays = map[byte]event.Membership{
	'j': event.Join, 'i': event.Invite, 'l': event.Leave, 'b': event.Ban, 'k': event.Knock,
}

func TestHeroes(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		room := int64(0)
		for _, c := range []struct {
			name    string
			members string // in the order of their positions: who, and how he stands
			as      matrix.UserID
			want    []matrix.UserID
		}{
			{"others, in order", "cj bi aj", "@a:x", []matrix.UserID{"@c:x", "@b:x"}},
			{"five of many", "aj bj cj dj ej fj gj", "@a:x", []matrix.UserID{"@b:x", "@c:x", "@d:x", "@e:x", "@f:x"}},
			{"five, of whom one asks who came last", "aj bj cj dj ej fj gj", "@g:x", []matrix.UserID{"@a:x", "@b:x", "@c:x", "@d:x", "@e:x"}},
			{"no knocks, and none who left", "aj bl ck dj", "@a:x", []matrix.UserID{"@d:x"}},
			{"alone: who was there", "aj bl cb", "@a:x", []matrix.UserID{"@b:x", "@c:x"}},
			{"seen from outside", "aj bl", "@z:x", []matrix.UserID{"@a:x"}},
			{"who asks has left an empty room", "al bl", "@a:x", []matrix.UserID{"@b:x"}},
			{"nobody else", "aj", "@a:x", nil},
		} {
			room++
			var all []rooms.Membership
			for i, m := range strings.Fields(c.members) {
				all = append(all, rooms.Membership{
					RoomNum: room, User: matrix.UserID(fmt.Sprintf("@%c:x", m[0])), Membership: stays[m[1]], EventNum: 1,
					Position: storage.Position(i + 1),
				})
			}
			members(t, db, all...)
			heroes, err := rooms.HeroesOf(t.Context(), db, room)
			if got := heroes.For(c.as); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s: %s sees %v, %v, want %v", c.name, c.as, got, err, c.want)
			}
		}
	})
}
