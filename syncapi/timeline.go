package syncapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxScanned bounds how many events are looked at for one room's timeline, what
// is hidden or filtered out included.
const maxScanned = 2000

// timeline is what an answer shows of a room's events.
type timeline struct {
	events  []view.Seen        // oldest first
	limited bool               // events between the token and the first of these are left out
	before  view.Gap           // where older events begin
	from    storage.Position   // of the first of the events; 0 if there is none
	hidden  map[event.Key]bool // state that was changed, after the last of these events that did so, by one not shown
}

// plain returns the events, whoever sees them.
func (t timeline) plain() []*rooms.Event {
	plain := make([]*rooms.Event, len(t.events))
	for i, e := range t.events {
		plain[i] = e.Event
	}
	return plain
}

// timeline picks the newest events of a stretch, as many as the filter allows. It begins anew after a gap: what is missing
// there is filled in, when somebody reads back, where no later sync would come by.
func (b *builder) timeline(ctx context.Context, p stretch) (timeline, error) {
	t := timeline{before: view.At(p.span.UpTo), limited: p.again}
	filter := &b.req.filter.Room.Timeline
	if !filter.WantsRoom(p.Room) || p.last <= p.span.After && p.span.After >= p.glimpse.from {
		return t, nil
	}
	limit := filter.TimelineLimit()
	source := b.source(p)
	for scanned := 0; ; {
		chunk, more, err := source.next(ctx)
		if err != nil {
			return t, err
		}
		for _, e := range chunk {
			scanned++
			full := len(t.events) == limit || scanned > maxScanned
			if !full {
				full, err = b.keep(ctx, p, &t, e)
			}
			if err != nil {
				return t, err
			}
			if full || e.AfterGap {
				t.limited = true
				slices.Reverse(t.events)
				return t, nil
			}
		}
		if !more {
			slices.Reverse(t.events)
			return t, nil
		}
	}
}

// keep adds an event to a timeline that grows backwards, if it is wanted and
// visible. It refuses the event if the timeline cannot go on with it: it sets state
// that was changed later by an event that is not shown, and a client that applies
// the timeline would end with what was before.
func (b *builder) keep(ctx context.Context, p stretch, t *timeline, e *rooms.Event) (full bool, err error) {
	if !b.req.filter.Room.Timeline.WantsEvent(e.Event) || !e.IsState() && b.ignored[e.Sender] {
		t.hide(e)
		return false, nil
	}
	seen, visible, err := p.v.Look(ctx, e)
	switch {
	case err != nil:
		return false, err
	case !visible:
		t.hide(e)
		return false, nil
	case t.hidden != nil && e.IsState() && t.hidden[e.StateID()] && !b.req.stateAfter:
		return true, nil
	}
	t.events = append(t.events, seen)
	t.before, t.from = view.Before(e), e.Position
	return false, nil
}

// hide passes over an event.
func (t *timeline) hide(e *rooms.Event) {
	t.before = view.Before(e)
	if !e.IsState() || t.shows(e.StateID()) {
		return
	}
	if t.hidden == nil {
		t.hidden = map[event.Key]bool{}
	}
	t.hidden[e.StateID()] = true
}

// shows says whether one of the events sets the state of a key.
func (t *timeline) shows(key event.Key) bool {
	return slices.ContainsFunc(t.events, func(e view.Seen) bool { return e.IsState() && e.StateID() == key })
}

// has says whether an event is among the events.
func (t *timeline) has(num int64) bool {
	return slices.ContainsFunc(t.events, func(e view.Seen) bool { return e.Num == num })
}

// source hands out the events of a stretch, newest first, a chunk at a time: what
// is in memory, then what is in the database, which the memory learns on the way.
type source struct {
	api  *API
	room rooms.Room
	kept []*rooms.Event // in memory, not handed out yet
	rest storage.Span   // to be read from the database
	size int            // of a chunk that is read
}

func (b *builder) source(p stretch) source {
	s := source{
		api: b.api, room: p.v.Room, kept: p.eventsIn(p.span), rest: p.span,
		size: b.req.filter.Room.Timeline.TimelineLimit() + 1,
	}
	s.rest.UpTo = min(s.rest.UpTo, p.eventsFrom)
	return s
}

// next returns some more events, and says whether there may be others after them.
func (s *source) next(ctx context.Context) (chunk []*rooms.Event, more bool, err error) {
	if n := min(len(s.kept), s.size); n > 0 {
		chunk = slices.Clone(s.kept[len(s.kept)-n:])
		slices.Reverse(chunk)
		s.kept = s.kept[:len(s.kept)-n]
		return chunk, len(s.kept) > 0 || s.rest.UpTo > s.rest.After, nil
	}
	if s.rest.UpTo <= s.rest.After {
		return nil, false, nil
	}
	if chunk, err = rooms.Timeline(ctx, s.api.DB, s.room, s.rest, s.size); err != nil {
		return nil, false, err
	}
	read := passage{room: s.room.Num, events: chunk, span: s.rest, whole: len(chunk) < s.size}
	s.api.hub.learn(read)
	s.rest.UpTo = read.from()
	return chunk, s.rest.UpTo > s.rest.After, nil
}
