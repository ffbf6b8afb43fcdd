// Package roomserver is the only writer of rooms.
//
// A room has one owner, which takes one piece of work at a time and holds in memory what the next
// event stands on: forward extremities, current state, power levels. A piece of work is a step: a
// function from what the room is to what it becomes and what is to be stored for that. The owner may
// step on from what is queued but not yet committed; should that commit fail, it goes back to the
// last committed state, and the work that built on it is done again. Nobody is answered, and nothing
// is shown, before it is committed.
//
// Events of other servers come through Receive, rooms of other servers through Adopt, and their history through
// Backfill. What these stand on is fetched through Remote before the owner sees any of it: an owner never waits
// for the network. Where branches of a room meet, its state is resolved (event/stateres) from the states that
// are kept with the events.
//
// Errors that a caller may see are matrix.Errors. What events look like to a client, and which of them
// a user may see, is the business of roomserver/view; typing and presence are in roomserver/ephemeral.
package roomserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Settings are the parts a Server is made of. All but Remote are required.
type Settings struct {
	DB             *storage.DB
	ServerName     matrix.ServerName
	Key            signing.Key
	Profiles       Profiles
	Remote         Remote             // nil: this server reaches no others
	DefaultVersion matrix.RoomVersion // of new rooms
	Now            func() time.Time
	Rand           io.Reader
	Log            *slog.Logger
}

// Profiles tells how users of this server show themselves. accounts implements it.
type Profiles interface {
	// Profile returns a JSON value for each field of a profile; NotFound for a user who does not exist.
	Profile(ctx context.Context, user matrix.UserID) (map[string]json.RawMessage, error)
}

// What the caches of all rooms together may take.
const (
	treeCacheBytes   = 32 << 20
	eventCacheBytes  = 48 << 20
	roomCacheEntries = 50_000
	idCacheEntries   = 40_000
)

// An eventName is an event ID in its room: in old versions others choose the IDs, so it is unique there only.
type eventName struct {
	room int64
	id   matrix.EventID
}

// A Server serves the rooms of one database.
type Server struct {
	db       *storage.DB
	name     matrix.ServerName
	key      signing.Key
	profiles Profiles
	remote   Remote
	version  matrix.RoomVersion
	now      func() time.Time
	rand     io.Reader
	log      *slog.Logger

	trees       *statetree.Store
	hasher      statetree.Hasher
	events      *lru[int64, *rooms.Event]       // committed events by number
	ids         *lru[eventName, int64]          // their numbers
	known       *lru[matrix.RoomID, rooms.Room] // what never changes about rooms
	unnamed     unnamed
	collector   *collect.Collector
	inbox       inbox
	policies    policies
	txns        *txns
	partials    *partials
	memberChunk int          // of a partial room, stored in one step of its owner
	generations atomic.Int64 // of owners: never one twice
	changes     atomic.Int64 // committed changes of events, counted before they reach the cache

	mu     sync.Mutex
	owners map[matrix.RoomID]*owner
}

// New makes a Server. It works at once; Run tidies up after it, and fetches the members of partial rooms.
func New(s Settings) *Server {
	hasher := statetree.NewHasher(s.DB.Secret())
	if s.Remote == nil {
		s.Remote = alone{}
	}
	server := &Server{
		db: s.DB, name: s.ServerName, key: s.Key, profiles: s.Profiles, remote: s.Remote, version: s.DefaultVersion,
		now: s.Now, rand: s.Rand, log: s.Log,
		hasher: hasher,
		trees: statetree.New(statetree.Settings{
			Hasher: hasher, Loader: nodeLoader{s.DB}, CacheBytes: treeCacheBytes,
			NextID: func() statetree.NodeID { return statetree.NodeID(s.DB.NextNumber()) },
			Filled: func(ctx context.Context, hole statetree.Hole) (statetree.NodeID, bool, error) {
				return rooms.MembersOfHole(ctx, s.DB, hole)
			},
		}),
		events:   newLRU[int64, *rooms.Event](eventCacheBytes),
		ids:      newLRU[eventName, int64](idCacheEntries),
		known:    newLRU[matrix.RoomID, rooms.Room](roomCacheEntries),
		txns:     newTxns(s.DB.Secret()),
		partials: newPartials(), memberChunk: memberChunk,
		owners: make(map[matrix.RoomID]*owner),
	}
	server.collector = collect.New(collect.Settings{DB: s.DB, Hasher: hasher, Owners: collectOwners{server}, Now: s.Now, Log: s.Log})
	return server
}

// sweepEvery is how often Run looks for idle rooms.
const sweepEvery = time.Minute

// Run unloads idle rooms, makes partial rooms whole, and collects state nodes that are not needed, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.sweepIdle(ctx) })
	group.Go(func() error { return s.completeRooms(ctx) })
	group.Go(func() error { return s.collectNodes(ctx) })
	return group.Wait()
}

func (s *Server) sweepIdle(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep(s.now())
		}
	}
}

// ServerName is the name this server's users and events carry.
func (s *Server) ServerName() matrix.ServerName { return s.name }

// Room returns what never changes about a room: NotFound if this server does not know it.
func (s *Server) Room(ctx context.Context, id matrix.RoomID) (rooms.Room, error) {
	if room, ok := s.known.get(id); ok {
		return room, nil
	}
	room, found, err := rooms.ByID(ctx, s.db, id)
	switch {
	case err != nil:
		return rooms.Room{}, fmt.Errorf("find room %s: %w", id, err)
	case !found:
		return rooms.Room{}, noRoomError{matrix.Errorf(matrix.NotFound, "this server does not know the room %s", id)}
	}
	s.known.add(id, room, 1)
	return room, nil
}

// noRoomError says that this server is not in a room, or knows nothing of it.
type noRoomError struct{ answer *matrix.Error }

func (e noRoomError) Error() string { return e.answer.Error() }
func (e noRoomError) Unwrap() error { return e.answer }

func (s *Server) isLocal(user matrix.UserID) bool { return user.Server() == s.name }

// nodeLoader reads state trees from the database.
type nodeLoader struct{ db *storage.DB }

func (l nodeLoader) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return rooms.StateNodes(ctx, l.db, ids, found)
}
