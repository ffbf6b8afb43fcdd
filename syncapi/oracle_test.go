package syncapi_test

import (
	"encoding/json"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// The oracle: what a user may see, from the log alone, as the specification says it.

// past is one room's log.
type past []*rooms.Event

func (w *world) past(t failer, id matrix.RoomID) past {
	t.Helper()
	return w.pastUpTo(t, id, w.db.Position())
}

// pastUpTo is the log as it was at a position. While others write, what an answer says must be held against this.
func (w *world) pastUpTo(t failer, id matrix.RoomID, upTo storage.Position) past {
	t.Helper()
	room, err := w.rooms.Room(ctx, id)
	if err != nil {
		t.Fatalf("room %s: %v", id, err)
	}
	all, err := rooms.Timeline(ctx, w.db, room, storage.Span{UpTo: upTo}, 1<<20)
	if err != nil {
		t.Fatalf("log of %s: %v", id, err)
	}
	slices.Reverse(all)
	return all
}

// visible says of each event whether a user may see it now.
func (p past) visible(u matrix.UserID) map[matrix.EventID]bool {
	joinedLater := make([]bool, len(p))
	member := make([]event.Membership, len(p)+1)
	history := make([]string, len(p)+1)
	member[0], history[0] = event.Leave, "shared"
	for i, e := range p {
		member[i+1], history[i+1] = member[i], history[i]
		if e.Target() == u {
			member[i+1] = e.Membership()
		}
		if e.Type == event.TypeHistoryVisibility {
			var c struct{ History_visibility string }
			_ = json.Unmarshal(e.Content, &c)
			history[i+1] = c.History_visibility
		}
	}
	for i, later := len(p)-1, false; i >= 0; i-- {
		later = later || member[i+1] == event.Join
		joinedLater[i] = later
	}
	seen := map[matrix.EventID]bool{}
	for i, e := range p {
		for _, at := range []int{i, i + 1} {
			switch {
			case history[at] == "world_readable", member[at] == event.Join,
				history[at] == "shared" && joinedLater[i],
				history[at] == "invited" && member[at] == event.Invite:
				seen[e.ID] = true
			}
		}
	}
	return seen
}

// at returns the position of an event.
func (p past) at(id matrix.EventID) storage.Position {
	return p[slices.IndexFunc(p, func(e *rooms.Event) bool { return e.ID == id })].Position
}

// lastStay returns the position at which a user's last stay ended, 0 if it has not, and whether there was any.
func (p past) lastStay(u matrix.UserID) (until storage.Position, stayed bool) {
	joined := false
	for _, e := range p {
		switch {
		case e.Target() != u:
		case e.Membership() == event.Join:
			until, stayed, joined = 0, true, true
		case joined:
			until, joined = e.Position, false
		}
	}
	return until, stayed
}

// mayAllSee fails if one of the events is none that the user may see, or not there yet.
func (p past) mayAllSee(t failer, u matrix.UserID, shown []clientEvent) {
	t.Helper()
	if len(shown) == 0 {
		return
	}
	visible := p.visible(u)
	for _, e := range shown {
		i := slices.IndexFunc(p, func(logged *rooms.Event) bool { return logged.ID == e.ID })
		if i < 0 {
			t.Fatalf("%s is shown %s, which is not in the room", u, e.ID)
		}
		if own := p[i].Target() == u; !visible[e.ID] && !own {
			t.Fatalf("%s is shown %s (%s), which it may not see", u, e.ID, p[i].JSON)
		}
	}
}
