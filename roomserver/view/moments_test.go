package view_test

import (
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// nearest is what somebody finds, in the words of tell. All events but those by which the room was made have one time,
// so that the order of the room decides.
func (w *world) nearest(name string, ms int64, backward bool, s view.Sight) string {
	w.t.Helper()
	e, found, err := w.open(name).Nearest(w.t.Context(), w.db, rooms.Moment{AtMS: ms, Backward: backward}, s)
	must(w.t, err)
	if !found {
		return "nothing"
	}
	return story([]view.Seen{{Event: e}})
}

func TestNearest(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.passed = time.Second
	w.tell("0 join 1")
	cut := w.db.Position()
	w.tell("leave 2")
	at := now.Add(w.passed).UnixMilli()
	for _, c := range []struct {
		name, who string
		ms        int64
		backward  bool
		sight     view.Sight
		want      string
	}{
		{"the last", "alice", at, true, view.Sight{}, "2"},
		{"the first that may be seen", "bob", at, false, view.Sight{}, "join"},
		{"the last that may be seen", "bob", at, true, view.Sight{}, "leave"},
		{"as far as sight reaches", "bob", at, true, view.Sight{Until: cut}, "1"},
		{"later than all", "alice", at + 1, true, view.Sight{}, "2"},
		{"nothing later", "alice", at + 1, false, view.Sight{}, "nothing"},
		{"nothing earlier", "alice", now.UnixMilli() - 1, true, view.Sight{}, "nothing"},
		{"nothing to be seen", "carol", at, false, view.Sight{}, "nothing"},
	} {
		if got := w.nearest(c.who, c.ms, c.backward, c.sight); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// A search goes on over what is hidden, and ends somewhere.
func TestNearestPassesHidden(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.passed = time.Second
	w.tell(strings.Repeat("x ", 100) + "join 1")
	if got := w.nearest("bob", now.UnixMilli()+1, false, view.Sight{}); got != "join" {
		t.Errorf("got %s, want join", got)
	}
}

func TestServerNearest(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.passed = time.Second
	w.tell("0")
	w.passed += time.Second
	w.member(carol, carol, "join")
	w.tell("1 2")

	v := w.openServer(carol.Server())
	for _, backward := range []bool{false, true} {
		e, found, err := v.Nearest(t.Context(), rooms.Moment{AtMS: now.Add(w.passed).UnixMilli(), Backward: backward})
		must(t, err)
		if !found || backward && story([]view.Seen{{Event: e}}) != "2" || !backward && e.Target() != matrix.UserID(carol) {
			t.Errorf("backward %v: got %v, want message 2, and carol's join", backward, e)
		}
	}
}
