package local

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// https://spec.matrix.org/v1.19/rooms/v11/#authorization-rules
func TestWithoutAuthoriser(t *testing.T) {
	v, _ := event.VersionOf("11")
	made := func(typ, content string) *rooms.Event {
		ev, err := event.Load(v, "$e", []byte(`{"content":`+content+`,"room_id":"!r:a","sender":"@b:a","state_key":"@b:a","type":"`+typ+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		return &rooms.Event{Event: ev}
	}
	const join = `{"membership":"join"}`
	joined := made(event.TypeMember, join)
	const vouched = `{"displayname":"B","join_authorised_via_users_server":"@a:b","membership":"join"}`
	tests := []struct {
		name, content string
		now           *rooms.Event
		want          string
	}{
		{"a repeated join", vouched, joined, `{"displayname":"B","membership":"join"}`},
		{"a first join", vouched, nil, vouched},
		{"a join after an invite", vouched, made(event.TypeMember, `{"membership":"invite"}`), vouched},
		{"a join that nobody vouches for", join, joined, join},
		{"other state", vouched, made("x", join), vouched},
	}
	for _, test := range tests {
		got, err := withoutAuthoriser([]byte(test.content), test.now)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v, want %s", test.name, got, err, test.want)
		}
	}
}
