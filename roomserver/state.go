package roomserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A State is the state of a room at one moment. It is a small value and never changes; its events are
// read when they are asked for.
type State struct {
	server *Server
	room   rooms.Room
	tree   statetree.Tree
}

// Current returns the last committed state of a room that this server is or was in. NotFound if it
// knows no state of it.
func (s *Server) Current(ctx context.Context, id matrix.RoomID) (State, error) {
	room, err := s.Room(ctx, id)
	if err != nil {
		return State{}, err
	}
	if root, ok := s.committedRoot(id); ok {
		return s.StateAt(room, root), nil
	}
	head, found, err := rooms.HeadOf(ctx, s.db, room.Num)
	switch {
	case err != nil:
		return State{}, fmt.Errorf("find the state of %s: %w", id, err)
	case !found:
		return State{}, noRoomError{matrix.Errorf(matrix.NotFound, "this server does not know the state of %s", id)}
	}
	return s.StateAt(room, head.Root), nil
}

// StateAt returns the state of a room with a root that was committed.
func (s *Server) StateAt(room rooms.Room, root statetree.NodeID) State {
	return State{server: s, room: room, tree: statetree.At(root)}
}

// Room is the room whose state it is.
func (st State) Room() rooms.Room { return st.room }

// Root names the state: the same root is the same state.
func (st State) Root() statetree.NodeID { return st.tree.Root() }

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
		found, err = st.server.stateEvents(ctx, source{room: st.room}, st.tree, keys)
		return err
	})
	return found, err
}

