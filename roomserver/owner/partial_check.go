package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// MakeWhole makes a partial room of which the members have become known a room like others. What was accepted, or not,
// while they were unknown is checked again.
func (s *Owners) MakeWhole(ctx context.Context, room rooms.Room) error {
	join, _, err := rooms.PartialOf(ctx, s.db, room.Num)
	if err != nil {
		return fmt.Errorf("find the join of %s: %w", room.ID, err)
	}
	nums, err := rooms.PartialEvents(ctx, s.db, room.Num)
	if err != nil {
		return fmt.Errorf("find the events of %s to check again: %w", room.ID, err)
	}
	if _, err := s.Events(ctx, room, nums); err != nil { // for the owner to find them in memory
		return err
	}
	return s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error { return st.makeWhole(ctx, join) })
}

// makeWhole goes through the room once more from the join on, as if the events came only now, and then tells how the
// current state differs from what it was. The join is as it is stored now, with its members: the owner has it as it was when
// the room was loaded.
func (st *Step) makeWhole(ctx context.Context, join rooms.PartialJoin) error {
	was := st.tip
	if was.partial == nil || was.partial.Hole != join.Hole {
		return nil
	}
	p := &partial{PartialJoin: join, listed: was.partial.listed}
	was.partial = p
	events, err := st.eventsOf(ctx, append([]int64{p.Join}, p.listed.inOrder()...))
	if err != nil {
		return err
	}
	st.uncommittedByID()
	begin := st.place(events[0])
	st.tip.partial, st.tip.extremities, st.tip.depth = nil, []placed{begin}, begin.Depth
	st.followed, st.turned = make(map[matrix.EventID]bool), make(turned)
	st.follow(begin)
	if err := st.standOn(ctx, begin.with); err != nil {
		return err
	}
	for _, ev := range byGraph(events[1:]) {
		if err := st.checkAgain(ctx, ev); err != nil {
			return fmt.Errorf("check %s again: %w", ev.ID, err)
		}
	}
	whole, nodes, err := st.owners.cache.Trees.Whole(ctx, st.tip.state)
	if err != nil {
		return fmt.Errorf("make the state of %s whole: %w", st.room.ID, err)
	}
	st.nodes = append(st.nodes, nodes...)
	if err := st.standOn(ctx, whole); err != nil {
		return err
	}
	if len(st.events) > 0 && st.graph != nil {
		st.graph.forget()
	}
	for i := range st.events {
		st.events[i].StateAfter = was.state.Root() // until all is told at once
	}
	if err := st.tellWhole(ctx, was); err != nil || !st.turned.any(begin.PrevEvents) {
		return err
	}
	st.whole.Lacks, err = st.lacking(ctx, begin.Event.Event) // an event came late between it and what it lacks
	return err
}

// byGraph returns events, none before one that it follows or that authorises it.
func byGraph(events []*rooms.Event) []*rooms.Event {
	plain := make([]*event.Event, len(events))
	full := make(map[*event.Event]*rooms.Event, len(events))
	for i, ev := range events {
		plain[i], full[ev.Event] = ev.Event, ev
	}
	for i, ev := range event.InOrder(plain) {
		events[i] = full[ev]
	}
	return events
}

// standOn makes a state the current one, without telling anybody.
func (st *Step) standOn(ctx context.Context, tree statetree.Tree) error {
	kept, err := st.knownIn(ctx, tree, keptKeys)
	if err != nil {
		return err
	}
	st.tip.state = tree
	st.tip.keepAll(st.room.Version, kept)
	return nil
}

