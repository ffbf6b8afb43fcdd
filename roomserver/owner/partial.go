package owner

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A room is partial while this server does not know all its members: a join to a large room is answered before they have
// come (docs/decisions/0033-partial-state.md). Its states have a hole, and reading an unknown member is
// statetree.ErrUnknown. Nobody takes that for "not there" but where this is the safe thing to do, and says so.

// partial is what an owner keeps of a partial room.
type partial struct {
	rooms.PartialJoin
	listed *listed
}

// listed are the numbers of events that are to be checked again, the latest first. A list goes on from another without
// changing it, as tips do.
type listed struct {
	num    int64
	before *listed
}

// inOrder returns the numbers in the order in which they were listed.
func (l *listed) inOrder() []int64 {
	var nums []int64
	for ; l != nil; l = l.before {
		nums = append(nums, l.num)
	}
	slices.Reverse(nums)
	return nums
}

// loadPartial reads what an owner keeps of a partial room; nil of another.
func (s *Owners) loadPartial(ctx context.Context, room rooms.Room) (*partial, error) {
	join, found, err := rooms.PartialOf(ctx, s.db, room.Num)
	if err != nil || !found {
		return nil, err
	}
	nums, err := rooms.PartialEvents(ctx, s.db, room.Num)
	if err != nil {
		return nil, err
	}
	p := &partial{PartialJoin: join}
	for _, num := range nums {
		p.listed = &listed{num, p.listed}
	}
	return p, nil
}

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

// citedIn returns the events of a state by which an event is judged. Where members are not known it takes its word: those
// of its auth events that stand in their place. They have been judged themselves, and so has the event by them, but that
// they are out of date nobody here can tell yet.
func (st *Step) citedIn(ctx context.Context, ev *event.Event, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, err := st.knownIn(ctx, tree, keys)
	if err != nil {
		return nil, err
	}
	cited, err := st.authEvents(ctx, ev)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if found[i] != nil || key.Type != event.TypeMember {
			continue
		}
		for _, a := range cited {
			if a.Kind != rooms.Rejected && a.IsState() && a.StateID() == key {
				found[i] = a
			}
		}
	}
	return found, nil
}

// unlessUnknown drops the error that a member is not known.
func unlessUnknown(err error) error {
	if errors.Is(err, statetree.ErrUnknown) {
		return nil
	}
	return err
}
