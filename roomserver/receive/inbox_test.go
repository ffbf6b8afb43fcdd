package receive

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
)

func TestInbox(t *testing.T) {
	var in inbox
	some := make([]*event.Event, 1500)
	for i := range some {
		some[i] = &event.Event{}
	}
	if !in.admit("!a", some) || !in.admit("!b", some) {
		t.Fatal("a first call was not let in")
	}
	if in.admit("!a", some) {
		t.Error("too much was let in")
	}
	if !in.admit("!a", nil) {
		t.Error("a call without events was not let in")
	}
	in.leave("!a", some)
	in.leave("!a", nil)
	in.leave("!b", some)
	if len(in.rooms) != 0 || in.bytes != 0 {
		t.Errorf("left are %d rooms, %d bytes", len(in.rooms), in.bytes)
	}
}
