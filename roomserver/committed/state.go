package committed

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A State is the state of a room at one moment. It is a small value and never changes; its events are
// read when they are asked for.
type State struct {
	rooms *Rooms
	room  rooms.Room
	tree  statetree.Tree
}

// Current returns the last committed state of a room that this server is or was in. NotFound if it
// knows no state of it.
func (r *Rooms) Current(ctx context.Context, id matrix.RoomID) (State, error) {
	room, err := r.Room(ctx, id)
	if err != nil {
		return State{}, err
	}
	if root, ok := r.loaded(id); ok {
		return r.StateAt(room, root), nil
	}
	head, found, err := rooms.HeadOf(ctx, r.db, room.Num)
	switch {
	case err != nil:
		return State{}, fmt.Errorf("find the state of %s: %w", id, err)
	case !found:
		return State{}, NotHere("this server does not know the state of %s", id)
	}
	return r.StateAt(room, head.Root), nil
}

// StateAt returns the state of a room with a root that was committed.
func (r *Rooms) StateAt(room rooms.Room, root statetree.NodeID) State {
	return State{rooms: r, room: room, tree: statetree.At(root)}
}

// Room is the room whose state it is.
func (st State) Room() rooms.Room { return st.room }

// Root names the state: the same root is the same state.
func (st State) Root() statetree.NodeID { return st.tree.Root() }

// Tree is the state itself.
func (st State) Tree() statetree.Tree { return st.tree }

// Event returns the state event at a key, nil if there is none.
func (st State) Event(ctx context.Context, key event.Key) (*rooms.Event, error) {
	found, err := st.Events(ctx, key)
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// Events returns the state events at these keys, nil where there is none.
// In a partial room it waits for the members that are wanted and not known.
func (st State) Events(ctx context.Context, keys ...event.Key) (found []*rooms.Event, err error) {
	err = st.onceKnown(ctx, func() (err error) {
		found, err = st.rooms.cache.StateEvents(ctx, st.room, st.tree, keys)
		return err
	})
	return found, err
}

// Member returns the membership of a user and the event that made it, nil if there never was one.
func (st State) Member(ctx context.Context, user matrix.UserID) (event.Membership, *rooms.Event, error) {
	ev, err := st.Event(ctx, event.MemberKey(user))
	if err != nil || ev == nil {
		return "", nil, err
	}
	return ev.Membership(), ev, nil
}

// All returns the whole state, in no order. In a partial room it waits for it.
func (st State) All(ctx context.Context) ([]*rooms.Event, error) {
	return st.walk(ctx, statetree.All)
}

// Members returns all member events, in no order. In a partial room it waits for them.
func (st State) Members(ctx context.Context) ([]*rooms.Event, error) {
	return st.walk(ctx, statetree.Members)
}

// NonMembers returns the state without the member events, in no order.
func (st State) NonMembers(ctx context.Context) ([]*rooms.Event, error) {
	return st.walk(ctx, statetree.NonMembers)
}

// AllKnown returns the whole state as far as it is known, in no order. It never waits.
func (st State) AllKnown(ctx context.Context) ([]*rooms.Event, error) {
	nums, err := st.KnownNumbers(ctx)
	if err != nil {
		return nil, err
	}
	return st.rooms.Events(ctx, st.room, nums)
}

// KnownNumbers returns the numbers of the events that AllKnown returns.
func (st State) KnownNumbers(ctx context.Context) ([]int64, error) {
	var nums []int64
	err := st.rooms.cache.Trees.WalkKnown(ctx, st.tree, statetree.All, func(_ statetree.Key, v statetree.Value) error {
		nums = append(nums, int64(v))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", st.room.ID, err)
	}
	return nums, nil
}

func (st State) walk(ctx context.Context, classes statetree.Classes) ([]*rooms.Event, error) {
	if classes&statetree.Members != 0 {
		// Also when the members are known, but what follows from them is not yet.
		if err := st.rooms.AwaitMembers(ctx, st.room); err != nil {
			return nil, err
		}
	}
	var nums []int64
	err := st.onceKnown(ctx, func() error {
		nums = nums[:0]
		return st.rooms.cache.Trees.Walk(ctx, st.tree, classes, func(_ statetree.Key, v statetree.Value) error {
			nums = append(nums, int64(v))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", st.room.ID, err)
	}
	return st.rooms.Events(ctx, st.room, nums)
}

// Changed returns the events of st that older does not have, or has other ones in the place of. What
// older alone has is not told: state is not removed but by resolution. Members that are not known have not changed.
func (st State) Changed(ctx context.Context, older State) ([]*rooms.Event, error) {
	var nums []int64
	err := st.rooms.cache.Trees.Diff(ctx, older.tree, st.tree, func(_ statetree.Key, _, now statetree.Value) error {
		if now != 0 {
			nums = append(nums, int64(now))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	return st.rooms.Events(ctx, st.room, nums)
}

// Levels returns the power levels of the state.
func (st State) Levels(ctx context.Context) (*auth.PowerLevels, error) {
	found, err := st.Events(ctx, event.CreateKey, event.PowerLevelsKey)
	if err != nil {
		return nil, err
	}
	levels := auth.Levels(st.room.Version, found[0].Plain(), found[1].Plain())
	return &levels, nil
}
