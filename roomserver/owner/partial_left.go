package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/storage/rooms"
)

// A partial room that this server has left is given up: nobody fetches its members any more. What was accepted in it is
// never checked again, so that nothing may stand on it. Who comes back into the room brings all of its state; and whatever
// follows an event of the time before has the state after that told by other servers, as if that event were not here.

// ErrMovesStill says that more of a room is on its way to the database, by which a user of this server may be in it again.
var ErrMovesStill = errors.New("owner: the room is given up when nothing is on its way")

// GiveUp ends the partial time of a room that this server is no longer in. The members of that time stay unknown, and so
// does whether what was accepted in it stands: it takes no more events before somebody joins it with all members.
func (s *Owners) GiveUp(ctx context.Context, room rooms.Room) error {
	return s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
		if !st.source.flights.idle() {
			return ErrMovesStill
		}
		present, err := rooms.JoinedOf(ctx, s.db, room.Num, s.name, 1)
		if err != nil || len(present) > 0 {
			return err
		}
		st.abandonPartial()
		st.tip.gone = true
		return nil
	})
}

// abandonPartial ends the partial time of a room without its members.
func (st *Step) abandonPartial() {
	if p := st.tip.partial; p != nil {
		st.whole = &rooms.EndOfPartial{Hole: p.Hole, At: st.owners.db.Position()}
		st.tip.partial, st.tip.holes = nil, true
	}
}

// regain gives an event the state before it that other servers have told, in the place of one that is lost. It is no more
// than it was: one that was not shown is not news, and is not shown.
func (st *Step) regain(ctx context.Context, ev *rooms.Event, state StatePart) (err error) {
	in := arrival{event: ev.Event, stored: ev, kind: ev.Kind}
	if in.before, err = st.set(ctx, state.base, state.changes...); err != nil {
		return err
	}
	if in.auth, err = st.authEvents(ctx, ev.Event); err != nil {
		return ignoreLacking(err)
	}
	why := st.check(in)
	if why == nil {
		why, err = st.allowedIn(ctx, ev.Event, in.before)
	}
	switch {
	case err != nil:
		return err
	case why != nil:
		in.kind = rooms.Rejected
	case in.kind == rooms.Rejected:
		in.kind = rooms.SoftFailed
	}
	st.uncommittedByID()
	if st.graph != nil {
		st.graph.forget() // who authorises whom may be another
	}
	hole, err := st.owners.cache.Trees.HoleOf(ctx, st.place(ev).with)
	if err != nil {
		return fmt.Errorf("look which members of %s are lost: %w", st.room.ID, err)
	}
	now, err := st.storeAgain(ctx, ev, in)
	if err != nil {
		return err
	}
	st.tip.extremities = slices.Clone(st.tip.extremities)
	for i, tip := range st.tip.extremities {
		if tip.Num == now.Num {
			st.tip.extremities[i] = now
		}
	}
	st.doubt = &rooms.Doubt{RoomNum: st.room.Num, First: int64(hole)}
	return nil
}
