package stateres

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
)

const (
	// largeContent is the length from which content is kept within a bound
	// only. What else is kept of an event, some 400 bytes, is a few times what
	// the graph and the sorting take for it.
	largeContent = 512
	// maxLargeBytes bounds the large contents that a merge keeps. Beyond it they
	// are read again when they are needed again.
	maxLargeBytes = 32 << 20
	// maxLevelBytes bounds the content of the power levels that are kept
	// parsed, which then take some times as much.
	maxLevelBytes = 4 << 20
)

// held are the events that a merge has loaded, by their essence. That nearly
// all are read once, however many there are, is what keeps a merge linear.
type held struct {
	room   Room
	events table[statetree.Value, *event.Event] // nil: is to be read again
	spare  []event.Event                        // not used yet
	text   []byte                               // contents, and room for more
	last   *event.Event                         // placed, whose texts the next may share
	large  []int                                // numbers in events of those with large content
	bytes  int                                  // of that

	missing []statetree.Value // of get, and where they belong
	at      []int
}

func newHeld(room Room) held {
	return held{room: room, events: newTable[statetree.Value, *event.Event](0)}
}

// get returns events in the order of their numbers, at most MaxLoad; nil for
// the number 0. It writes them to buf if they fit.
func (h *held) get(ctx context.Context, nums []statetree.Value, buf []*event.Event) ([]*event.Event, error) {
	got := slices.Grow(buf[:0], len(nums))[:len(nums)]
	missing, at := h.missing[:0], h.at[:0]
	for i, num := range nums {
		got[i] = nil
		if num == 0 {
			continue
		}
		if got[i] = h.find(num); got[i] != nil {
			continue
		}
		missing = append(missing, num)
		at = append(at, i)
	}
	h.missing, h.at = missing, at
	if len(missing) == 0 {
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
		got[at[i]] = h.keep(num, loaded[i])
	}
	return got, nil
}

// load reads, with one call, those events that get would otherwise read one by
// one. It changes nums.
func (h *held) load(ctx context.Context, nums []statetree.Value) error {
	wanted := slices.DeleteFunc(nums, h.has)
	slices.Sort(wanted)
	_, err := h.get(ctx, slices.Compact(wanted), nil)
	return err
}

// has says whether get would not read an event; so it is with the number 0.
func (h *held) has(num statetree.Value) bool {
	return num == 0 || h.find(num) != nil
}

func (h *held) find(num statetree.Value) *event.Event {
	if id, ok := h.events.find(num); ok {
		return *h.events.value(id)
	}
	return nil
}

// keep keeps the essence of an event, and returns it.
func (h *held) keep(num statetree.Value, ev *event.Event) *event.Event {
	id, _ := h.events.add(num)
	if len(ev.Content) < largeContent {
		small := h.place(ev)
		*h.events.value(id) = small
		return small
	}
	e := auth.Essence(ev)
	e.Content = bytes.Clone(e.Content)
	if h.bytes += len(e.Content); h.bytes > maxLargeBytes {
		for _, id := range h.large {
			*h.events.value(id) = nil
		}
		h.large, h.bytes = h.large[:0], len(e.Content)
	}
	h.large = append(h.large, id)
	*h.events.value(id) = &e
	return &e
}

// place stores an event among others, so that what is looked at together lies
// together.
func (h *held) place(ev *event.Event) *event.Event {
	const few, many = 4, 64
	if len(h.spare) == 0 {
		h.spare = make([]event.Event, min(max(few, len(h.events.items)/2), many))
	}
	e := &h.spare[0]
	h.spare = h.spare[1:]
	*e = auth.Essence(ev)
	e.RoomID = h.room.ID // the same text, once for all
	if h.last != nil && h.last.Type == e.Type {
		e.Type = h.last.Type
	}
	if h.last != nil && h.last.Sender == e.Sender {
		e.Sender = h.last.Sender
	}
	h.last = e
	if len(h.text)+len(e.Content) > cap(h.text) {
		h.text = make([]byte, 0, (1+len(h.spare))*largeContent/8)
	}
	from := len(h.text)
	h.text = append(h.text, e.Content...)
	e.Content = h.text[from:len(h.text):len(h.text)]
	return e
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
	const overhead = 512
	size := overhead
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