// checkAgain takes an event through the stations once more. One that stays what it was is not stored again.
func (st *Step) checkAgain(ctx context.Context, ev *rooms.Event) error {
	had := st.place(ev)
	in, why, err := st.judgeAgain(ctx, ev)
	if errors.Is(err, errLacking) {
		return st.advance(ctx, had, had.before) // it stands on a state that was told for it
	}
	if err != nil {
		return err
	}
	same, err := st.owners.cache.Trees.Equal(ctx, in.before, had.before)
	if err != nil {
		return fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	redacts, err := st.hasWaited(ctx, ev)
	if err != nil {
		return err
	}
	if st.turned.any(ev.PrevEvents) || in.kind != ev.Kind && in.kind != rooms.Live {
		if in.lacks, err = st.lacking(ctx, ev.Event); err != nil {
			return err
		}
	}
	if same && in.kind == ev.Kind && !redacts && len(in.lacks) == 0 {
		return st.advance(ctx, had, in.before)
	}
	if in.kind != ev.Kind {
		st.owners.log.InfoContext(ctx, "event judged anew", "room", st.room.ID, "event", ev.ID, "was", ev.Kind, "is", in.kind, "why", why)
	}
	now, err := st.storeAgain(ctx, ev, in)
	if err != nil {
		return err
	}
	if isHidden(now.Event) && len(now.lacks) > 0 {
		st.turned[ev.ID] = true
	}
	return st.advance(ctx, now, in.before)
}

// turned are the events that have gone out of the timeline, or have been out of it and follow such: what is missing before
// them is missing before those that follow them from now on.
type turned map[matrix.EventID]bool

func (t turned) any(ids []matrix.EventID) bool {
	return len(t) > 0 && slices.ContainsFunc(ids, func(id matrix.EventID) bool { return t[id] })
}

// judgeAgain finds the state before an event and what the event is by it.
func (st *Step) judgeAgain(ctx context.Context, ev *rooms.Event) (in arrival, why, err error) {
	in = arrival{event: ev.Event, stored: ev, kind: rooms.Live}
	prevs, err := st.prevEvents(ctx, ev.Event)
	if err != nil {
		return in, nil, err
	}
	if in.before, err = st.stateAfterAll(ctx, prevs); err != nil {
		return in, nil, err
	}
	if in.auth, err = st.authEvents(ctx, ev.Event); err != nil {
		return in, nil, err
	}
	if why = st.check(in); why == nil {
		why, err = st.allowedIn(ctx, ev.Event, in.before)
	}
	var rejection *auth.Rejection
	switch {
	case err != nil:
		return in, nil, err
	case errors.As(why, &rejection):
		in.kind = rooms.Rejected
	case !st.owners.IsLocal(ev.Sender):
		if why, err = st.softFails(ctx, ev.Event, in.before); why == nil && err == nil {
			why, err = st.stillUnwanted(ctx, ev)
		}
		if why != nil {
			in.kind = rooms.SoftFailed
		}
	}
	return in, why, err
}

// storeAgain stores what an event has become. One that was not shown and now is, is news.
func (st *Step) storeAgain(ctx context.Context, ev *rooms.Event, in arrival) (placed, error) {
	if in.kind == rooms.Live && ev.Kind != rooms.Live {
		if err := st.findGaps(ctx, &in, true); err != nil {
			return placed{}, err
		}
	}
	added := st.newEvent(in)
	added.Again = in.kind != rooms.Live || ev.Kind == rooms.Live
	added.Relayed = ev.Relayed
	if in.kind == rooms.Live {
		added.Position, added.Order = ev.Position, ev.Order
	}
	with, err := st.stateWith(ctx, &added, in)
	if err != nil {
		return placed{}, err
	}
	added.StateBefore, added.StateWith = in.before.Root(), with.Root()
	if err := st.redact(ctx, &added, in); err != nil {
		return placed{}, err
	}
	now := placed{Event: added.Event, before: in.before, with: with, accepted: added.Accepted, auth: added.Auth, lacks: in.lacks, late: in.late}
	st.fresh[added.Num], st.byID[added.ID] = now, added.Event
	st.events = append(st.events, added)
	return now, nil
}

// advance follows a live event with the forward extremities and the current state. Before is the state before it as it is
// known under its present name.
func (st *Step) advance(ctx context.Context, now placed, before statetree.Tree) error {
	if now.Kind != rooms.Live {
		return nil
	}
	st.follow(now)
	if st.followed[now.ID] {
		return st.passBy(ctx, now)
	}
	inRow := before.Root() == st.tip.state.Root() && st.tip.isCoveredBy(now.PrevEvents)
	st.tip.replaceExtremities(now)
	if inRow && !now.IsState() {
		return nil
	}
	next := now.with
	if !inRow {
		resolved, nodes, err := st.resolve(ctx, st.tip.states())
		if err != nil {
			return err
		}
		next = resolved
		st.nodes = append(st.nodes, nodes...)
	}
	return st.standOn(ctx, next)
}

// follow notes what an event of the timeline follows.
func (st *Step) follow(ev placed) {
	for _, id := range ev.PrevEvents {
		st.followed[id] = true
	}
}

// passBy takes away those of the forward extremities that a late event follows. One that the join follows itself, say, came
// after it.
func (st *Step) passBy(ctx context.Context, late placed) error {
	if err := st.dropFollowed(ctx, late); err != nil || !st.branches.open {
		return err
	}
	st.branches = branches{}
	resolved, nodes, err := st.resolve(ctx, st.tip.states())
	if err != nil {
		return err
	}
	st.nodes = append(st.nodes, nodes...)
	return st.standOn(ctx, resolved)
}

// tellWhole ends the partial time with how the current state differs from the one before.
func (st *Step) tellWhole(ctx context.Context, was tip) error {
	p := was.partial
	move := &rooms.Move{RoomNum: st.room.Num, Room: st.room.ID, Root: st.tip.state.Root(), Again: true}
	if err := st.takeEffects(ctx, was.state, st.tip.state, &move.Members); err != nil {
		return err
	}
	var moved []matrix.UserID
	st.tip.joined, st.tip.invited = p.Joined, p.Invited
	err := st.eachChange(ctx, statetree.At(p.Members), st.tip.state, func(before, now *rooms.Event) {
		if now != nil && now.Type == event.TypeMember || now == nil && before.Type == event.TypeMember {
			st.tip.count(membership(before), membership(now))
			moved = append(moved, cmp.Or(now, before).Target())
		}
	})
	if err != nil {
		return err
	}
	since, err := rooms.UsersMoved(ctx, st.owners.db, st.room.Num)
	if err != nil {
		return fmt.Errorf("find who moved in %s: %w", st.room.ID, err)
	}
	if err := st.tellMoved(ctx, append(moved, since...), move); err != nil {
		return err
	}
	st.whole = &rooms.EndOfPartial{Hole: p.Hole, Move: move, Join: p.Join}
	return st.tellOurs(ctx, move)
}

// tellMoved adds to a move those of some users of whom the table of members has something else than the state. When a room
// becomes whole, they are all who moved since the join, by either: while members were unknown, a state of which one was
// unknown came after one of which they were not, and the other way round, and by that nobody moved.
func (st *Step) tellMoved(ctx context.Context, moved []matrix.UserID, move *rooms.Move) error {
	slices.Sort(moved)
	joined, invited := st.tip.joined, st.tip.invited
	for _, user := range slices.Compact(moved) {
		if slices.ContainsFunc(move.Members, func(m rooms.Membership) bool { return m.User == user }) {
			continue
		}
		m, found, err := rooms.MembershipOf(ctx, st.owners.db, st.room.Num, user)
		if err != nil {
			return fmt.Errorf("find the membership of %s in %s: %w", user, st.room.ID, err)
		}
		is, now, err := st.Member(ctx, user)
		if err != nil {
			return err
		}
		if now == nil && (!found || m.Membership == event.Leave) || now != nil && now.Num == m.EventNum && is == m.Membership {
			continue
		}
		before, err := st.eventsOf(ctx, []int64{m.EventNum})
		if err != nil {
			return err
		}
		if now == nil && before[0].Kind == rooms.Aside {
			continue // of which the room knows nothing
		}
		if err := st.takeEffect(ctx, before[0], now, &move.Members); err != nil {
			return err
		}
	}
	st.tip.joined, st.tip.invited = joined, invited // which have been counted
	return nil
}

// tellOurs adds to a move the users of this server of whom it turns out that they are in the room: the answer to their own
// joins was lost.
func (st *Step) tellOurs(ctx context.Context, move *rooms.Move) error {
	ours, err := rooms.JoinedOf(ctx, st.owners.db, st.room.Num, st.owners.name, maxOurs)
	if err != nil {
		return fmt.Errorf("find the members of %s: %w", st.room.ID, err)
	}
	for _, user := range ours {
		m, _, err := rooms.MembershipOf(ctx, st.owners.db, st.room.Num, user)
		if err != nil {
			return fmt.Errorf("find the membership of %s in %s: %w", user, st.room.ID, err)
		}
		isMoved := slices.ContainsFunc(move.Members, func(m rooms.Membership) bool { return m.User == user })
		if m.Position == 0 && !isMoved {
			move.Members = append(move.Members, m)
		}
	}
	return nil
}

// maxOurs bounds the users of this server of whom that is found out. The first of them has joined only a little before.
const maxOurs = 1000
