package federation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

func momentPath(room rooms.Room, ms int64, dir string) string {
	return path("v1", "timestamp_to_event", string(room.ID)) + fmt.Sprintf("?ts=%d&dir=%s", ms, dir)
}

// A server is told of events that it may have in full, and of no others.
func TestTimestampToEvent(t *testing.T) {
	for _, visibility := range []string{"shared", "joined"} {
		w := newWorld(t)
		them := w.them()
		room := w.room(visibility)
		say := func(text string) int64 {
			w.pass(time.Second)
			w.say(room, text)
			return w.clock().UnixMilli()
		}
		first := say("before")
		w.pass(time.Second)
		join := them.join(room)
		second := say("one")
		third := say("two")
		for _, c := range []struct {
			ms   int64
			dir  string
			want int64 // the time of the event; 0: none
		}{
			{second, "f", second}, {second + 1, "f", third}, {third + 1, "f", 0},
			{third, "b", third}, {third - 1, "b", second}, {second - 1, "b", join.OriginServerTS},
			{first, "f", map[string]int64{"shared": first, "joined": join.OriginServerTS}[visibility]},
		} {
			answer := them.get(momentPath(room, c.ms, c.dir))
			if c.want == 0 {
				answer.fails(404, matrix.NotFound)
				continue
			}
			var got remote.EventAtTime
			answer.into(&got)
			if e := w.stored(room, got.EventID); got.OriginServerTS != c.want || e == nil || e.OriginServerTS != c.want {
				t.Errorf("%s, %s from %d: got %v, want an event of %d", visibility, c.dir, c.ms-start.UnixMilli(), got, c.want)
			}
		}
		for _, query := range []string{"", "?ts=1", "?dir=f", "?ts=x&dir=f", "?ts=1&dir=x"} {
			them.get(path("v1", "timestamp_to_event", string(room.ID))+query).fails(400, matrix.InvalidParam)
		}
		stranger := w.peer("third.example", 3)
		refused := stranger.get(momentPath(room, first, "f")).fails(403, matrix.Forbidden)
		none := stranger.get(path("v1", "timestamp_to_event", "!none:us.example")+"?ts=1&dir=f").fails(403, matrix.Forbidden)
		if len(refused.body)-len(room.ID) != len(none.body)-len("!none:us.example") {
			t.Errorf("a stranger is told %s of a room, %s of none", refused.body, none.body)
		}
	}
}
