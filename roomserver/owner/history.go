package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// AddHistory takes events of the past, each behind what it stands on, into the stretch of history that a place is in, before
// all that is there already. It returns how many the timeline has gained.
func (st *Step) AddHistory(ctx context.Context, events []*event.Event, at rooms.Order) (gained int, err error) {
	lowest, err := st.lowestOf(ctx, at)
	if err != nil {
		return 0, err
	}
	for i, ev := range events {
		order := rooms.Order{Anchor: at.Anchor, Sub: lowest - int64(len(events)-i)}
		shown, err := st.addHistory(ctx, ev, order)
		if err != nil {
			return 0, err
		}
		if shown {
			gained++
		}
	}
	return gained, nil
}

// lowestOf is the smallest Sub in use in the stretch of history that a place is in, with what is not stored yet.
func (st *Step) lowestOf(ctx context.Context, at rooms.Order) (int64, error) {
	lowest, err := rooms.LowestOf(ctx, st.owners.db, st.room.Num, at)
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
func (st *Step) addHistory(ctx context.Context, ev *event.Event, order rooms.Order) (shown bool, err error) {
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
func (st *Step) placeHistory(ctx context.Context, in *arrival) error {
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
