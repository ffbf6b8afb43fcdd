package owner

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// moveCurrent follows a live event with the current state. A late one, which others already follow, does
// not move it.
func (st *Step) moveCurrent(ctx context.Context, added *rooms.NewEvent, now placed) error {
	if added.Late {
		return nil
	}
	if st.branches.open || now.before.Root() != st.tip.state.Root() || !st.tip.isCoveredBy(now.PrevEvents) {
		return st.branch(ctx, now)
	}
	if !now.IsState() {
		return nil
	}
	var before *rooms.Event
	if now.Type == event.TypeMember {
		var err error
		if _, before, err = st.Member(ctx, now.Target()); unlessUnknown(err) != nil {
			return err
		}
	}
	st.tip.state = now.with
	added.StateAfter, added.StateMoved = now.with.Root(), true
	return st.takeEffect(ctx, before, added.Event, &added.Members)
}

// branch notes that the current state no longer follows from one row of events.
func (st *Step) branch(ctx context.Context, now placed) error {
	b := &st.branches
	if !b.open {
		*b = branches{
			open: true, since: len(st.events),
			moved: make(map[statetree.Key]bool), roots: map[statetree.NodeID]bool{st.tip.state.Root(): true},
		}
		for _, old := range st.tip.extremities {
			if err := st.mayMove(ctx, old.with); err != nil {
				return err
			}
		}
	}
	if err := st.mayMove(ctx, now.before); err != nil {
		return err
	}
	if now.IsState() {
		b.moved[st.owners.cache.Hasher.Key(now.StateID())] = true
	}
	b.roots[now.with.Root()] = true
	return nil
}

