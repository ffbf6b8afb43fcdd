package clientapi

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// moment asks for the event nearest to a time.
func (c *client) moment(r *room, at time.Time, dir string) *answer {
	c.w.t.Helper()
	return c.get("/_matrix/client/v1" + r.path + "/timestamp_to_event" +
		query("ts", fmt.Sprint(at.UnixMilli()), "dir", dir))
}

func TestTimestampToEvent(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	created := w.clock.Now()
	r := alice.newRoom(publicChat)
	later := func(text string) (string, time.Time) {
		w.clock.advance(time.Minute)
		return r.say(alice, text), w.clock.Now()
	}
	one, atOne := later("one")
	two, atTwo := later("two")
	for _, c := range []struct {
		at   time.Time
		dir  string
		want string
	}{
		{atOne.Add(-1 * time.Second), "f", one}, {atOne, "f", one}, {atOne, "b", one}, {atOne.Add(time.Second), "f", two},
		{atTwo.Add(time.Hour), "b", two}, {atTwo.Add(-time.Second), "b", one},
	} {
		alice.moment(r, c.at, c.dir).ok().has(c.want, "event_id")
	}
	alice.moment(r, created.Add(-time.Second), "b").fails(http.StatusNotFound, "M_NOT_FOUND")
	alice.moment(r, atTwo.Add(time.Second), "f").fails(http.StatusNotFound, "M_NOT_FOUND")
	for _, who := range []*client{bob, w.guest()} {
		if got := who.moment(r, atOne, "f"); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", who.user, got.status)
		}
	}
	for _, bad := range []string{query("ts", "x", "dir", "f"), query("ts", "1", "dir", "x")} {
		alice.get("/_matrix/client/v1"+r.path+"/timestamp_to_event"+bad).fails(http.StatusBadRequest, "M_INVALID_PARAM")
	}
	for _, bad := range []string{"", query("ts", "1"), query("dir", "f")} {
		alice.get("/_matrix/client/v1"+r.path+"/timestamp_to_event"+bad).fails(http.StatusBadRequest, "M_MISSING_PARAM")
	}
	r.join(bob)
	bob.moment(r, atOne, "f").ok().has(one, "event_id")
	bob.post(r.path+"/leave", object{}).ok()
	three, atThree := later("three")
	bob.moment(r, atThree, "f").fails(http.StatusNotFound, "M_NOT_FOUND")
	alice.moment(r, atThree, "f").ok().has(three, "event_id")
}
