package owner

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
)

// MaxLooks is how often the current state is resolved within one step only to judge an event by it, and how often it is with
// the branch of an event. Else who sends branches on which many events decide over each other, or many that the room has
// shut out, would make each of them cost as much as all together.
const MaxLooks = 4

// softFails judges an event that is allowed by the state before it by the current state. That is resolved for it only
// where what decides may have moved; after MaxLooks of this it is as old as what came before in the same step, of which
// the sender chose the order. An event that is not allowed by it may stand on a branch that we hear of with it, so it is
// judged again with that branch resolved into the current state, unless that was done for MaxLooks others.
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
	with, found, err := st.withBranch(ctx, before)
	if err != nil || !found {
		return why, err
	}
	return st.allowedIn(ctx, ev, with)
}

// withBranch is the current state with that of a branch resolved into it. Nothing is found of more than MaxLooks branches; one
// that is looked at again, before the room has moved, is not counted.
func (st *Step) withBranch(ctx context.Context, branch statetree.Tree) (with statetree.Tree, found bool, err error) {
	if with, found = st.merged[branch.Root()]; found || st.merges == MaxLooks {
		return with, found, nil
	}
	st.merges++
	if err := st.resolveCurrent(ctx); err != nil {
		return with, false, err
	}
	if with, _, err = st.resolve(ctx, append(st.tip.states(), branch)); err != nil {
		return with, false, err
	}
	if st.merged == nil {
		st.merged = make(map[statetree.NodeID]statetree.Tree, MaxLooks)
	}
	st.merged[branch.Root()] = with
	return with, true, nil
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
