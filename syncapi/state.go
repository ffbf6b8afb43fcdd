package syncapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
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
	whole := p.fresh || b.req.fullState
	if !b.req.filter.Room.State.WantsRoom(p.Room) || !whole && p.still(p.span.After, p.span.UpTo) && !b.lazily() {
		return nil, false, nil
	}
	changed, err := b.changed(ctx, p, t, whole)
	if err != nil {
		return nil, false, err
	}
	moved = slices.ContainsFunc(changed, func(e *rooms.Event) bool { return e.Target() != "" })
	if b.lazily() {
		if changed, err = b.withSenders(ctx, p, t, changed); err != nil {
			return nil, false, err
		}
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
// the state section stands.
func (b *builder) changed(ctx context.Context, p stretch, t timeline, whole bool) ([]*rooms.Event, error) {
	if !whole && p.still(p.span.After, p.span.UpTo) {
		return nil, nil
	}
	end, err := b.stateAt(ctx, p, p.span.UpTo)
	if err != nil {
		return nil, err
	}
	start := end
	if !b.req.stateAfter && t.from != 0 {
		if start, err = b.stateAt(ctx, p, t.from-1); err != nil {
			return nil, err
		}
	}
	old := b.api.Rooms.StateAt(p.v.Room, 0)
	if !whole {
		if old, err = b.stateAt(ctx, p, p.span.After); err != nil {
			return nil, err
		}
	}
	changed, err := b.difference(ctx, start, old, whole)
	if err != nil || start.Root() == end.Root() {
		return changed, err
	}
	return b.withMoved(ctx, start, end, t, changed)
}

// difference returns what now has and old does not. Members that are to be loaded
// lazily are left out of a whole state.
func (b *builder) difference(ctx context.Context, now, old roomserver.State, whole bool) ([]*rooms.Event, error) {
	switch {
	case now.Root() == old.Root():
		return nil, nil
	case whole && b.lazily():
		return now.NonMembers(ctx)
	case whole:
		return now.All(ctx)
	}
	return now.Changed(ctx, old)
}

// withMoved adds the state that moved during the timeline without an event in it
// to show for it, as state resolution can do.
func (b *builder) withMoved(ctx context.Context, start, end roomserver.State, t timeline, changed []*rooms.Event) ([]*rooms.Event, error) {
	moved, err := end.Changed(ctx, start)
	if err != nil {
		return nil, err
	}
	for _, e := range moved {
		if e.Position < t.from {
			changed = append(changed, e)
		}
	}
	return changed, nil
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
	return b.api.Rooms.StateAt(p.v.Room, statetree.NodeID(root)), nil
}

// withSenders restricts the members in changed to the senders in the timeline and
// the user, and adds those of them that are missing.
// https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members
func (b *builder) withSenders(ctx context.Context, p stretch, t timeline, changed []*rooms.Event) ([]*rooms.Event, error) {
	wanted := map[matrix.UserID]bool{}
	for _, e := range t.events {
		wanted[e.Sender] = true
	}
	if p.fresh {
		wanted[b.user.id] = true
	}
	changed = slices.DeleteFunc(slices.Clone(changed), func(e *rooms.Event) bool {
		target := e.Target()
		keep := target == "" || wanted[target] || target == b.user.id
		delete(wanted, target)
		return !keep
	})
	if len(wanted) == 0 {
		return changed, nil
	}
	at := p.span.UpTo
	if !b.req.stateAfter && t.from != 0 {
		at = t.from - 1
	}
	state, err := b.stateAt(ctx, p, at)
	if err != nil {
		return nil, err
	}
	keys := make([]event.Key, 0, len(wanted))
	for u := range wanted {
		keys = append(keys, event.Key{Type: event.TypeMember, StateKey: string(u)})
	}
	members, err := state.Events(ctx, keys...)
	if err != nil {
		return nil, err
	}
	for _, e := range members {
		if e != nil {
			changed = append(changed, e)
		}
	}
	return changed, nil
}