// Member returns the membership of a user and the event that made it, nil if there never was one.
func (st State) Member(ctx context.Context, user matrix.UserID) (event.Membership, *rooms.Event, error) {
	ev, err := st.Event(ctx, memberKey(user))
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
	var nums []int64
	err := st.server.trees.WalkKnown(ctx, st.tree, statetree.All, func(_ statetree.Key, v statetree.Value) error {
		nums = append(nums, int64(v))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", st.room.ID, err)
	}
	return st.server.Events(ctx, st.room, nums)
}

func (st State) walk(ctx context.Context, classes statetree.Classes) ([]*rooms.Event, error) {
	if classes&statetree.Members != 0 {
		// Also when the members are known, but what follows from them is not yet.
		if err := st.server.AwaitMembers(ctx, st.room); err != nil {
			return nil, err
		}
	}
	var nums []int64
	err := st.onceKnown(ctx, func() error {
		nums = nums[:0]
		return st.server.trees.Walk(ctx, st.tree, classes, func(_ statetree.Key, v statetree.Value) error {
			nums = append(nums, int64(v))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", st.room.ID, err)
	}
	return st.server.Events(ctx, st.room, nums)
}

// Changed returns the events of st that older does not have, or has other ones in the place of. What
// older alone has is not told: state is not removed but by resolution. Members that are not known have not changed.
func (st State) Changed(ctx context.Context, older State) ([]*rooms.Event, error) {
	var nums []int64
	err := st.server.trees.Diff(ctx, older.tree, st.tree, func(_ statetree.Key, _, now statetree.Value) error {
		if now != 0 {
			nums = append(nums, int64(now))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare states of %s: %w", st.room.ID, err)
	}
	return st.server.Events(ctx, st.room, nums)
}

// maxEventsPerRead bounds one statement's set of event numbers.
const maxEventsPerRead = 2000

var errMissingEvents = errors.New("roomserver: the state names events that are not stored")

// Events returns events of a room by number, in the order asked, through the cache. Each must exist.
func (s *Server) Events(ctx context.Context, room rooms.Room, nums []int64) ([]*rooms.Event, error) {
	return s.eventsOf(ctx, source{room: room}, nums)
}

// source says where the events of a room are found: an owner also has those not committed yet.
type source struct {
	room    rooms.Room
	fresh   map[int64]placed // of the step being done
	flights *flights         // nil for readers
}

// uncommitted returns an event that only the owner has yet.
func (f source) uncommitted(num int64) (placed, bool) {
	if ev, ok := f.fresh[num]; ok {
		return ev, true
	}
	return f.flights.event(num)
}

func (s *Server) eventsOf(ctx context.Context, from source, nums []int64) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(nums))
	missing := make(map[int64]int) // number -> how many places want it
	for i, num := range nums {
		if ev, ok := from.uncommitted(num); ok {
			found[i] = ev.Event
		} else if found[i], ok = s.events.get(num); !ok {
			missing[num]++
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	loaded, err := s.loadEvents(ctx, from.room, missing)
	if err != nil {
		return nil, err
	}
	for i, num := range nums {
		if found[i] == nil {
			found[i] = loaded[num]
		}
		if found[i] == nil || found[i].RoomNum != from.room.Num {
			return nil, fmt.Errorf("%w: number %d in %s", errMissingEvents, num, from.room.ID)
		}
	}
	return found, nil
}

// loadEvents reads events from the database into the cache.
func (s *Server) loadEvents(ctx context.Context, room rooms.Room, missing map[int64]int) (map[int64]*rooms.Event, error) {
	loaded := make(map[int64]*rooms.Event, len(missing))
	ask := make([]int64, 0, min(len(missing), maxEventsPerRead))
	read := func() error {
		before := s.changes.Load()
		events, err := rooms.EventsByNumber(ctx, s.db, room, ask)
		if err != nil {
			return fmt.Errorf("read events of %s: %w", room.ID, err)
		}
		for _, ev := range events {
			loaded[ev.Num] = ev
			// A redaction, a place or another state that was committed since we read may have made this out of date.
			s.events.addNew(ev.Num, ev, eventCost(ev), func() bool { return s.changes.Load() == before })
		}
		ask = ask[:0]
		return nil
	}
	for num := range missing {
		if ask = append(ask, num); len(ask) == maxEventsPerRead {
			if err := read(); err != nil {
				return nil, err
			}
		}
	}
	if len(ask) > 0 {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return loaded, nil
}

// eventCost is what an event takes in memory, about.
func eventCost(ev *rooms.Event) int { return 600 + 2*len(ev.JSON) }

// stateEvents returns the events of a tree at these keys, nil where there is none. The error is statetree.ErrUnknown if one
// of them is a member that is not known.
func (s *Server) stateEvents(ctx context.Context, from source, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, holed, err := s.knownEvents(ctx, from, tree, keys)
	for i, ev := range found {
		if ev == nil && holed && keys[i].Type == event.TypeMember {
			return nil, fmt.Errorf("read %s in the state of %s: %w", keys[i].StateKey, from.room.ID, statetree.ErrUnknown)
		}
	}
	return found, err
}

// knownEvents is stateEvents, but for members that are not known, which are nil. It says whether there are any in the tree.
func (s *Server) knownEvents(ctx context.Context, from source, tree statetree.Tree, keys []event.Key) (found []*rooms.Event, holed bool, err error) {
	hashed := make([]statetree.Key, len(keys))
	for i, key := range keys {
		hashed[i] = s.hasher.Key(key)
	}
	values, holed, err := s.trees.GetKnown(ctx, tree, hashed)
	if err != nil {
		return nil, holed, fmt.Errorf("read the state of %s: %w", from.room.ID, err)
	}
	nums := make([]int64, 0, len(values))
	for _, v := range values {
		if v != 0 {
			nums = append(nums, int64(v))
		}
	}
	events, err := s.eventsOf(ctx, from, nums)
	if err != nil {
		return nil, holed, err
	}
	found = make([]*rooms.Event, len(keys))
	for i, v := range values {
		if v == 0 {
			continue
		}
		found[i], events = events[0], events[1:]
		if found[i].StateID() != keys[i] {
			// The tree knows keys by 60 bits of a keyed hash. Chance does not do this.
			return nil, holed, fmt.Errorf("state keys %v and %v of %s have one hash", keys[i], found[i].StateID(), from.room.ID)
		}
	}
	return found, holed, nil
}

func memberKey(user matrix.UserID) event.Key {
	return event.Key{Type: event.TypeMember, StateKey: string(user)}
}
