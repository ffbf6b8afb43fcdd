package syncapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// state returns the state events that bring a client from its token to the start
// of the timeline or, with use_state_after, to its end.
// https://spec.matrix.org/v1.19/client-server-api/#syncing
//
// It also says whether memberships are among what changed.
func (b *builder) state(ctx context.Context, p stretch, t timeline) (state []view.Seen, moved bool, err error) {
	if !b.req.filter.Room.State.WantsRoom(p.Room) {
		return nil, false, nil
	}
	var changed []*rooms.Event
	if p.whole || !p.still(p.span.After, p.span.UpTo) {
		if changed, err = b.changed(ctx, p, t); err != nil {
			return nil, false, err
		}
	}
	moved = slices.ContainsFunc(changed, names)
	if b.lazily() {
		if changed, err = b.withSenders(ctx, p, t, changed); err != nil {
			return nil, false, err
		}
	}
	if len(changed) == 0 {
		return nil, moved, nil
	}
	seen := make([]view.Seen, 0, len(changed))
	for _, e := range changed {
		if b.req.filter.Room.State.WantsEvent(e.Event) {
			seen = append(seen, view.Seen{Event: e})
		}
	}
	return seen, moved, nil
}

// lazily says whether the client wants only the members it can see at work.
func (b *builder) lazily() bool { return b.req.filter.Room.State.LazyLoadMembers }

// still says whether the memory is sure that the current state did not move in (from, to].
func (g *glimpse) still(from, to storage.Position) bool {
	if from < g.rootsFrom {
		return false
	}
	return !slices.ContainsFunc(g.roots, func(m rootMove) bool { return m.from > from && m.from <= to })
}

// changed returns the state that differs between the token and the place where
// the state section stands, and that which moves during the timeline without an
// event in it to show for it: who applies the timeline to this ends with the truth.
func (b *builder) changed(ctx context.Context, p stretch, t timeline) ([]*rooms.Event, error) {
	end, err := b.stateAt(ctx, p, p.span.UpTo)
	if err != nil {
		return nil, err
	}
	start := end
	if !b.req.stateAfter && t.from != 0 {
		if start, err = b.startOf(ctx, p, t); err != nil {
			return nil, err
		}
	}
	changed, err := b.difference(ctx, p, start)
	if err != nil || start.Root() == end.Root() {
		return changed, err
	}
	moved, err := end.Changed(ctx, start)
	if err != nil {
		return nil, err
	}
	return replaced(changed, slices.DeleteFunc(moved, func(e *rooms.Event) bool { return t.has(e.Num) })), nil
}

// replaced returns state with those of moved in place of what they replace.
func replaced(state, moved []*rooms.Event) []*rooms.Event {
	if len(moved) == 0 {
		return state
	}
	keys := make(map[event.Key]bool, len(moved))
	for _, e := range moved {
		keys[e.StateID()] = true
	}
	return append(slices.DeleteFunc(state, func(e *rooms.Event) bool { return keys[e.StateID()] }), moved...)
}

// difference returns what of a state is new to the client. Of a whole state that is
// loaded lazily, those members are left out that the client does not know or that
// are as it knows them.
func (b *builder) difference(ctx context.Context, p stretch, now roomserver.State) ([]*rooms.Event, error) {
	if p.whole && !b.lazily() {
		return now.AllKnown(ctx) // which is all, but of a room that was left before it was whole
	}
	var known []*rooms.Event
	if p.known != 0 {
		old, err := b.stateAt(ctx, p, p.known)
		if err != nil || now.Root() == old.Root() && !p.whole {
			return nil, err
		}
		if known, err = now.Changed(ctx, old); err != nil || !p.whole {
			return known, err
		}
	}
	whole, err := now.NonMembers(ctx)
	for _, e := range known {
		if e.Target() != "" {
			whole = append(whole, e)
		}
	}
	return whole, err
}

// stateAt returns the current state of a room as it was at a position.
func (b *builder) stateAt(ctx context.Context, p stretch, at storage.Position) (roomserver.State, error) {
	root, ok := p.rootAt(at)
	if !ok {
		var err error
		if root, err = rooms.RootAt(ctx, b.api.DB, p.RoomNum, at); err != nil {
			return roomserver.State{}, err
		}
	}
	return b.api.Rooms.StateAt(p.v.Room, root), nil
}

// startOf returns the state of a room at the start of a timeline. A room that came to this server with the first of the
// events has no earlier state here than the one before that.
func (b *builder) startOf(ctx context.Context, p stretch, t timeline) (roomserver.State, error) {
	state, err := b.stateAt(ctx, p, t.from-1)
	if err == nil && state.Root() == 0 {
		state = b.api.Rooms.StateAt(p.v.Room, t.events[0].StateBefore)
	}
	return state, err
}

// withSenders adds to changed those members that the client needs to show the
// timeline, and its user if the state is whole. Members that changed stay in it,
// whoever they are: a client that knows them must learn of it.
// https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members
func (b *builder) withSenders(ctx context.Context, p stretch, t timeline, changed []*rooms.Event) ([]*rooms.Event, error) {
	var wanted []event.Key
	want := func(u matrix.UserID) {
		key := event.Key{Type: event.TypeMember, StateKey: string(u)}
		if !slices.Contains(wanted, key) && !slices.ContainsFunc(changed, func(e *rooms.Event) bool { return e.Target() == u }) {
			wanted = append(wanted, key)
		}
	}
	for _, e := range t.events {
		want(e.Sender)
	}
	if p.whole {
		want(b.user.id)
	}
	if len(wanted) == 0 {
		return changed, nil
	}
	var state roomserver.State
	var err error
	if !b.req.stateAfter && t.from != 0 {
		state, err = b.startOf(ctx, p, t)
	} else {
		state, err = b.stateAt(ctx, p, p.span.UpTo)
	}
	if err != nil {
		return nil, err
	}
	members, err := state.Cited(ctx, t.plain(), wanted...)
	if err != nil {
		return nil, err
	}
	return append(changed, slices.DeleteFunc(members, func(e *rooms.Event) bool { return e == nil })...), nil
}
