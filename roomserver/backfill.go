package roomserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/matrix"
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
func (s *Server) Backfill(ctx context.Context, id matrix.RoomID, before rooms.Order, limit int) (int, error) {
	room, err := s.Room(ctx, id)
	if err != nil {
		return 0, err
	}
	// Of a partial room, each state of the past would be fetched with all its members.
	if err := s.AwaitMembers(ctx, room); err != nil {
		if errors.Is(err, errPartial) {
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

func (s *Server) gapBefore(ctx context.Context, room rooms.Room, at rooms.Order) (*historyGap, error) {
	found, err := rooms.GapsNear(ctx, s.db, room.Num, at, maxBackfillGaps)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	events, err := s.Events(ctx, room, []int64{found[0].Event})
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
		answer, err := f.server.remote.Backfill(ctx, server, History{Room: f.room, From: from, Limit: limit})
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
	if err := f.look(ctx, ids); err != nil {
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
	had := f.here(id)
	return f.inBatch[id] != nil || had != nil && had.Kind != rooms.Outlier
}

// storeHistory lets the owner store events in the stretch of history that a place is in, before all that is there already.
func (s *Server) storeHistory(ctx context.Context, f *fetch, at rooms.Order) (gained int, err error) {
	oldestFirst := slices.Concat(slices.Collect(f.chunks(maxStepEvents))...)
	err = s.do(ctx, f.room.ID, func(ctx context.Context, st *step) error {
		gained = 0
		lowest, err := st.lowestOf(ctx, at)
		if err != nil {
			return err
		}
		st.hints = f.hints
		for i, ev := range oldestFirst {
			order := rooms.Order{Anchor: at.Anchor, Sub: lowest - int64(len(oldestFirst)-i)}
			shown, err := st.addHistory(ctx, ev, order)
			if err != nil {
				return err
			}
			if shown {
				gained++
			}
		}
		return nil
	})
	return gained, err
}

// lowestOf is the smallest Sub in use in the stretch of history that a place is in, with what is not stored yet.
func (st *step) lowestOf(ctx context.Context, at rooms.Order) (int64, error) {
	lowest, err := rooms.LowestOf(ctx, st.server.db, st.room.Num, at)
	if err != nil {
		return 0, fmt.Errorf("find the order of history in %s: %w", st.room.ID, err)
	}
	for _, ev := range st.source.flights.all() {
		if ev.Kind == rooms.Backfilled && ev.Order.Anchor == at.Anchor && ev.Order.Stretch() == at.Stretch() {
			lowest = min(lowest, ev.Order.Sub)
		}
	}
	return min(lowest, at.Sub), nil
}

// addHistory takes an event of the past into the timeline. It is not held against the current state.
func (st *step) addHistory(ctx context.Context, ev *event.Event, order rooms.Order) (shown bool, err error) {
	in, err := st.begin(ctx, ev)
	if err != nil || in.event == nil {
		return false, ignoreLacking(err)
	}
	if in.kind == rooms.Live {
		in.kind, in.order = rooms.Backfilled, order
	}
	if err := st.placeHistory(ctx, &in); err != nil {
		return false, err
	}
	if err := st.findGaps(ctx, &in, true); err != nil {
		return false, err
	}
	if _, err = st.judge(ctx, &in); err != nil {
		return false, err
	}
	_, err = st.store(ctx, in)
	return err == nil && in.kind == rooms.Backfilled, err
}

// placeHistory finds the state before an event of the past, or that it is unknown.
func (st *step) placeHistory(ctx context.Context, in *arrival) error {
	if in.stored != nil && !in.stored.StateUnknown {
		in.before = st.place(in.stored).before
		return nil
	}
	prevs, err := st.prevEvents(ctx, in.event)
	if errors.Is(err, errLacking) {
		in.unknown = true
		return nil
	}
	if err == nil {
		in.before, err = st.stateAfterAll(ctx, prevs)
	}
	if errors.Is(err, stateres.ErrTooManyStates) {
		in.unknown, err = true, nil // from before there was a limit of prev events
	}
	return err
}
