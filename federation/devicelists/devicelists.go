// Package devicelists tells other servers of the devices of users of this one: that a device was added, renamed or
// removed, to those that share a room with the user; and which devices there are, to those that do so since the user came
// into a room. It says nothing of keys.
//
// It is a reader of the log. What a server is to be told goes into the outbox, and the place up to which the log was read
// is stored with it or after it, so that a restart loses nothing, and repeats at most what was told since. A change that
// is not delivered yet when the same device changes again is left out: its server finds that it misses one, and asks for
// the whole list.
//
// https://spec.matrix.org/v1.19/server-server-api/#device-management
package devicelists

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/users"
)

// Settings is what a Teller works with. All are required.
type Settings struct {
	DB         *storage.DB
	ServerName matrix.ServerName
	Rooms      Rooms
	// Permits returns an error if nothing is ever sent to a server.
	Permits func(matrix.ServerName) error
	Now     func() time.Time
	Log     *slog.Logger
}

// Rooms says who is to be told. audience.Rooms implements it.
type Rooms interface {
	// Sharing returns the servers that share a room with a user now.
	Sharing(context.Context, matrix.UserID) ([]matrix.ServerName, error)
	// SharingOnly returns those that share this room with a user now, and no other.
	SharingOnly(context.Context, matrix.UserID, matrix.RoomID) ([]matrix.ServerName, error)
}

// Teller tells other servers of devices.
type Teller struct {
	Settings
	moved chan struct{} // capacity 1

	// Of Run alone.
	begun bool
	read  storage.Position        // all that is in the log up to here was told
	told  storage.Position        // as it is stored
	last  map[matrix.UserID]int64 // the stream IDs that were told last
	tries int                     // in vain, with one user
}

const (
	newsAtOnce      = 1024
	positionsAtOnce = 100
	saveEvery       = 10_000 // positions read with nothing to tell

	lookAnyway = 30 * time.Second // at the log, in case that word of it was lost
	retryAfter = time.Second
	stopTime   = 500 * time.Millisecond
)

// New makes a teller, who is silent until Run.
func New(s Settings) *Teller {
	return &Teller{Settings: s, moved: make(chan struct{}, 1), last: map[matrix.UserID]int64{}}
}

// Wake says that the log moved, or that word of it may have been lost. It does not block.
func (t *Teller) Wake() {
	select {
	case t.moved <- struct{}{}:
	default:
	}
}

// Run tells until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	for {
		wait := lookAnyway
		if err := t.Follow(ctx); err != nil && ctx.Err() == nil {
			t.Log.Error("other servers are not told of devices yet", "cause", err)
			wait = retryAfter
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return t.finish()
		case <-timer.C:
		case <-t.moved:
			timer.Stop()
		}
	}
}

// finish stores how far the log was read.
func (t *Teller) finish() error {
	if t.read <= t.told {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return t.commit(ctx, &batch{upTo: t.read})
}

// Follow tells of all that is new in the log. Run does so whenever there is something; nobody else calls it meanwhile.
func (t *Teller) Follow(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			clear(t.last) // it may have what was not stored
		}
	}()
	if !t.begun {
		if t.told, err = servers.ToldOfDeviceLists(ctx, t.DB); err != nil {
			return fmt.Errorf("read up to where devices were told of: %w", err)
		}
		t.read, t.begun = t.told, true
	}
	for {
		end, some := t.look()
		if some {
			err = t.tell(ctx, end)
		} else if end-t.told >= saveEvery {
			err = t.commit(ctx, &batch{upTo: end})
		}
		if err != nil {
			return err
		}
		t.read = end
		if !some {
			return nil
		}
	}
}

// look finds where the log ends, and whether it has anything of interest. That is not known of what is no more in memory,
// and so the database is to be asked.
func (t *Teller) look() (end storage.Position, some bool) {
	end = t.read
	for {
		news, complete := t.DB.Since(end, newsAtOnce)
		if !complete {
			return t.DB.Position(), true
		}
		for _, n := range news {
			aMove := n.Kind == storage.NewsEvent && n.User != "" && n.User.Server() == t.ServerName
			some = some || n.Kind == storage.NewsDeviceList || aMove
			end = n.Position
		}
		if len(news) < newsAtOnce {
			return end, some
		}
	}
}

// tell tells of what is new up to a position. Joins come first: with the changes is stored how far the log was read.
func (t *Teller) tell(ctx context.Context, upTo storage.Position) error {
	joins, err := rooms.JoinsIn(ctx, t.DB, storage.Span{After: t.read, UpTo: upTo})
	if err != nil {
		return fmt.Errorf("read joins: %w", err)
	}
	b := &batch{}
	for _, j := range joins {
		if j.User.Server() != t.ServerName {
			continue
		}
		if err := t.joined(ctx, b, j); err != nil {
			return err
		}
	}
	span := storage.Span{After: t.read, UpTo: upTo}
	for {
		changes, err := users.DeviceChanges(ctx, t.DB, span, positionsAtOnce)
		if err != nil {
			return fmt.Errorf("read changes of devices: %w", err)
		}
		for group := range byPosition(changes) {
			if err := t.changed(ctx, b, group); err != nil {
				return err
			}
		}
		if len(b.writes) > 0 {
			if err := t.commit(ctx, b); err != nil {
				return err
			}
		}
		if len(changes) == 0 {
			return nil
		}
		span.After = changes[len(changes)-1].Position
	}
}
