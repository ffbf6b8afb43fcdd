package syncapi

import (
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// What was read of a room before its events were checked again, and comes to be kept after it, is out of date: the states
// before them may be deleted by the time that somebody looks.
func TestReadBeforeEventsWereCheckedAgain(t *testing.T) {
	h := &hub{position: 10, rooms: map[int64]*room{}, byID: map[matrix.RoomID]*room{}}
	r := h.room(1, "!r:example.org")
	read := func(upTo storage.Position) passage {
		old := &rooms.Event{Event: &event.Event{}, Position: 5}
		return passage{room: 1, events: []*rooms.Event{old}, span: storage.Span{UpTo: upTo}, whole: true}
	}
	before := read(r.eventsFrom)
	var b batch
	h.takeMove(&rooms.Move{RoomNum: 1, Room: r.id, Root: 7, Again: true}, 12, &b)
	if h.learn(before); len(r.events) != 0 {
		t.Error("what was read before the move is kept")
	}
	if h.learn(read(12)); len(r.events) != 1 || r.eventsFrom != 0 {
		t.Errorf("read after it: got %d events from %d on, want all", len(r.events), r.eventsFrom)
	}
}
