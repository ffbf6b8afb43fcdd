// Package roomserver is the only writer of rooms. A Server is made of parts, each a package of its own, which go down only:
//
//	collect            deletes state nodes that no state needs any more
//	local   resident   what users of this server, and of others, want of rooms
//	receive            what other servers send, and what has to be fetched for it
//	member             what member events say, and who vouches for them
//	owner              the one writer of each room, and the stations that events pass
//	committed          rooms as they are committed    policy   the policy servers of rooms
//
// Errors that a caller may see are matrix.Errors. What events look like to a client, and which of them
// a user may see, is the business of roomserver/view; typing and presence are in roomserver/ephemeral.
package roomserver

import (
	"context"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/local"
	"github.com/myelin-chat/myelin/roomserver/member"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/roomserver/resident"
	"github.com/myelin-chat/myelin/storage"
)

// Settings are the parts a Server is made of. All but Remote are required.
type Settings struct {
	DB             *storage.DB
	ServerName     matrix.ServerName
	Key            signing.Key
	Profiles       member.Profiles
	Remote         receive.Remote     // nil: this server reaches no others
	DefaultVersion matrix.RoomVersion // of new rooms
	Now            func() time.Time
	Rand           io.Reader
	Log            *slog.Logger
}

// A Server serves the rooms of one database.
type Server struct {
	*committed.Rooms  // as they are committed
	*receive.Receiver // what other servers send
	*local.Users      // what users of this server do
	*resident.Host    // what users of other servers do in rooms that this server is in

	owners    *owner.Owners
	collector *collect.Collector
}

// New makes a Server. It works at once; Run tidies up after it, and fetches the members of partial rooms.
func New(s Settings) *Server {
	if s.Remote == nil {
		s.Remote = receive.Alone()
	}
	owners := owner.New(owner.Settings{DB: s.DB, ServerName: s.ServerName, Key: s.Key, Now: s.Now, Log: s.Log, PolicySign: s.Remote.PolicySign})
	people := member.NewPeople(owners.Rooms, s.DB, s.Profiles)
	receiver := receive.New(receive.Settings{Owners: owners, DB: s.DB, Key: s.Key, Remote: s.Remote, Now: s.Now, Log: s.Log})
	return &Server{
		Rooms: owners.Rooms, Receiver: receiver, owners: owners,
		Users: local.New(local.Settings{
			Owners: owners, Receiver: receiver, People: people, DB: s.DB, DefaultVersion: s.DefaultVersion, Now: s.Now, Rand: s.Rand,
		}),
		Host:      resident.New(resident.Settings{Owners: owners, Receiver: receiver, People: people, DB: s.DB, Key: s.Key}),
		collector: collect.New(collect.Settings{DB: s.DB, Owners: owners, Now: s.Now, Log: s.Log}),
	}
}

// Run unloads idle rooms, makes partial rooms whole, and collects state nodes that are not needed, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.owners.Run(ctx) })
	group.Go(func() error { return s.Receiver.Run(ctx) })
	group.Go(func() error { return s.collector.Run(ctx) })
	return group.Wait()
}

// Collect looks once at the rooms that may have state nodes which no state needs. Those that it notes it deletes when it is
// called again after collect.Wait, if nothing needs them then. Run does so from time to time.
func (s *Server) Collect(ctx context.Context) error { return s.collector.Look(ctx) }
