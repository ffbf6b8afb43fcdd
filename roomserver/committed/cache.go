package committed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/lru"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// What the caches of all rooms together may take.
const (
	treeCacheBytes   = 32 << 20
	eventCacheBytes  = 48 << 20
	roomCacheEntries = 50_000
	idCacheEntries   = 40_000
)

// A Cache holds what was lately read or written of all rooms: events, state trees, and what never changes about a room.
// Whoever commits events tells it of them, for nobody to read what is out of date.
type Cache struct {
	Trees  *statetree.Store
	Hasher statetree.Hasher // of the places in these trees

	db      *storage.DB
	events  *lru.Cache[int64, *rooms.Event]       // committed events by number
	ids     *lru.Cache[eventName, int64]          // their numbers
	rooms   *lru.Cache[matrix.RoomID, rooms.Room] // what never changes about rooms
	changes atomic.Int64                          // committed changes of events, counted before they reach the cache
}

// An eventName is an event ID in its room: in old versions others choose the IDs, so it is unique there only.
type eventName struct {
	room int64
	id   matrix.EventID
}

// NewCache makes the cache of the rooms of a database.
func NewCache(db *storage.DB) *Cache {
	hasher := statetree.NewHasher(db.Secret())
	return &Cache{
		Hasher: hasher,
		Trees: statetree.New(statetree.Settings{
			Hasher: hasher, Loader: nodeLoader{db}, CacheBytes: treeCacheBytes,
			NextID: func() statetree.NodeID { return statetree.NodeID(db.NextNumber()) },
			Filled: func(ctx context.Context, hole statetree.Hole) (statetree.NodeID, bool, error) {
				return rooms.MembersOfHole(ctx, db, hole)
			},
		}),
		db:     db,
		events: lru.New[int64, *rooms.Event](eventCacheBytes),
		ids:    lru.New[eventName, int64](idCacheEntries),
		rooms:  lru.New[matrix.RoomID, rooms.Room](roomCacheEntries),
	}
}

// nodeLoader reads state trees from the database.
type nodeLoader struct{ db *storage.DB }

func (l nodeLoader) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return rooms.StateNodes(ctx, l.db, ids, found)
}

// Put takes up an event that was committed, in the place of an earlier form of it.
func (c *Cache) Put(ev *rooms.Event) { c.events.Add(ev.Num, ev, eventCost(ev)) }

// PutNamed is Put for an event that may be looked for by its ID.
func (c *Cache) PutNamed(ev *rooms.Event) {
	c.Put(ev)
	c.ids.Add(eventName{ev.RoomNum, ev.ID}, ev.Num, 1)
}

// Drop forgets an event, to be read again.
func (c *Cache) Drop(num int64) { c.events.Drop(num) }

// NoteChange counts a commit by which stored events have become others, before they are put or dropped: what is being read
// meanwhile is not kept.
func (c *Cache) NoteChange() { c.changes.Add(1) }

// PutRoom takes up what is to be known about a room from now on.
func (c *Cache) PutRoom(room rooms.Room) { c.rooms.Add(room.ID, room, 1) }

// ByID returns an event of which number and content are at hand, and which has its place; nil otherwise.
func (c *Cache) ByID(room rooms.Room, id matrix.EventID) *rooms.Event {
	num, ok := c.ids.Get(eventName{room.Num, id})
	if !ok {
		return nil
	}
	if ev, ok := c.events.Get(num); ok && !ev.HasNoPlace() {
		return ev
	}
	return nil
}

// MaxPerRead bounds one statement's set of event numbers.
const MaxPerRead = 2000

var errMissingEvents = errors.New("committed: the state names events that are not stored")

// Events returns events of a room by number, in the order asked, nil for the number 0. Each other must exist.
func (c *Cache) Events(ctx context.Context, room rooms.Room, nums []int64) ([]*rooms.Event, error) {
	found := make([]*rooms.Event, len(nums))
	if err := c.Fill(ctx, room, nums, found); err != nil {
		return nil, err
	}
	return found, nil
}

