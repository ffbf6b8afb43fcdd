package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
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

// errLacking says that an event stands on what is not here.
var errLacking = errors.New("owner: what the event stands on is missing")

// prevEvents returns the prev events of an event, with their states.
func (st *Step) prevEvents(ctx context.Context, ev *event.Event) ([]placed, error) {
	found, err := st.Find(ctx, ev.PrevEvents...)
	if err != nil {
		return nil, err
	}
	prevs := make([]placed, 0, len(found))
	for i, prev := range found {
		if prev == nil || prev.StateUnknown {
			return nil, fmt.Errorf("%w: prev event %s", errLacking, ev.PrevEvents[i])
		}
		if lost, err := st.isLost(ctx, prev); lost || err != nil {
			return nil, cmp.Or(err, fmt.Errorf("%w: the state after %s", errLacking, prev.ID))
		}
		if !slices.ContainsFunc(prevs, func(p placed) bool { return p.Num == prev.Num }) {
			prevs = append(prevs, st.place(prev))
		}
	}
	return prevs, nil
}

// authEvents returns the auth events of an event. One of another room counts as rejected, whatever it is there.
// https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules
func (st *Step) authEvents(ctx context.Context, ev *event.Event) ([]*rooms.Event, error) {
	found, err := st.Find(ctx, ev.AuthEvents...)
	if err != nil {
		return nil, err
	}
	for i, a := range found {
		id := ev.AuthEvents[i]
		if a != nil && a.Kind != rooms.Aside {
			continue
		}
		if !st.hints.elsewhere[id] {
			return nil, fmt.Errorf("%w: auth event %s", errLacking, id)
		}
		found[i] = &rooms.Event{Event: &event.Event{ID: id}, Kind: rooms.Rejected}
	}
	return found, nil
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

// Find returns events of the room by ID, nil for those that are not there: those of this step and of the
// flights before it first, since they are the latest forms.
func (st *Step) Find(ctx context.Context, ids ...matrix.EventID) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(ids))
	var ask []matrix.EventID
	for i, id := range ids {
		if found[i] = st.atHand(id); found[i] == nil && !st.knownAbsent(id) {
			ask = append(ask, id)
		}
	}
	if len(ask) == 0 {
		return found, nil
	}
	read, err := rooms.EventsByID(ctx, st.owners.db, st.room, ask)
	if err != nil {
		return nil, fmt.Errorf("find events of %s: %w", st.room.ID, err)
	}
	byID := make(map[matrix.EventID]*rooms.Event, len(read))
	for _, ev := range read {
		byID[ev.ID] = ev
	}
	for i, id := range ids {
		if found[i] == nil {
			found[i] = byID[id]
		}
	}
	return found, nil
}

// atHand returns an event that need not be read.
func (st *Step) atHand(id matrix.EventID) *rooms.Event {
	for i := len(st.tip.extremities) - 1; i >= 0; i-- {
		if ev := st.tip.extremities[i]; ev.ID == id {
			return ev.Event
		}
	}
	if ev := st.uncommittedByID()[id]; ev != nil {
		return ev
	}
	if ev := st.hints.events[id]; ev != nil && (!ev.HasNoPlace() || st.hints.final || st.hintsAreFresh()) {
		return ev
	}
	return st.owners.cache.ByID(st.room, id)
}

// knownAbsent says that an event was looked for and not found, and none of other servers has come since.
func (st *Step) knownAbsent(id matrix.EventID) bool {
	return st.hints.looked[id] && st.hints.events[id] == nil && st.hintsAreFresh()
}

// hintsAreFresh says that nothing of other servers has come since the hints were read.
func (st *Step) hintsAreFresh() bool { return st.hints.asOf == st.source.flights.arrived() }

// uncommittedByID are the events that only the owner has yet.
func (st *Step) uncommittedByID() map[matrix.EventID]*rooms.Event {
	if st.byID == nil {
		st.byID = make(map[matrix.EventID]*rooms.Event)
		for _, ev := range st.source.flights.all() {
			st.byID[ev.ID] = ev.Event
		}
		for _, ev := range st.fresh {
			st.byID[ev.ID] = ev.Event
		}
	}
	return st.byID
}
