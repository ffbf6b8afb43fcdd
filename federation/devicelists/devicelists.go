// Package devicelists tells other servers that a device of a user of this one was added, renamed or removed: those that
// share a room with the user. It says nothing of keys, and nothing to a server into whose room a user comes: that asks
// for the list when it needs it.
//
// It is a reader of the log. What a server is to be told goes into the outbox, in one commit with the place up to which
// the log was read, so that a restart loses and repeats nothing. A change that is not delivered yet when the same device
// changes again is left out: its server finds that it misses one, and asks for the whole list.
//
// https://spec.matrix.org/v1.19/server-server-api/#device-management
package devicelists

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/users"
)

// Settings is what a Teller works with. All are required.
type Settings struct {
	DB         *storage.DB
	ServerName matrix.ServerName
	// Sharing returns the servers that share a room with a user now.
	Sharing func(context.Context, matrix.UserID) ([]matrix.ServerName, error)
	// Permits returns an error if nothing is ever sent to a server.
	Permits func(matrix.ServerName) error
	Now     func() time.Time
	Log     *slog.Logger
}

// Teller tells other servers of devices.
type Teller struct {
	Settings
	moved chan struct{} // capacity 1

	// Of Run alone.
	read  storage.Position        // in the log up to here there is nothing that was not told
	told  storage.Position        // as it is stored
	last  map[matrix.UserID]int64 // the stream IDs that were told last
	tries int                     // in vain, at one place
}

const (
	newsAtOnce      = 1024
	positionsAtOnce = 100
	rowsAtOnce      = 1000 // of the outbox, in one commit: more would keep others waiting
	maxLast         = 10_000

	lookAnyway = 30 * time.Second // at the log, in case that word of it was lost
	retryAfter = time.Second
	maxTries   = 5 // with one user
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
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			t.Log.Error("other servers are not told of devices yet", "cause", err)
			wait = retryAfter
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-t.moved:
			timer.Stop()
		}
	}
}

// follow tells of all that is new in the log.
func (t *Teller) follow(ctx context.Context) (err error) {
	if t.told == 0 {
		if t.told, err = servers.ToldOfDeviceLists(ctx, t.DB); err != nil {
			return fmt.Errorf("read up to where devices were told of: %w", err)
		}
		t.read = t.told
	}
	for {
		end, news := t.look()
		if !news {
			t.read = end
			return nil
		}
		for more := true; more; {
			if more, err = t.tellSome(ctx); err != nil {
				return err
			}
		}
		t.read = max(end, t.told)
	}
}

// look finds where the log ends, and whether it has news of devices that were not told. That is not known of what is no
// more in memory, and so the database is to be asked.
func (t *Teller) look() (end storage.Position, some bool) {
	end = t.read
	for {
		news, complete := t.DB.Since(end, newsAtOnce)
		if !complete {
			return t.DB.Position(), true
		}
		for _, n := range news {
			some = some || n.Kind == storage.NewsDeviceList
			end = n.Position
		}
		if len(news) < newsAtOnce {
			return end, some
		}
	}
}

// tellSome tells of the next changes, and says whether there may be more.
func (t *Teller) tellSome(ctx context.Context) (more bool, err error) {
	defer func() {
		if err != nil {
			clear(t.last) // it may have what was not stored
		}
	}()
	changes, err := users.DeviceChanges(ctx, t.DB, t.told, positionsAtOnce)
	if err != nil {
		return false, fmt.Errorf("read changes of devices: %w", err)
	}
	if len(changes) == 0 {
		return false, nil
	}
	var b batch
	for group := range positions(changes) {
		if err := t.gather(ctx, &b, group); err != nil {
			return false, err
		}
	}
	return true, t.commit(ctx, &b)
}

// positions parts changes by their position.
func positions(changes []users.DeviceChange) func(yield func([]users.DeviceChange) bool) {
	return func(yield func([]users.DeviceChange) bool) {
		for len(changes) > 0 {
			n := 1
			for n < len(changes) && changes[n].Position == changes[0].Position {
				n++
			}
			if !yield(changes[:n]) {
				return
			}
			changes = changes[n:]
		}
	}
}

// A batch is what is committed together.
type batch struct {
	writes storage.All
	rows   int
	upTo   storage.Position // all of it is in the writes, or was committed before
}

// gather adds the changes of one position, which are of one user. If there are too many for one commit, the first are
// committed without saying so: after a crash they are told again, as they were.
func (t *Teller) gather(ctx context.Context, b *batch, changes []users.DeviceChange) error {
	user := changes[0].User
	audience, err := t.audience(ctx, user)
	if err != nil {
		return err
	}
	prev, err := t.previous(ctx, user, changes[0].Position)
	if err != nil {
		return err
	}
	for _, c := range changes {
		content := update(c, prev)
		prev = c.StreamID
		for part := range slices.Chunk(audience, rowsAtOnce) {
			if b.rows+len(part) > rowsAtOnce {
				if err := t.commit(ctx, b); err != nil {
					return err
				}
			}
			b.rows += len(part)
			b.writes = append(b.writes, servers.OweEDU{
				Servers: part, Type: updateType, Key: string(c.User) + " " + string(c.Device), Content: content,
				NowMS: t.Now().UnixMilli(),
			})
		}
	}
	if len(t.last) >= maxLast {
		clear(t.last)
	}
	t.last[user] = prev
	b.upTo = changes[0].Position
	return nil
}

// previous returns the stream ID before that of a change.
func (t *Teller) previous(ctx context.Context, user matrix.UserID, at storage.Position) (int64, error) {
	if id, known := t.last[user]; known {
		return id, nil
	}
	id, err := users.DeviceStream(ctx, t.DB, user, at)
	if err != nil {
		return 0, fmt.Errorf("read what %s was told last: %w", user, err)
	}
	return id, nil
}

// commit stores a batch, and where that leaves off.
func (t *Teller) commit(ctx context.Context, b *batch) error {
	upTo := max(b.upTo, t.told)
	writes := append(b.writes, servers.DeviceListsTold{UpTo: upTo})
	*b = batch{upTo: b.upTo}
	if _, err := t.DB.Commit(ctx, writes); err != nil {
		return fmt.Errorf("store what servers are to be told of devices: %w", err)
	}
	t.told = upTo
	return nil
}

// audience returns the servers that are told of a user. If they cannot be found in many tries, that user is left out: one
// that is broken must not keep the others from being told.
func (t *Teller) audience(ctx context.Context, user matrix.UserID) (list []matrix.ServerName, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		if err == nil || ctx.Err() != nil {
			t.tries = 0
			return
		}
		if t.tries++; t.tries >= maxTries {
			t.Log.Error("other servers are not told of the devices of a user", "user", user, "cause", err)
			t.tries, list, err = 0, nil, nil
		}
	}()
	all, err := t.Sharing(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("servers that share a room with %s: %w", user, err)
	}
	for _, s := range all {
		if s != t.ServerName && t.Permits(s) == nil {
			list = append(list, s)
		}
	}
	return list, nil
}
