package committed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// onceKnown reads a state, and once more when the members are known if that needs them.
func (st State) onceKnown(ctx context.Context, read func() error) error {
	err := read()
	if !errors.Is(err, statetree.ErrUnknown) {
		return err
	}
	if err := st.rooms.AwaitMembers(ctx, st.room); err != nil {
		return err
	}
	if err = read(); errors.Is(err, statetree.ErrUnknown) {
		return ErrPartial // and stays so: the room was left before it was whole
	}
	return err
}

// LacksMembers says whether not all members of the state are known.
func (st State) LacksMembers(ctx context.Context) (bool, error) {
	hole, err := st.rooms.cache.Trees.HoleOf(ctx, st.tree)
	return hole != 0, err
}

// Known returns the state events at these keys, nil where there is none, and nil for members that are not known. It never
// waits.
func (st State) Known(ctx context.Context, keys ...event.Key) ([]*rooms.Event, error) {
	found, _, err := st.known(ctx, keys)
	return found, err
}

// known returns the events at these keys as far as they are known, and whether there may be others.
func (st State) known(ctx context.Context, keys []event.Key) (found []*rooms.Event, holed bool, err error) {
	p, err := st.rooms.cache.Find(ctx, st.room, st.tree, keys)
	if err != nil {
		return nil, false, err
	}
	if found, err = st.rooms.cache.Events(ctx, st.room, p.Nums); err != nil {
		return nil, false, err
	}
	return found, p.Holed, p.Check(keys, found)
}

// Cited is Known, but for senders of some events who are not known: their member events are those that the latest of their
// events cites.
func (st State) Cited(ctx context.Context, events []*rooms.Event, keys ...event.Key) ([]*rooms.Event, error) {
	found, holed, err := st.known(ctx, keys)
	if err != nil || !holed {
		return found, err
	}
	for i, key := range keys {
		if found[i] != nil || key.Type != event.TypeMember {
			continue
		}
		for _, ev := range slices.Backward(events) {
			if string(ev.Sender) != key.StateKey {
				continue
			}
			if found[i], err = st.citedBy(ctx, ev, key); err != nil {
				return nil, err
			}
			break
		}
	}
	return found, nil
}

// citedBy returns the auth event of an event for a place in the state; nil if there is none.
func (st State) citedBy(ctx context.Context, ev *rooms.Event, key event.Key) (*rooms.Event, error) {
	cited, err := rooms.EventsByID(ctx, st.rooms.db, st.room, ev.AuthEvents)
	if err != nil {
		return nil, fmt.Errorf("read the auth events of %s: %w", ev.ID, err)
	}
	for _, a := range cited {
		if a.Kind != rooms.Rejected && a.Kind != rooms.Aside && a.IsState() && a.StateID() == key {
			return a, nil
		}
	}
	return nil, nil
}
