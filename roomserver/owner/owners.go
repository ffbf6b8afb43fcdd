// Package owner is the one writer of each room.
//
// A room has one owner, which takes one piece of work at a time and holds in memory what the next
// event stands on: forward extremities, current state, power levels. A piece of work is a Step: a
// function from what the room is to what it becomes and what is to be stored for that. The owner may
// step on from what is queued but not yet committed; should that commit fail, it goes back to the
// last committed state, and the work that built on it is done again. Nobody is answered, and nothing
// is shown, before it is committed.
//
// An owner never waits for the network. Events of other servers come to it with all that they stand on, and Hints of what is
// here already; those of our own are Drafts. Both pass the same stations: check, state before, auth, soft failure, store.
// Where branches of a room meet, its state is resolved (event/stateres) from the states that are kept with the events.
//
// What users want of rooms, and what of it is refused beside the rules of the room, is for the packages above.
package owner

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Settings are the parts that Owners are made of.
type Settings struct {
	DB         *storage.DB
	ServerName matrix.ServerName
	Key        signing.Key // of the events that are made here
	Now        func() time.Time
	Log        *slog.Logger

	// PolicySign asks the policy server of a room for its signature of an event, as policy.New says.
	PolicySign func(context.Context, policy.Server, *event.Event) (*event.Event, error)
}

// Owners are the owners of all rooms that are in use.
type Owners struct {
	*committed.Rooms
	db       *storage.DB
	name     matrix.ServerName
	key      signing.Key
	now      func() time.Time
	log      *slog.Logger
	cache    *committed.Cache
	partials *committed.Partials
	policies *policy.Servers

	generations atomic.Int64 // of owners: never one twice
	unnamed     unnamed
	resolutions atomic.Int64
	stepEffort  int // what a step resolves before it takes no other event

	mu     sync.Mutex
	loaded map[matrix.RoomID]*owner
}

// New makes Owners. They work at once; Run tidies up after them.
func New(s Settings) *Owners {
	o := &Owners{
		db: s.DB, name: s.ServerName, key: s.Key, now: s.Now, log: s.Log,
		cache: committed.NewCache(s.DB), partials: committed.NewPartials(),
		policies:   policy.New(s.ServerName, s.Now, s.PolicySign),
		stepEffort: maxStepEffort,
		loaded:     make(map[matrix.RoomID]*owner),
	}
	o.Rooms = committed.NewRooms(o.cache, o.partials, s.ServerName, o.committedRoot)
	return o
}

// Resolutions returns how often states of rooms were resolved.
func (s *Owners) Resolutions() int64 { return s.resolutions.Load() }

// PartialBegun receives when another room has become partial, for its members to be fetched.
func (s *Owners) PartialBegun() <-chan struct{} { return s.partials.Begun }

// committedRoot returns the committed state of a room that is loaded.
func (s *Owners) committedRoot(id matrix.RoomID) (statetree.NodeID, bool) {
	s.mu.Lock()
	o := s.loaded[id]
	s.mu.Unlock()
	if o == nil {
		return 0, false
	}
	o.flights.mu.Lock()
	defer o.flights.mu.Unlock()
	if o.flights.committed == nil {
		return 0, false
	}
	return o.flights.committed.state.Root(), true
}

// An owner is the one writer of a room. Whoever has work for the room does it as the owner, under its
// lock: there is no goroutine per room. The lock is held for a step and for handing its result to the
// committer, never while waiting for the commit.
type owner struct {
	room    rooms.Room
	waiting atomic.Int32 // callers that hold or want the lock

	mu         sync.Mutex
	tip        *tip // what the next step stands on; nil until loaded
	generation int64
	last       *flight // handed to the committer last
	gone       bool    // unloaded: look the owner up again
	fenced     bool    // a step panicked
	used       time.Time
	graph      authGraph
	watch      *NodeWatch // nil: no state nodes of the room were deleted since it was loaded, nor will be

	flights flights
}

// unnamed counts, by room number, the trees that are being stored and that nothing names yet.
type unnamed struct {
	mu    sync.Mutex
	trees map[int64]int
}
