package owner

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

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
	st.effort += res.Conflicts + res.Replayed
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

// load returns the graph, with all events that the step stands on.
func (a *authGraph) load(ctx context.Context, st *Step) (*stateres.Graph, error) {
	if a.graph != nil {
		return a.graph, nil
	}
	waiting := authNodesOf(slices.Concat(st.source.flights.all(), slices.Collect(maps.Values(st.fresh))))
	graph, err := st.owners.readGraph(ctx, st.room, waiting)
	if err != nil {
		return nil, err
	}
	a.graph, a.ahead = graph, nil
	a.marked = -1 // what the step adds cannot be told from what was there
	return graph, nil
}

// readGraph makes the graph of what is committed and of what was not when the reading began.
func (s *Owners) readGraph(ctx context.Context, room rooms.Room, waiting []rooms.AuthNode) (*stateres.Graph, error) {
	var nodes []rooms.AuthNode
	err := rooms.EachAuthNode(ctx, s.db, room.Num, func(n rooms.AuthNode) error {
		nodes = append(nodes, n)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the auth graph of %s: %w", room.ID, err)
	}
	graph, err := buildGraph(s.cache.Hasher, append(nodes, waiting...))
	if err != nil {
		err = fmt.Errorf("auth graph of %s: %w", room.ID, err)
	}
	return graph, err
}
