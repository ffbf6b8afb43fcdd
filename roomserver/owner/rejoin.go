package owner

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Rejoin takes up a room again that this server has been in. The events of its state are stored, as far as they can be.
func (a *Adoption) Rejoin(ctx context.Context) error {
	ids := make([]matrix.EventID, len(a.State))
	for i, ev := range a.State {
		ids[i] = ev.ID
	}
	state, err := a.owners.StatePart(ctx, a.room, ids)
	if err != nil {
		return err
	}
	back := &comeback{join: a.Join, state: state}
	if state.base == (statetree.Tree{}) {
		if back.members, err = a.owners.importAll(ctx, a.room, a.State); err != nil {
			return err
		}
	}
	return a.owners.Do(ctx, a.room.ID, back.resume)
}

// A comeback is a join to a room that this server has been in.
type comeback struct {
	join    *event.Event
	state   StatePart // before it
	members *census   // of the state, if it had to be imported; else nil
}

// census counts members.
type census struct{ joined, invited int64 }

func (c *census) add(m event.Membership) {
	switch m {
	case event.Join:
		c.joined++
	case event.Invite:
		c.invited++
	}
}

// importAll stores the members of a state, where most of those of the room never became known: it was partial when we left
// it. Those who were known are followed like in any room.
func (s *Owners) importAll(ctx context.Context, room rooms.Room, state []*event.Event) (*census, error) {
	ids := make([]matrix.EventID, len(state))
	for i, ev := range state {
		ids[i] = ev.ID
	}
	rows, err := s.StateRows(ctx, room, ids)
	if err != nil {
		return nil, err
	}
	var members []rooms.Membership
	count := new(census)
	for _, ev := range state {
		if row := rows[ev.ID]; row.Accepted && ev.Type == event.TypeMember {
			count.add(ev.Membership())
			members = append(members, rooms.Membership{
				RoomNum: room.Num, Room: room.ID, User: ev.Target(), Membership: ev.Membership(), EventNum: row.Num,
			})
		}
	}
	for some := range slices.Chunk(members, MaxRows) {
		if _, err := s.db.Commit(ctx, rooms.ImportMembers{Members: some, Late: true}); err != nil {
			return nil, fmt.Errorf("store the members of %s: %w", room.ID, err)
		}
	}
	return count, nil
}

// resume goes on with a join event from a state that the room has come to without us. If nobody of us was
// in it, what we stood on before is history.
func (c *comeback) resume(ctx context.Context, st *Step) error {
	in, err := st.begin(ctx, c.join)
	if err != nil || in.event == nil {
		return err
	}
	if err := st.findGaps(ctx, &in, true); err != nil {
		return err
	}
	if in.stored != nil && !in.stored.StateUnknown {
		in.before = st.place(in.stored).before // others follow it already, by the state that was told for them
	} else if in.before, err = st.set(ctx, c.state.base, c.state.changes...); err != nil {
		return err
	}
	present, err := rooms.JoinedOf(ctx, st.owners.db, st.room.Num, st.owners.name, 1)
	if err != nil {
		return fmt.Errorf("find the members of %s: %w", st.room.ID, err)
	}
	why := st.check(in)
	if why == nil {
		why, err = st.allowedIn(ctx, in.event, in.before)
	}
	if err != nil {
		return err
	}
	if why != nil {
		return matrix.Errorf(matrix.Forbidden, "the join to %s is not allowed by the state that came with it: %v", st.room.ID, why)
	}
	if len(present) == 0 && !in.late {
		st.tip.extremities = nil
		st.abandonPartial()
	}
	if _, err = st.store(ctx, in); err != nil || c.members == nil {
		return err
	}
	return c.recount(ctx, st, in)
}

// recount counts the members after the join anew.
func (c *comeback) recount(ctx context.Context, st *Step, in arrival) error {
	if err := st.resolveCurrent(ctx); err != nil {
		return err
	}
	before, err := st.stateEvents(ctx, in.before, []event.Key{c.join.StateID()})
	if err != nil {
		return err
	}
	st.tip.joined, st.tip.invited = c.members.joined, c.members.invited
	st.tip.count(membership(before[0]), event.Join)
	return nil
}
