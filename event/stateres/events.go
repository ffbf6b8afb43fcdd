package stateres

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
)

const (
	// maxHeldBytes bounds the events that a merge keeps. Beyond it they are
	// read again when they are needed again.
	maxHeldBytes = 32 << 20
	// eventOverhead is about what an event takes besides its JSON.
	eventOverhead = 512
	// maxLevelBytes bounds the content of the power levels that are kept
	// parsed, which then take some times as much.
	maxLevelBytes = 4 << 20
)

// held are the events that a merge has loaded.
type held struct {
	room   Room
	index  ids[statetree.Value] // of the events
	events []*event.Event
	bytes  int
}

func newHeld(room Room) held { return held{room: room, index: newIDs[statetree.Value](0)} }

// get returns events in the order of their numbers, at most MaxLoad; nil for
// the number 0. It writes them to buf if they fit.
func (h *held) get(ctx context.Context, nums []statetree.Value, buf []*event.Event) ([]*event.Event, error) {
	got := slices.Grow(buf[:0], len(nums))[:len(nums)]
	var missing []statetree.Value
	var at []int
	for i, num := range nums {
		got[i] = nil
		if num == 0 {
			continue
		}
		if id, ok := h.index.find(num); ok {
			got[i] = h.events[id]
			continue
		}
		missing = append(missing, num)
		at = append(at, i)
	}
	if missing == nil {
		return got, nil
	}
	loaded, err := h.room.Loader.Events(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("load %d events: %w", len(missing), err)
	}
	for i, num := range missing {
		if loaded[i].RoomID != h.room.ID || !loaded[i].IsState() {
			return nil, fmt.Errorf("%w: event %d is %s, of room %s", ErrMismatch, num, loaded[i].ID, loaded[i].RoomID)
		}
		h.keep(num, loaded[i])
		got[at[i]] = loaded[i]
	}
	return got, nil
}

func (h *held) keep(num statetree.Value, ev *event.Event) {
	size := len(ev.JSON) + eventOverhead
	if h.bytes+size > maxHeldBytes {
		clear(h.events)
		h.events, h.bytes = h.events[:0], 0
		h.index.clear()
	}
	if _, added := h.index.add(num); added {
		h.events = append(h.events, ev)
		h.bytes += size
	}
}

// levelCache keeps power levels parsed, by the create and the power levels
// event that they come from.
type levelCache struct {
	parsed map[[2]*event.Event]*auth.PowerLevels
	bytes  int // of content parsed
}

func (c *levelCache) get(v *event.Version, create, powerLevels *event.Event) *auth.PowerLevels {
	from := [2]*event.Event{create, powerLevels}
	if l := c.parsed[from]; l != nil {
		return l
	}
	size := eventOverhead
	if powerLevels != nil {
		size += len(powerLevels.Content)
	}
	if c.parsed == nil {
		c.parsed = make(map[[2]*event.Event]*auth.PowerLevels)
	}
	if c.bytes+size > maxLevelBytes {
		clear(c.parsed)
		c.bytes = 0
	}
	l := auth.Levels(v, create, powerLevels)
	c.parsed[from] = &l
	c.bytes += size
	return &l
}
