package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// check holds an event against its own auth events: auth rule 2, and the rules by the state that they are.
func (st *Step) check(in arrival) error {
	ev := in.event
	if ev.TooLong {
		return &auth.Rejection{Rule: "format", Reason: "the type or the state key is too long"}
	}
	if ev.Type == event.TypeCreate && st.tip.create != nil && ev.ID != st.tip.create.ID {
		return &auth.Rejection{Rule: "1", Reason: fmt.Sprintf("the room was created by %s", st.tip.create.ID)}
	}
	rejected := make(map[*event.Event]bool)
	events := make([]*event.Event, len(in.auth))
	for i, a := range in.auth {
		events[i] = a.Event
		if a.Kind == rooms.Rejected {
			rejected[a.Event] = true
			if a.Num == 0 {
				return &auth.Rejection{Rule: "2.5", Reason: fmt.Sprintf("auth event %s is of another room", a.ID)}
			}
		}
	}
	if err := auth.CheckAuthEvents(ev, events, func(a *event.Event) bool { return rejected[a] }); err != nil {
		return err
	}
	return auth.CheckWith(ev, st.createdBy(authState{selected: in.auth, create: st.tip.create}), st.tip.levels)
}

// createdBy is an auth state whose create event is that of the room only where the version does not have it
// among the auth events.
func (st *Step) createdBy(known authState) auth.State {
	if !st.room.Version.CreateInAuthEvents {
		return known.state
	}
	known.create = nil
	for _, ev := range known.selected {
		if ev.IsState() && ev.StateID() == event.CreateKey {
			known.create = ev
		}
	}
	return known.state
}

// allowedIn judges an event by a state: an *auth.Rejection if it is not allowed. Where the state does not know a member,
// the membership counts that the event cites.
func (st *Step) allowedIn(ctx context.Context, ev *event.Event, in statetree.Tree) (why, err error) {
	if ev.Type == event.TypeCreate {
		return auth.Check(ev, nil), nil
	}
	known := authState{create: st.tip.create}
	keys := NeededBy(ev)
	found, err := st.lookupIn(ctx, in, keys)
	if errors.Is(err, statetree.ErrUnknown) {
		found, err = st.citedIn(ctx, ev, in, keys)
	}
	if err != nil {
		return nil, err
	}
	for _, each := range found {
		if each != nil {
			known.selected = append(known.selected, each)
		}
	}
	return auth.CheckWith(ev, st.createdBy(known), st.tip.levels), nil
}

// NeededBy is the state by which an event is judged.
func NeededBy(ev *event.Event) []event.Key {
	stateKey := ""
	if ev.IsState() {
		stateKey = *ev.StateKey
	}
	return auth.Needed(ev.Version, ev.Type, stateKey, ev.Sender, ev.Content)
}

// MaxLooks is how often the current state is resolved within one step only to judge an event by it, and how often in vain
// with the branches of the events of one server. Else who sends branches on which many events decide over each other, or
// many that the room has shut out, would make each of them cost as much as all together.
const MaxLooks = 4

// softFails judges an event that is allowed by the state before it by the current state. That is resolved for it only
// where what decides may have moved; after MaxLooks of this it is as old as what came before in the same step, of which
// the sender chose the order. An event that is not allowed by it may stand on a branch that we hear of with it, so it is
// judged again with that branch resolved into the current state.
// https://spec.matrix.org/v1.19/server-server-api/#soft-failure
func (st *Step) softFails(ctx context.Context, ev *event.Event, before statetree.Tree) (why, err error) {
	if st.branches.open && st.looks < MaxLooks && st.mayHaveMoved(ev) {
		st.looks++
		if err := st.resolveCurrent(ctx); err != nil {
			return nil, err
		}
	}
	if before.Root() == st.tip.state.Root() {
		return nil, nil // by which it has been judged
	}
	why, err = st.allowedIn(ctx, ev, st.tip.state)
	if why == nil || err != nil {
		return nil, err
	}
	return st.failsWithBranch(ctx, ev, before, why)
}

// failsWithBranch judges an event that is not allowed by the current state, which may be a little old, by what this becomes
// with the branch of the event. A server of which MaxLooks events were not allowed by that either is not believed any more:
// why stands. Those that are allowed are not counted, or who has been apart from us for long could not tell all that
// happened.
func (st *Step) failsWithBranch(ctx context.Context, ev *event.Event, branch statetree.Tree, why error) (still, err error) {
	with, known := st.merged[branch.Root()]
	server := ev.Sender.Server()
	if !known {
		if st.vain[server] == MaxLooks {
			return why, nil
		}
		if with, err = st.withBranch(ctx, branch); err != nil {
			return nil, err
		}
	}
	still, err = st.allowedIn(ctx, ev, with)
	if still != nil && !known {
		if st.vain == nil {
			st.vain = make(map[matrix.ServerName]int)
		}
		st.vain[server]++
	}
	return still, err
}

// withBranch is the current state with that of a branch resolved into it.
func (st *Step) withBranch(ctx context.Context, branch statetree.Tree) (statetree.Tree, error) {
	if err := st.resolveCurrent(ctx); err != nil {
		return branch, err
	}
	with, _, err := st.resolve(ctx, append(st.tip.states(), branch))
	if err != nil {
		return with, err
	}
	if st.merged == nil {
		st.merged = make(map[statetree.NodeID]statetree.Tree)
	}
	st.merged[branch.Root()] = with
	return with, nil
}

// mayHaveMoved says whether the current state may be another than it was, in what an event is judged by.
func (st *Step) mayHaveMoved(ev *event.Event) bool {
	for _, key := range NeededBy(ev) {
		if st.branches.moved[st.owners.cache.Hasher.Key(key)] {
			return true
		}
	}
	return false
}