// mayMove notes where a state differs from the current state. Only at such places can the current state be another
// when it is resolved with that one; but what stands at one of them may fall by what stands at another, and so may
// what is in conflict since long.
func (st *Step) mayMove(ctx context.Context, state statetree.Tree) error {
	b := &st.branches
	if b.roots[state.Root()] {
		return nil
	}
	b.roots[state.Root()] = true
	err := st.owners.cache.Trees.Diff(ctx, st.tip.state, state, func(key statetree.Key, _, _ statetree.Value) error {
		b.moved[key] = true
		return nil
	})
	if err != nil {
		err = fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	return err
}

// resolveCurrent makes the current state that of the forward extremities. What the live events of the step
// have made of it themselves is told with them, what resolution has made of it beyond that after them.
func (st *Step) resolveCurrent(ctx context.Context) error {
	if !st.branches.open {
		return nil
	}
	resolved, nodes, err := st.resolve(ctx, st.tip.states())
	if err != nil {
		return err
	}
	moves, err := st.movesTo(ctx, resolved)
	if err != nil {
		return err
	}
	if len(moves) > 0 {
		st.nodes = append(st.nodes, nodes...)
	}
	own := st.ownMoves(moves)
	covered := len(own) == len(moves)
	if err := st.moveByOwn(ctx, own, covered, resolved); err != nil {
		return err
	}
	if !covered {
		err = st.moveBeyond(ctx, resolved)
	}
	st.branches = branches{}
	return err
}

// moveByOwn moves the current state by those events of the step that have become part of it, one after the
// other. If that is all that has moved, the last takes it to the resolved state.
func (st *Step) moveByOwn(ctx context.Context, own []int, covered bool, resolved statetree.Tree) (err error) {
	for i := st.branches.since; i < len(st.events); i++ {
		added := &st.events[i]
		if len(own) > 0 && own[0] == i {
			own = own[1:]
			next := resolved
			if !covered || len(own) > 0 {
				if next, err = st.set(ctx, st.tip.state, st.change(added.Event)); err != nil {
					return err
				}
			}
			if err := st.moveBy(ctx, added, next); err != nil {
				return err
			}
		}
		added.StateAfter = st.tip.state.Root()
	}
	return nil
}

// movesTo says what resolution has changed: the number of the new event at each key, 0 for none.
func (st *Step) movesTo(ctx context.Context, resolved statetree.Tree) (map[statetree.Key]statetree.Value, error) {
	moves := make(map[statetree.Key]statetree.Value)
	err := st.owners.cache.Trees.Diff(ctx, st.tip.state, resolved, func(key statetree.Key, _, now statetree.Value) error {
		moves[key] = now
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	return moves, nil
}

// ownMoves returns the events of the step that are part of the resolved state and were not before.
func (st *Step) ownMoves(moves map[statetree.Key]statetree.Value) (own []int) {
	for i := st.branches.since; i < len(st.events); i++ {
		ev := st.events[i].Event
		if ev.Kind == rooms.Live && ev.IsState() && moves[st.owners.cache.Hasher.Key(ev.StateID())] == statetree.Value(ev.Num) {
			own = append(own, i)
		}
	}
	return own
}

// moveBy moves the current state by an event.
func (st *Step) moveBy(ctx context.Context, added *rooms.NewEvent, next statetree.Tree) error {
	before, err := st.knownIn(ctx, st.tip.state, []event.Key{added.StateID()})
	if err != nil {
		return err
	}
	st.tip.state = next
	added.StateMoved = true
	return st.takeEffect(ctx, before[0], added.Event, &added.Members)
}

// moveBeyond moves the current state by what resolution has come to, after the last live event.
func (st *Step) moveBeyond(ctx context.Context, resolved statetree.Tree) error {
	before := st.tip.state
	st.tip.state = resolved
	move := &rooms.Move{RoomNum: st.room.Num, Room: st.room.ID, Root: resolved.Root()}
	if err := st.takeEffects(ctx, before, resolved, &move.Members); err != nil {
		return err
	}
	for i := len(st.events) - 1; ; i-- { // there is one, or nothing would be open
		if st.events[i].Kind == rooms.Live {
			st.events[i].Then = move
			return nil
		}
	}
}

// takeEffects derives what follows from a move of the current state from one state to another.
func (st *Step) takeEffects(ctx context.Context, from, to statetree.Tree, members *[]rooms.Membership) (err error) {
	failed := st.eachChange(ctx, from, to, func(before, now *rooms.Event) {
		if err == nil {
			err = st.takeEffect(ctx, before, now, members)
		}
	})
	return cmp.Or(failed, err)
}

// eachChange yields what a state has in the place of what another has, nil for nothing, in an order of their numbers.
func (st *Step) eachChange(ctx context.Context, from, to statetree.Tree, yield func(before, now *rooms.Event)) error {
	type change struct{ before, now int64 }
	var changes []change
	err := st.owners.cache.Trees.Diff(ctx, from, to, func(_ statetree.Key, before, now statetree.Value) error {
		changes = append(changes, change{int64(before), int64(now)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.now, b.now), cmp.Compare(a.before, b.before)) })
	for _, c := range changes {
		found, err := st.eventsOf(ctx, []int64{c.before, c.now})
		if err != nil {
			return err
		}
		yield(found[0], found[1])
	}
	return nil
}

// takeEffect derives what follows from one change of the current state, in which now takes the place of
// before: nil for none. A membership that changes is added to members.
func (st *Step) takeEffect(ctx context.Context, before, now *rooms.Event, members *[]rooms.Membership) error {
	changed := now
	if now != nil {
		st.tip.keep(now)
	} else {
		changed = before
		st.tip.drop(before.StateID())
	}
	if directoryTypes[changed.Type] {
		st.relist = true
	}
	if changed.Type != event.TypeMember {
		return nil
	}
	was, is := membership(before), membership(now)
	st.tip.count(was, is)
	m := rooms.Membership{RoomNum: st.room.Num, Room: st.room.ID, User: changed.Target(), Membership: is, EventNum: changed.Num}
	switch is {
	case "":
		m.Membership = event.Leave // it is gone with its event
	case event.Invite, event.Knock:
		var err error
		if m.Stripped, err = st.strippedState(ctx, now); err != nil {
			return err
		}
	}
	*members = append(*members, m)
	return nil
}

func membership(ev *rooms.Event) event.Membership {
	if ev == nil {
		return ""
	}
	return ev.Membership()
}

// moveExtremities follows a live event with the forward extremities.
func (st *Step) moveExtremities(ctx context.Context, now placed, added *rooms.NewEvent) error {
	switch {
	case now.Kind != rooms.Live:
		return nil
	case added.Late:
		clear(st.merged)
		return st.dropFollowed(ctx, now)
	}
	clear(st.merged)
	st.tip.replaceExtremities(now)
	return nil
}

// dropFollowed takes away those of the forward extremities that a late event follows: they came before it, when
// nothing led to them from what others already follow. The current state is then resolved without them.
func (st *Step) dropFollowed(ctx context.Context, late placed) error {
	before := st.tip.extremities
	kept := slices.DeleteFunc(slices.Clone(before), func(old placed) bool { return slices.Contains(late.PrevEvents, old.ID) })
	if len(kept) == len(before) || len(kept) == 0 {
		return nil
	}
	for _, old := range before {
		if err := st.branch(ctx, old); err != nil {
			return err
		}
	}
	st.tip.extremities, st.tip.depth = kept, 0
	for _, old := range kept {
		st.tip.depth = max(st.tip.depth, old.Depth)
	}
	return nil
}

// settleAsides goes by the room's own word on users of whom something was set aside that has found its place in the room
// by now. A knock, say, that a resident server has taken may have met with a ban.
func (st *Step) settleAsides(ctx context.Context) error {
	for _, ev := range st.settled {
		m, _, err := rooms.MembershipOf(ctx, st.owners.db, st.room.Num, ev.Target())
		if err != nil {
			return fmt.Errorf("find the membership of %s in %s: %w", ev.Target(), st.room.ID, err)
		}
		is, now, err := st.Member(ctx, ev.Target())
		if unlessUnknown(err) != nil {
			return err
		}
		if err != nil || m.EventNum != ev.Num || now != nil && now.Num == ev.Num {
			continue // it is not known yet, or the other way round: what was set aside is out of date, or it is what the room says
		}
		m.Membership, m.Stripped, m.Forgotten = is, nil, false
		if now == nil {
			m.Membership = event.Leave // it is gone with its event
		} else if m.EventNum = now.Num; is == event.Invite || is == event.Knock {
			if m.Stripped, err = st.strippedState(ctx, now); err != nil {
				return err
			}
		}
		st.asides = append(st.asides, m)
	}
	return nil
}
