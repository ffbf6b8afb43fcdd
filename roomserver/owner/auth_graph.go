package owner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// An authGraph is the graph of a room's accepted state events and their auth events, of which state
// resolution is made. It is read from the database when states are first resolved, and then follows the
// room until that is unloaded. The zero authGraph is not read yet, and one of nil is of a new room.
type authGraph struct {
	graph  *stateres.Graph
	marked int
	ahead  *graphAhead // it is being read, while the owner goes on with its work
}

// Limits of the graphs that are kept from one step to the next. One that is not kept is read again when it is
// next needed.
const (
	maxGraphBytes  = 32 << 20 // of one room: half a million events
	maxGraphsBytes = 64 << 20 // of all; what goes beyond is dropped at the next sweep
)

// authNodesOf are the accepted state events among those that only the owner has yet.
func authNodesOf(events []placed) []rooms.AuthNode {
	var nodes []rooms.AuthNode
	for _, ev := range events {
		if ev.accepted {
			nodes = append(nodes, rooms.AuthNode{Num: ev.Num, Key: ev.StateID(), Auth: ev.auth})
		}
	}
	slices.SortFunc(nodes, func(a, b rooms.AuthNode) int { return cmp.Compare(a.Num, b.Num) })
	return nodes
}

// buildGraph makes a graph of nodes in any order. An event is mostly numbered after its auth events, but
// numbers are leased in blocks, so that need not be.
func buildGraph(hasher statetree.Hasher, nodes []rooms.AuthNode) (*stateres.Graph, error) {
	graph := stateres.NewGraph()
	for len(nodes) > 0 {
		var left []rooms.AuthNode
		for _, n := range nodes {
			if slices.ContainsFunc(n.Auth, func(num int64) bool { return !graph.Has(statetree.Value(num)) }) {
				left = append(left, n)
				continue
			}
			if err := appendNode(graph, hasher, n); err != nil {
				return nil, err
			}
		}
		if len(left) == len(nodes) {
			return nil, fmt.Errorf("%w: of event %d", stateres.ErrUnknownAuthEvent, left[0].Num)
		}
		nodes = left
	}
	return graph, nil
}

func appendNode(graph *stateres.Graph, hasher statetree.Hasher, n rooms.AuthNode) error {
	auth := make([]statetree.Value, len(n.Auth))
	for i, num := range n.Auth {
		auth[i] = statetree.Value(num)
	}
	return graph.Append(stateres.Ref{Num: statetree.Value(n.Num), Key: hasher.Key(n.Key)}, auth)
}

// append follows the room by an event.
func (a *authGraph) append(hasher statetree.Hasher, ev *rooms.NewEvent) error {
	if a == nil || !ev.Accepted {
		return nil
	}
	node := rooms.AuthNode{Num: ev.Num, Key: ev.StateID(), Auth: ev.Auth}
	if a.ahead != nil {
		a.ahead.since = append(a.ahead.since, node)
	}
	if a.graph == nil {
		return nil
	}
	return appendNode(a.graph, hasher, node)
}

// mark remembers where the graph stands before a step.
func (a *authGraph) mark() {
	if a.graph != nil && a.graph.Bytes() > maxGraphBytes {
		a.graph = nil
	}
	if a.marked = 0; a.graph != nil {
		a.marked = a.graph.Len()
	}
	if a.ahead != nil {
		a.ahead.marked = len(a.ahead.since)
	}
}

// goBack takes away what a step has added that came to nothing.
func (a *authGraph) goBack() {
	if a.ahead != nil {
		a.ahead.since = a.ahead.since[:a.ahead.marked]
	}
	switch {
	case a.graph == nil:
	case a.marked < 0:
		a.graph = nil
	default:
		a.graph.Truncate(a.marked)
	}
}

func (a *authGraph) bytes() int64 {
	if a.graph == nil {
		return 0
	}
	return a.graph.Bytes()
}

// forget drops the graph: it has events that were not stored.
func (a *authGraph) forget() { a.graph, a.ahead = nil, nil }

// A graphAhead is an auth graph that is being read, and what the owner has added since that began.
type graphAhead struct {
	since  []rooms.AuthNode
	marked int // of since, before the step that is being done
}
