package owner

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// The auth graph of a large room takes long to read, and the owner would stand still meanwhile. So it is read before
// the owner is given what may make it resolve states.

// ReadGraphAhead reads the auth graph of a room if events to come are likely to need it.
func (s *Owners) ReadGraphAhead(ctx context.Context, h *Hints, events []*event.Event) error {
	ahead, waiting, err := s.beginAhead(ctx, &coming{h, events})
	if err != nil || ahead == nil {
		return err
	}
	graph, err := s.readGraph(ctx, h.room, waiting)
	return errors.Join(err, s.endAhead(h.room, ahead, graph))
}

// beginAhead notes that the graph is being read; it returns nil if it need not be.
func (s *Owners) beginAhead(ctx context.Context, c *coming) (*graphAhead, []rooms.AuthNode, error) {
	o, err := s.acquire(c.room)
	if err != nil {
		return nil, nil, err
	}
	defer o.release()
	if err := s.ready(ctx, o); err != nil {
		return nil, nil, err
	}
	if o.graph.graph != nil || o.graph.ahead != nil || !c.forks(o.tip.extremities) {
		return nil, nil, nil
	}
	o.graph.ahead = &graphAhead{}
	return o.graph.ahead, authNodesOf(o.flights.all()), nil
}

// endAhead hands the graph to the owner, unless it could not be read, or the owner has one by now or went back to before
// the reading began.
func (s *Owners) endAhead(room rooms.Room, ahead *graphAhead, graph *stateres.Graph) error {
	o, err := s.acquire(room)
	if err != nil {
		return err
	}
	defer o.release()
	s.settle(o)
	if o.graph.ahead != ahead {
		return nil
	}
	if o.graph.ahead = nil; graph == nil {
		return nil
	}
	for _, n := range ahead.since {
		if err := appendNode(graph, s.cache.Hasher, n); err != nil {
			return err
		}
	}
	o.graph.graph = graph
	return nil
}

// coming are events that the owner is about to be given.
type coming struct {
	*Hints
	events []*event.Event
}

// forks says whether the events leave some forward extremities aside, and whether there is more than one state among
// them and what they follow.
func (c *coming) forks(extremities []placed) bool {
	if len(extremities) == 0 || !c.hasStates(extremities) {
		return false
	}
	tips := make([]matrix.EventID, 0, len(extremities))
	for _, ev := range extremities {
		tips = append(tips, ev.ID)
	}
	for _, ev := range event.InOrder(c.events) {
		if slices.ContainsFunc(tips, func(id matrix.EventID) bool { return !slices.Contains(ev.PrevEvents, id) }) {
			return true
		}
		tips = []matrix.EventID{ev.ID}
	}
	return false
}

// hasStates says whether the events change the state, or follow states other than those of the extremities.
func (c *coming) hasStates(extremities []placed) bool {
	root := extremities[0].with.Root()
	isOther := func(id matrix.EventID) bool {
		had := c.Here(id)
		return had != nil && !had.StateUnknown && had.StateWith != root
	}
	return slices.ContainsFunc(extremities, func(ev placed) bool { return ev.with.Root() != root }) ||
		slices.ContainsFunc(c.events, func(ev *event.Event) bool { return ev.IsState() || slices.ContainsFunc(ev.PrevEvents, isOther) })
}
