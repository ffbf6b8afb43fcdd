package owner

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// stateAfterAll is the state before an event that follows some events: their states resolved.
// https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution
func (st *Step) stateAfterAll(ctx context.Context, prevs []placed) (statetree.Tree, error) {
	if len(prevs) == 0 {
		return statetree.Tree{}, nil
	}
	if st.tip.are(prevs) {
		if len(prevs) > 1 {
			// It will be wanted as the current state, too.
			if err := st.resolveCurrent(ctx); err != nil {
				return statetree.Tree{}, err
			}
		}
		if !st.branches.open {
			return st.tip.state, nil
		}
	}
	states := make([]statetree.Tree, len(prevs))
	for i, prev := range prevs {
		states[i] = prev.with
	}
	merged, nodes, err := st.resolve(ctx, states)
	st.nodes = append(st.nodes, nodes...)
	return merged, err
}

// resolve merges states of the room. It returns the new nodes of the merged one, to be stored if that is kept.
func (st *Step) resolve(ctx context.Context, states []statetree.Tree) (statetree.Tree, []statetree.NewNode, error) {
	same := true
	for _, s := range states {
		same = same && s.Root() == states[0].Root()
	}
	if same {
		return states[0], nil, nil
	}
	st.owners.resolutions.Add(1)
	graph, err := st.graph.load(ctx, st)
	if err != nil {
		return statetree.Tree{}, nil, err
	}
	res, err := stateres.Resolve(ctx, stateres.Room{
		ID: st.room.ID, Version: st.room.Version, Create: statetree.Value(st.tip.create.Num),
		Trees: st.owners.cache.Trees, Graph: graph, Loader: resolved{st},
	}, states)
	if err != nil {
		return statetree.Tree{}, nil, err
	}
	tree, nodes, err := st.owners.cache.Trees.Set(ctx, res.Base, res.Changes)
	if err != nil {
		err = fmt.Errorf("merge states of %s: %w", st.room.ID, err)
	}
	return tree, nodes, err
}

// resolved reads the events of states that are resolved.
type resolved struct{ st *Step }

// Events implements stateres.Loader.
func (r resolved) Events(ctx context.Context, nums []statetree.Value) ([]*event.Event, error) {
	ask := make([]int64, len(nums))
	for i, num := range nums {
		ask[i] = int64(num)
	}
	found, err := r.st.eventsOf(ctx, ask)
	if err != nil {
		return nil, err
	}
	events := make([]*event.Event, len(found))
	for i, ev := range found {
		events[i] = ev.Event
	}
	return events, nil
}

// place adds to an event its states.
func (st *Step) place(ev *rooms.Event) placed {
	if known, ok := st.source.uncommitted(ev.Num); ok {
		known.Event = ev
		return known
	}
	return storedPlaced(ev)
}
