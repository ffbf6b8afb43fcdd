package event

import (
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestClaimedRoom(t *testing.T) {
	for raw, want := range map[string]matrix.RoomID{
		`{"depth":1,"room_id":"!r:a.org"}`: "!r:a.org", `{"content":{"room_id":"!r:a.org"}}`: "", `{"room_id":1}`: "", `{"room_id":`: "", "": "",
	} {
		if got := ClaimedRoom([]byte(raw)); got != want {
			t.Errorf("%s: got %q, want %q", raw, got, want)
		}
	}
}

func TestClaimedID(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"3", "6", "11"} {
		v, _ := VersionOf(version)
		const head = `{"auth_events":[],"content":{"body":"`
		const tail = `"},"depth":1,"hashes":{"sha256":""},"origin_server_ts":1,"prev_events":[],"room_id":"!r:a.org","sender":"@u:a.org","signatures":{},"type":"m.x"}`
		whole := head + "hello" + tail
		e, err := Parse(v, []byte(whole))
		if err != nil {
			t.Fatal(err)
		}
		if got := ClaimedID(v, []byte(whole)); got != e.ID {
			t.Errorf("version %s: of an event: got %s, want %s", version, got, e.ID)
		}
		if got := ClaimedID(v, []byte(head+strings.Repeat("x", MaxBytes)+tail)); got != e.ID {
			t.Errorf("version %s: of one whose content is too large: got %s, want %s, which content does not change", version, got, e.ID)
		}
		for _, garbage := range []string{"", "1", "[]", "{", `{"type":1}`, head + strings.Repeat("x", maxRawBytes) + tail} {
			if got := ClaimedID(v, []byte(garbage)); got != "" && garbage != "{}" {
				t.Errorf("version %s: of %.20s: got %s, want none", version, garbage, got)
			}
		}
	}
	v, _ := VersionOf("1")
	for raw, want := range map[string]matrix.EventID{
		`{"event_id":"$x:a.org"}`: "$x:a.org", `{"event_id":"x"}`: "", `{}`: "", `{"event_id":1}`: "",
	} {
		if got := ClaimedID(v, []byte(raw)); got != want {
			t.Errorf("version 1: of %s: got %q, want %q", raw, got, want)
		}
	}
}
