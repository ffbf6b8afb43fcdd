// Package receive takes what other servers send for rooms, and fetches from others what that stands on.
//
// Events come through Receiver.Receive, rooms of other servers through Adopt, and history through Backfill. What these stand
// on is fetched through Remote before the owner of the room (roomserver/owner) sees any of it. Of partial rooms, Run fetches
// the members. Rooms that this server is not in have no owner: invites and knocks of its users are set aside here.
package receive

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Settings are the parts that a Receiver is made of.
type Settings struct {
	Owners *owner.Owners
	DB     *storage.DB
	Key    signing.Key // of the events that are made here
	Remote Remote      // nil: this server reaches no others
	Now    func() time.Time
	Log    *slog.Logger
}

// A Receiver takes what other servers send, and fetches from them what that stands on.
type Receiver struct {
	owners *owner.Owners
	db     *storage.DB
	name   matrix.ServerName
	key    signing.Key
	remote Remote
	now    func() time.Time
	log    *slog.Logger

	inbox inbox
	// MemberChunk is how many members of a partial room are stored in one step of its owner. It is not changed while Run
	// does.
	MemberChunk int
	// PolicyPatience is how long a policy server is waited for, for all events that came together.
	PolicyPatience time.Duration
}

// New makes a Receiver. It works at once; Run fetches the members of partial rooms.
func New(s Settings) *Receiver {
	return &Receiver{
		owners: s.Owners, db: s.DB, name: s.Owners.ServerName(), key: s.Key, remote: s.Remote, now: s.Now, log: s.Log,
		MemberChunk: memberChunk, PolicyPatience: policyPatience,
	}
}

// Run makes partial rooms whole, those of an earlier run among them, until ctx ends.
func (s *Receiver) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	c := s.newCompleter()
	tick := time.NewTicker(lookForPartials)
	defer tick.Stop()
	for {
		joins, err := rooms.OpenPartials(ctx, s.db)
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "partial rooms cannot be read", "error", err)
		}
		for _, join := range joins {
			if c.start(join.RoomNum) {
				all.Go(func() { c.complete(ctx, join.RoomNum) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.owners.PartialBegun():
		case <-tick.C:
		}
	}
}
