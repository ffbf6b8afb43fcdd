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
	back := &comeback{room: a.room, join: a.Join, state: state}
	if state.base == (statetree.Tree{}) {
		if err = back.importAll(ctx, a.owners, a.State); err != nil {
			return err
		}
	}
	return a.owners.Do(ctx, a.room.ID, back.resume)
}

// A comeback is a join to a room that this server has been in.
type comeback struct {
	room    rooms.Room
	join    *event.Event
	state   StatePart        // before it
	members *census          // of the state, if it had to be imported; else nil
	ours    []rooms.StateRow // then those of them who are users of this server,
	known   []matrix.UserID  // and who was known before
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
// it. Those who were known are followed like in any room, and users of this server, who are told, with the join.
func (c *comeback) importAll(ctx context.Context, s *Owners, state []*event.Event) error {
	ids := make([]matrix.EventID, len(state))
	for i, ev := range state {
		ids[i] = ev.ID
	}
	rows, err := s.StateRows(ctx, c.room, ids)
	if err != nil {
		return err
	}
	before, err := rooms.MembersOf(ctx, s.db, c.room.Num)
	if err != nil {
		return fmt.Errorf("find who is known in %s: %w", c.room.ID, err)
	}
	for _, m := range before {
		c.known = append(c.known, m.User)
	}
	var members []rooms.Membership
	now := s.db.Position() // who is not in the room when it is whole is found by it
	c.members = new(census)
	for _, ev := range state {
		row := rows[ev.ID]
		if !row.Accepted || ev.Type != event.TypeMember {
			continue
		}
		c.members.add(ev.Membership())
		if s.IsLocal(ev.Target()) {
			c.ours = append(c.ours, row)
			continue
		}
		members = append(members, rooms.Membership{
			RoomNum: c.room.Num, Room: c.room.ID, User: ev.Target(), Membership: ev.Membership(), EventNum: row.Num, Position: now,
		})
	}
	for some := range slices.Chunk(members, MaxRows) {
		if _, err := s.db.Commit(ctx, rooms.ImportMembers{Members: some, Late: true}); err != nil {
			return fmt.Errorf("store the members of %s: %w", c.room.ID, err)
		}
	}
	return nil
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
	if len(present) == 0 && c.members != nil {
		return c.beginAnew(ctx, st, in)
	}
	if len(present) == 0 && !in.late {
		st.tip.extremities, st.tip.gone = nil, false
	}
	if _, err = st.store(ctx, in); err != nil || c.members == nil {
		return err
	}
	return c.recount(ctx, st, in)
}

// beginAnew goes on with the join from the state before it alone, in a room that was left before its members were known.
// Nothing goes on from what there is of that, also if it follows the join.
func (c *comeback) beginAnew(ctx context.Context, st *Step, in arrival) error {
	st.abandonPartial()
	move := &rooms.Move{RoomNum: c.room.Num, Room: c.room.ID}
	if err := st.takeEffects(ctx, st.tip.state, in.before, &move.Members); err != nil {
		return err
	}
	if err := st.standOn(ctx, in.before); err != nil {
		return err
	}
	if err := c.takeOurs(ctx, st, move); err != nil {
		return err
	}
	if err := st.tellMoved(ctx, c.known, move); err != nil {
		return err
	}
	move.Members = slices.DeleteFunc(move.Members, func(m rooms.Membership) bool { return m.User == c.join.Target() }) // the join tells
	st.tip.extremities, st.tip.gone, in.late = nil, false, false
	if _, err := st.store(ctx, in); err != nil {
		return err
	}
	if len(move.Members) > 0 {
		move.Root = st.tip.state.Root()
		st.events[len(st.events)-1].Then = move
	}
	return c.recount(ctx, st, in)
}

// takeOurs adds to a move those users of this server of whom the state says what is not known here: they came, and the
// answer to that was lost, say.
func (c *comeback) takeOurs(ctx context.Context, st *Step, move *rooms.Move) error {
	for _, row := range c.ours {
		user := matrix.UserID(row.Key.StateKey)
		m, _, err := rooms.MembershipOf(ctx, st.owners.db, c.room.Num, user)
		if err != nil {
			return fmt.Errorf("find the membership of %s in %s: %w", user, c.room.ID, err)
		}
		isTold := slices.ContainsFunc(move.Members, func(m rooms.Membership) bool { return m.User == user })
		if isTold || m.EventNum == row.Num || user == c.join.Target() {
			continue
		}
		now, err := st.eventsOf(ctx, []int64{row.Num})
		if err != nil {
			return err
		}
		if err := st.takeEffect(ctx, nil, now[0], &move.Members); err != nil {
			return err
		}
	}
	return nil
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
