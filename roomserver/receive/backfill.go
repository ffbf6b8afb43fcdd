package receive

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of one backfill.
const (
	maxBackfill     = 200 // events
	maxBackfillGaps = event.MaxPrevEvents
)

// Backfill asks other servers for up to limit events that come before a place in the timeline of a room
// where history is missing, and stores them there. It returns how many the timeline has gained: if there are
// none, there is nothing to be had at that place now. They are no news and get no position. One of which the
// state before it cannot be had is kept, and shown to nobody.
// https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
func (s *Receiver) Backfill(ctx context.Context, id matrix.RoomID, before rooms.Order, limit int) (int, error) {
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return 0, err
	}
	// Of a partial room, each state of the past would be fetched with all its members.
	if err := s.owners.AwaitMembers(ctx, room); err != nil {
		if errors.Is(err, committed.ErrPartial) {
			err = nil
		}
		return 0, err
	}
	s.inbox.admit(id, nil)
	defer s.inbox.leave(id, nil)
	done, err := s.inbox.fetchAlone(ctx, id)
	if err != nil {
		return 0, err
	}
	defer done()
	gap, err := s.gapBefore(ctx, room, before)
	if err != nil || gap == nil {
		return 0, err
	}
	f := s.newFetch(room, gap.event.Sender.Server(), nil)
	if err := f.fetchHistory(ctx, gap.lacks, max(1, min(limit, maxBackfill))); err != nil || len(f.batch) == 0 {
		return 0, err
	}
	if err := s.storeFetched(ctx, f); err != nil {
		return 0, err
	}
	return s.storeHistory(ctx, f, gap.event.Order)
}

// A historyGap is a timeline event with prev events that are in no timeline.
type historyGap struct {
	event *rooms.Event
	lacks []matrix.EventID
}

func (s *Receiver) gapBefore(ctx context.Context, room rooms.Room, at rooms.Order) (*historyGap, error) {
	found, err := rooms.GapsNear(ctx, s.db, room.Num, at, maxBackfillGaps)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	events, err := s.owners.Events(ctx, room, []int64{found[0].Event})
	if err != nil {
		return nil, err
	}
	gap := &historyGap{event: events[0]}
	for _, g := range found {
		if g.Event == gap.event.Num {
			gap.lacks = append(gap.lacks, g.Lacks)
		}
	}
	return gap, nil
}

// fetchHistory asks one server after the other for events and what came before them, and then for the states
// at the oldest of these.
func (f *fetch) fetchHistory(ctx context.Context, from []matrix.EventID, limit int) error {
	for _, server := range f.servers(ctx) {
		if ctx.Err() != nil || !f.request() {
			return ctx.Err()
		}
		answer, err := f.receiver.remote.Backfill(ctx, server, History{Room: f.room, From: from, Limit: limit})
		if err != nil {
			continue
		}
		if err := f.takeHistory(ctx, from, answer, limit); err != nil {
			return err
		}
		if len(f.batch) > 0 {
			break
		}
	}
	if err := f.fetchOldestStates(ctx); err != nil {
		return err
	}
	return f.fetchAuthEvents(ctx)
}

// takeHistory takes from an answer the events that are wanted, and those that these follow.
func (f *fetch) takeHistory(ctx context.Context, from []matrix.EventID, answer []*event.Event, limit int) error {
	ids := slices.Clone(from)
	for _, ev := range answer[:min(len(answer), maxGapAnswers)] {
		ids = append(append(append(ids, ev.ID), ev.PrevEvents...), ev.AuthEvents...)
	}
	if err := f.Look(ctx, ids); err != nil {
		return err
	}
	wanted := f.leadingTo(from, answer, f.isInPlace)
	for _, ev := range wanted[:min(len(wanted), limit)] {
		f.add(ev)
	}
	return nil
}

// fetchOldestStates fetches the states before those events of which a prev event is not here.
func (f *fetch) fetchOldestStates(ctx context.Context) error {
	_, oldest := f.missingPrevs()
	for _, id := range oldest[:min(len(oldest), maxGapStates)] {
		if err := f.fetchStateAt(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// isInPlace says whether an event is where it belongs in the room.
func (f *fetch) isInPlace(id matrix.EventID) bool {
	had := f.Here(id)
	return f.inBatch[id] != nil || had != nil && had.Kind != rooms.Outlier
}

// storeHistory lets the owner store events in the stretch of history that a place is in, before all that is there already.
func (s *Receiver) storeHistory(ctx context.Context, f *fetch, at rooms.Order) (gained int, err error) {
	oldestFirst := event.InOrder(f.batch)
	err = s.owners.Do(ctx, f.room.ID, func(ctx context.Context, st *owner.Step) (err error) {
		st.Take(f.Hints)
		gained, err = st.AddHistory(ctx, oldestFirst, at)
		return err
	})
	return gained, err
}
