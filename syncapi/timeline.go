package syncapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxScanned bounds how many events are looked at for one room's timeline, what
// is hidden or filtered out included.
const maxScanned = 2000

// timeline is what an answer shows of a room's events.
type timeline struct {
	events  []view.Seen      // oldest first
	limited bool             // events between the token and the first of these are left out
	before  view.Gap         // where older events begin
	from    storage.Position // of the first event that was looked at and kept; 0 if none was
}

// timeline picks the newest events of a stretch, as many as the filter allows.
func (b *builder) timeline(ctx context.Context, p stretch) (timeline, error) {
	t := timeline{before: view.At(p.span.UpTo), limited: p.again}
	filter := &b.req.filter.Room.Timeline
	if !filter.WantsRoom(p.Room) || p.last != 0 && p.last <= p.span.After && p.span.After >= p.glimpse.from {
		return t, nil
	}
	limit := filter.TimelineLimit()
	source := b.source(p)
	for scanned := 0; ; {
		chunk, more, err := source(ctx)
		if err != nil {
			return t, err
		}
		for _, e := range chunk {
			if scanned++; len(t.events) == limit || scanned > maxScanned {
				t.limited = true
				slices.Reverse(t.events)
				return t, nil
			}
			if err := b.keep(ctx, p, &t, e); err != nil {
				return t, err
			}
		}
		if !more {
			slices.Reverse(t.events)
			return t, nil
		}
	}
}

// keep adds an event to a timeline that grows backwards, if it is wanted and visible.
func (b *builder) keep(ctx context.Context, p stretch, t *timeline, e *rooms.Event) error {
	t.before, t.from = view.Before(e), e.Position
	if !b.req.filter.Room.Timeline.WantsEvent(e.Event) || !e.IsState() && b.ignored[e.Sender] {
		return nil
	}
	seen, err := p.v.See(ctx, []*rooms.Event{e})
	if err == nil {
		t.events = append(t.events, seen...)
	}
	return err
}

// source returns a function that hands out the events of a stretch, newest first,
// a chunk at a time, and says whether there may be more: what is in memory, then
// what is in the database, which the memory learns on the way.
func (b *builder) source(p stretch) func(context.Context) (chunk []*rooms.Event, more bool, err error) {
	size := b.req.filter.Room.Timeline.TimelineLimit() + 1
	rest := p.span
	kept := p.eventsIn(p.span)
	return func(ctx context.Context) ([]*rooms.Event, bool, error) {
		if kept != nil {
			newest := slices.Clone(kept)
			slices.Reverse(newest)
			kept, rest.UpTo = nil, min(rest.UpTo, p.eventsFrom)
			return newest, rest.UpTo > rest.After, nil
		}
		chunk, err := rooms.Timeline(ctx, b.api.DB, p.v.Room, rest, size)
		if err != nil {
			return nil, false, err
		}
		read := passage{room: p.RoomNum, events: chunk, span: rest, whole: len(chunk) < size}
		b.api.hub.learn(read)
		rest.UpTo = read.from()
		return chunk, rest.UpTo > rest.After, nil
	}
}
