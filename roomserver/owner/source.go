package owner

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// source has the events of a room that are not committed yet: only its owner has these.
type source struct {
	fresh   map[int64]placed // of the step being done
	flights *flights         // nil if the room is new
}

// uncommitted returns an event that only the owner has yet.
func (f source) uncommitted(num int64) (placed, bool) {
	if ev, ok := f.fresh[num]; ok {
		return ev, true
	}
	return f.flights.event(num)
}

// eventsOf returns events of the room by number, in the order asked, nil for 0. Each other must exist.
func (st *Step) eventsOf(ctx context.Context, nums []int64) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(nums))
	for i, num := range nums {
		if ev, ok := st.source.uncommitted(num); ok {
			found[i] = ev.Event
		}
	}
	if err := st.owners.cache.Fill(ctx, st.room, nums, found); err != nil {
		return nil, err
	}
	return found, nil
}

// stateEvents returns the events of a state at these keys, nil where there is none. The error is statetree.ErrUnknown if one
// of them is a member that is not known.
func (st *Step) stateEvents(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	return st.owners.cache.StateEvents(ctx, committed.View{Room: st.room, Tree: tree, Read: st.eventsOf}, keys)
}

// knownIn is stateEvents, but for members that are not known, which are nil.
func (st *Step) knownIn(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, _, err := st.owners.cache.KnownEvents(ctx, committed.View{Room: st.room, Tree: tree, Read: st.eventsOf}, keys)
	return found, err
}
