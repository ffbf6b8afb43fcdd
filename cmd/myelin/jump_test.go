package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// jump is somebody who joins a room late and looks at what was said at some time, before anything else of its history: what
// the server does not hold is asked of the other, and can be read on from there in both directions.
func jump(t *testing.T, alice, bob *watcher, of *fleetServer) {
	room := alice.must(t, "POST", "/createRoom", `{"preset":"public_chat"}`).text("room_id")
	var ids []string
	for i := range 120 {
		ids = append(ids, alice.say(room, fmt.Sprint("said ", i)))
	}
	bob.join(room, of)
	at := func(i int, dir string) (ms float64, found string) {
		t.Helper()
		ms = alice.must(t, "GET", inRoom(room, "/event/%s", ids[i]), "").body["origin_server_ts"].(float64)
		r := bob.must(t, "GET", "/_matrix/client/v1"+inRoom(room, "/timestamp_to_event?ts=%d&dir=%s", int64(ms), dir), "")
		if got := r.body["origin_server_ts"]; got != ms {
			t.Errorf("%s of message %d: got one of %v, want of %v", dir, i, got, ms)
		}
		return ms, r.text("event_id")
	}
	for _, c := range []struct {
		message int
		dir     string
	}{{30, "f"}, {80, "b"}, {2, "b"}} {
		_, found := at(c.message, c.dir)
		around := bob.must(t, "GET", inRoom(room, "/context/%s?limit=0", found), "")
		before := bob.must(t, "GET", inRoom(room, "/messages?dir=b&limit=100&from=%s", around.text("start")), "")
		bodies := sayings(before.body)
		first := slices.Index(ids, found)
		if first < 1 || len(bodies) == 0 || bodies[0] != fmt.Sprint("said ", first-1) {
			t.Errorf("before message %d: got %v, want what was said before it", first, bodies)
		}
	}
	all := sayings(readAll(t, bob, room))
	slices.Reverse(all)
	for i, body := range all {
		if len(all) != len(ids) || body != fmt.Sprint("said ", i) {
			t.Fatalf("the history has %d messages, the %dth is %q; want all %d in their order: %v", len(all), i, body, len(ids), all)
		}
	}
}

// sayings returns the messages of a page.
func sayings(page map[string]any) (bodies []string) {
	for _, e := range listIn(page, "chunk") {
		if body, ok := objectIn(e, "content")["body"].(string); ok && strings.HasPrefix(body, "said ") {
			bodies = append(bodies, body)
		}
	}
	return bodies
}
