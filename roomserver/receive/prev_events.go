package receive

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of the search for missing prev events. What lies deeper is not fetched now: the state there is
// asked for, and the history is backfilled when somebody reads it.
const (
	maxGapEvents  = 400 // added to one delivery
	gapPage       = 20  // asked for at once; what others give at most
	fullAnswer    = 10  // who gives fewer has no more to give: so many are given if nobody says how many
	maxGapStates  = 10  // places at which the state is asked for
	maxGapAnswers = 1000
)

// fetchPrevEvents closes the gap between the events and what is here: with the events between, and where
// these cannot be had, with the states at its edge.
// https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
func (f *fetch) fetchPrevEvents(ctx context.Context) error {
	began := len(f.batch)
	for len(f.batch)-began < maxGapEvents {
		more, err := f.askBetween(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	missing, _ := f.missingPrevs()
	for _, id := range missing[:min(len(missing), maxGapStates)] {
		if err := f.fetchStateAt(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// missingPrevs returns the prev events that are not here with their states, and the events that follow them.
func (f *fetch) missingPrevs() (missing, latest []matrix.EventID) {
	seen := make(map[matrix.EventID]bool)
	for _, ev := range f.batch {
		if had := f.Here(ev.ID); had != nil && !had.StateUnknown {
			continue
		}
		lacks := false
		for _, id := range ev.PrevEvents {
			if f.isPlaced(id) {
				continue
			}
			if lacks = true; !seen[id] {
				missing = append(missing, id)
			}
			seen[id] = true
		}
		if lacks {
			latest = append(latest, ev.ID)
		}
	}
	return missing, latest
}

// isPlaced says whether the state after an event will be known when the owner comes to it.
func (f *fetch) isPlaced(id matrix.EventID) bool {
	told := slices.ContainsFunc(f.states, func(s *snapshot) bool { return s.at.ID == id })
	if told || f.IsLost(id) {
		return told
	}
	had := f.Here(id)
	return f.inBatch[id] != nil || had != nil && !had.StateUnknown
}

// askBetween asks for events between what is here and what came, of one server after the other until one
// has any. It says whether there is more to ask for.
func (f *fetch) askBetween(ctx context.Context) (more bool, err error) {
	missing, latest := f.missingPrevs()
	if len(missing) == 0 {
		return false, nil
	}
	gap := Gap{Room: f.room, Latest: latest[:min(len(latest), gapPage)], Limit: gapPage}
	if gap.Earliest, err = f.receiver.extremitiesOf(ctx, f.room); err != nil {
		return false, err
	}
	for _, server := range f.servers(ctx) {
		if f.spent[server] {
			continue
		}
		if ctx.Err() != nil || !f.request() {
			return false, nil
		}
		answer, err := f.receiver.remote.MissingEvents(ctx, server, gap)
		if err != nil {
			continue // another may know
		}
		f.broken[server] = f.broken[server] || answer.Broken > 0
		f.spent[server] = len(answer.Events)+answer.Broken < fullAnswer
		fresh := f.leadingTo(missing, answer.Events, func(id matrix.EventID) bool { return f.IsLost(id) || f.isPlaced(id) })
		for _, ev := range fresh {
			f.add(ev)
		}
		if len(fresh) > 0 {
			var ids []matrix.EventID
			for _, ev := range fresh {
				ids = append(append(ids, ev.PrevEvents...), ev.AuthEvents...)
			}
			return true, f.Look(ctx, ids)
		}
	}
	return false, nil
}

// leadingTo picks from an answer the events that are wanted, and the events that these follow, up to those
// that we have.
func (f *fetch) leadingTo(wanted []matrix.EventID, answer []*event.Event, have func(matrix.EventID) bool) (fresh []*event.Event) {
	byID := make(map[matrix.EventID]*event.Event)
	for _, ev := range answer[:min(len(answer), maxGapAnswers)] {
		if f.ours(ev) && byID[ev.ID] == nil {
			byID[ev.ID] = ev
		}
	}
	for todo := slices.Clone(wanted); len(todo) > 0 && len(byID) > 0; {
		id := todo[0]
		todo = todo[1:]
		ev := byID[id]
		if ev == nil || have(id) {
			continue
		}
		delete(byID, id)
		fresh = append(fresh, ev)
		todo = append(todo, ev.PrevEvents...)
	}
	return fresh
}

// extremitiesOf returns the committed forward extremities of a room.
func (s *Receiver) extremitiesOf(ctx context.Context, room rooms.Room) ([]matrix.EventID, error) {
	head, found, err := rooms.HeadOf(ctx, s.db, room.Num)
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the extremities of %s: %w", room.ID, err)
	case !found:
		return nil, committed.NotHere("this server is not in %s", room.ID)
	}
	events, err := s.owners.Events(ctx, room, head.Extremities[max(0, len(head.Extremities)-event.MaxPrevEvents):])
	if err != nil {
		return nil, err
	}
	ids := make([]matrix.EventID, len(events))
	for i, ev := range events {
		ids[i] = ev.ID
	}
	return ids, nil
}
