package clientapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

func TestTyping(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.register("alice"), w.register("bob")
	r := alice.newRoom(publicChat)
	path := r.path + "/typing/" + string(alice.user)
	types := func(want ...matrix.UserID) {
		t.Helper()
		if got, _ := w.ephemeral.Typing(matrix.RoomID(r.id)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("typing: got %v, want %v", got, want)
		}
	}
	for _, body := range []object{
		{"typing": true, "timeout": 10_000}, {"typing": true}, {"typing": true, "timeout": 0}, {"typing": true, "timeout": 1 << 52},
	} {
		alice.put(path, body).is(`{}`)
		types(alice.user)
		alice.put(path, object{"typing": false}).is(`{}`)
		types()
	}
	alice.put(path, object{"timeout": 1}).fails(400, "M_MISSING_PARAM")
	alice.put(path, object{"typing": "yes"}).fails(400, "M_BAD_JSON")
	alice.put(path, object{"typing": true, "timeout": 1.5}).fails(400, "M_BAD_JSON")
	alice.put(r.path+"/typing/nobody", object{"typing": true}).fails(400, "M_INVALID_PARAM")
	alice.put(r.path+"/typing/"+string(bob.user), object{"typing": true}).fails(403, "M_FORBIDDEN")
	bob.put(r.path+"/typing/"+string(bob.user), object{"typing": true}).fails(403, "M_FORBIDDEN")
	types()
}

func TestTypingTimeout(t *testing.T) {
	yes := true
	for ms, want := range map[int64]time.Duration{-5: time.Millisecond, 0: time.Millisecond, 7: 7 * time.Millisecond, 1 << 62: longestTyping} {
		if got, err := (&typingRequest{Typing: &yes, TimeoutMS: &ms}).timeout(); err != nil || got != want {
			t.Errorf("timeout %d: got %v, %v, want %v", ms, got, err, want)
		}
	}
}