// Fill puts the events of a room with these numbers where found has none yet; the number 0 is of none. Each other must
// exist.
func (c *Cache) Fill(ctx context.Context, room rooms.Room, nums []int64, found []*rooms.Event) error {
	missing := make(map[int64]int) // number -> how many places want it
	for i, num := range nums {
		if found[i] != nil || num == 0 {
			continue
		}
		var ok bool
		if found[i], ok = c.events.Get(num); !ok {
			missing[num]++
		}
	}
	if len(missing) == 0 {
		return nil
	}
	loaded, err := c.load(ctx, room, missing)
	if err != nil {
		return err
	}
	for i, num := range nums {
		if num == 0 {
			continue
		}
		if found[i] == nil {
			found[i] = loaded[num]
		}
		if found[i] == nil || found[i].RoomNum != room.Num {
			return fmt.Errorf("%w: number %d in %s", errMissingEvents, num, room.ID)
		}
	}
	return nil
}

// load reads events from the database into the cache.
func (c *Cache) load(ctx context.Context, room rooms.Room, missing map[int64]int) (map[int64]*rooms.Event, error) {
	loaded := make(map[int64]*rooms.Event, len(missing))
	ask := make([]int64, 0, min(len(missing), MaxPerRead))
	read := func() error {
		before := c.changes.Load()
		events, err := rooms.EventsByNumber(ctx, c.db, room, ask)
		if err != nil {
			return fmt.Errorf("read events of %s: %w", room.ID, err)
		}
		for _, ev := range events {
			loaded[ev.Num] = ev
			// A redaction, a place or another state that was committed since we read may have made this out of date.
			c.events.AddNew(ev.Num, ev, eventCost(ev), func() bool { return c.changes.Load() == before })
		}
		ask = ask[:0]
		return nil
	}
	for num := range missing {
		if ask = append(ask, num); len(ask) == MaxPerRead {
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

// Places are what stands at some keys of a state.
type Places struct {
	Nums  []int64 // the numbers of the events, in the order of the keys; 0 where there is none, or it is not known
	Holed bool    // not all members of the state are known
}

// Find returns what stands in a state of a room at these keys. Whoever has read the events checks them against the keys.
func (c *Cache) Find(ctx context.Context, room rooms.Room, tree statetree.Tree, keys []event.Key) (Places, error) {
	p := Places{Nums: make([]int64, len(keys))}
	hashed := make([]statetree.Key, len(keys))
	for i, key := range keys {
		hashed[i] = c.Hasher.Key(key)
	}
	values, holed, err := c.Trees.GetKnown(ctx, tree, hashed)
	if err != nil {
		return p, fmt.Errorf("read the state of %s: %w", room.ID, err)
	}
	for i, value := range values {
		p.Nums[i] = int64(value)
	}
	p.Holed = holed
	return p, nil
}

// Check holds the events that were read, nil for 0, against their keys.
func (p Places) Check(keys []event.Key, found []*rooms.Event) error {
	for i, ev := range found {
		if ev != nil && ev.StateID() != keys[i] {
			// The tree knows keys by 60 bits of a keyed hash. Chance does not do this.
			return fmt.Errorf("state keys %v and %v of room %d have one hash", keys[i], ev.StateID(), ev.RoomNum)
		}
	}
	return nil
}

// CheckKnown is Check, but the error is statetree.ErrUnknown if one of the keys is that of a member who is not known.
func (p Places) CheckKnown(keys []event.Key, found []*rooms.Event) error {
	for i, ev := range found {
		if ev == nil && p.Holed && keys[i].Type == event.TypeMember {
			return fmt.Errorf("read %s in a state: %w", keys[i].StateKey, statetree.ErrUnknown)
		}
	}
	return p.Check(keys, found)
}

// StateEvents returns the committed events of a state at these keys, nil where there is none. The error is
// statetree.ErrUnknown if one of them is a member that is not known.
func (c *Cache) StateEvents(ctx context.Context, room rooms.Room, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	p, err := c.Find(ctx, room, tree, keys)
	if err != nil {
		return nil, err
	}
	found, err := c.Events(ctx, room, p.Nums)
	if err != nil {
		return nil, err
	}
	return found, p.CheckKnown(keys, found)
}
