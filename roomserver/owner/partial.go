package owner

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A room is partial while this server does not know all its members: a join to a large room is answered before they have
// come (docs/decisions/0033-partial-state.md). Its states have a hole, and reading an unknown member is
// statetree.ErrUnknown. Nobody takes that for "not there" but where this is the safe thing to do, and says so.

// beginPartial makes the room partial from the join on that the step has taken.
func (st *Step) beginPartial(join rooms.PartialJoin) {
	st.begins = &join
	st.tip.partial = &partial{PartialJoin: join}
}

// enlist notes an event of a partial room, to be checked again. It returns its place in the order of them.
func (st *Step) enlist(num int64) int64 {
	p := *st.tip.partial
	p.listed = &listed{num, p.listed}
	st.tip.partial = &p
	return st.owners.db.NextNumber()
}

// mustLive refuses to go on with a room that was given up.
func (st *Step) mustLive() error {
	if st.tip.gone {
		return committed.NotHere("this server is not in %s", st.room.ID)
	}
	return nil
}

// unlessGone is an error of a task. Nobody waits for members of a room that was given up: this server is not in it.
func (st *Step) unlessGone(err error) error {
	if st.tip.gone && errors.Is(err, statetree.ErrUnknown) {
		return st.mustLive()
	}
	return err
}

// findHoles says whether some states of a room lack members for good, and whether nobody of this server has come back since.
func (s *Owners) findHoles(ctx context.Context, room rooms.Room) (some, gone bool, err error) {
	if some, err = rooms.HasHoles(ctx, s.db, room.Num); err != nil || !some {
		return false, false, err
	}
	present, err := rooms.JoinedOf(ctx, s.db, room.Num, s.name, 1)
	return true, len(present) == 0, err
}

// isGone says whether a room was given up, and nobody has come back.
func (s *Owners) isGone(ctx context.Context, room rooms.Room) (bool, error) {
	flights := s.flightsOf(room)
	flights.mu.Lock()
	t := flights.committed
	flights.mu.Unlock()
	if t != nil {
		return t.gone, nil
	}
	_, gone, err := s.findHoles(ctx, room)
	return gone, err
}

// isLost says whether the state after an event lacks members for good.
func (st *Step) isLost(ctx context.Context, ev *rooms.Event) (bool, error) {
	if !st.tip.holes || ev == nil || ev.StateUnknown {
		return false, nil
	}
	hole, err := st.owners.cache.Trees.HoleOf(ctx, st.place(ev).with)
	return hole != 0, err
}

// hasHoles says whether some states of a room lack members for good.
func (s *Owners) hasHoles(ctx context.Context, room rooms.Room) (bool, error) {
	flights := s.flightsOf(room)
	flights.mu.Lock()
	t := flights.committed
	flights.mu.Unlock()
	if t != nil {
		return t.holes, nil
	}
	return rooms.HasHoles(ctx, s.db, room.Num)
}
