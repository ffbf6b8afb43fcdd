package devicelists

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/users"
)

const (
	rowsAtOnce = 1000 // of the outbox, in one commit: more would keep others waiting
	maxLast    = 10_000
	maxTries   = 5 // with one user
)

// A batch is what is committed together.
type batch struct {
	writes storage.All
	rows   int
	upTo   storage.Position // all up to here is in the writes, or was committed before
}

// byPosition parts changes by their position.
func byPosition(changes []users.DeviceChange) iter.Seq[[]users.DeviceChange] {
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

// changed adds the changes of one position, which are of one user.
func (t *Teller) changed(ctx context.Context, b *batch, changes []users.DeviceChange) error {
	user := changes[0].User
	audience, err := t.audience(ctx, user, func() ([]matrix.ServerName, error) { return t.Rooms.Sharing(ctx, user) })
	if err != nil {
		return err
	}
	prev, err := t.previous(ctx, user, changes[0].Position)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := t.owe(ctx, b, audience, about{c, prev}); err != nil {
			return err
		}
		prev = c.StreamID
	}
	if len(t.last) >= maxLast {
		clear(t.last)
	}
	t.last[user] = prev
	b.upTo = changes[0].Position
	return nil
}

// joined adds the devices of a user who came into a room, for the servers that share no other room with the user. Each is
// told of as by its last change, so that the list of the other server is as if it had heard of it then.
func (t *Teller) joined(ctx context.Context, b *batch, j rooms.Join) error {
	audience, err := t.audience(ctx, j.User, func() ([]matrix.ServerName, error) {
		return t.Rooms.SharingOnly(ctx, j.User, j.Room)
	})
	if err != nil || len(audience) == 0 {
		return err
	}
	changes, err := users.DeviceChangesOf(ctx, t.DB, j.User)
	if err != nil {
		return fmt.Errorf("read the devices of %s: %w", j.User, err)
	}
	prev := int64(0)
	for _, c := range changes {
		if c.DisplayName == nil {
			continue
		}
		if err := t.owe(ctx, b, audience, about{c, prev}); err != nil {
			return err
		}
		prev = c.StreamID
	}
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

// owe adds what servers are told of a device. If that is too much for one commit, what was added before is committed, or
// a part of this: after a crash it is told again, as it was.
func (t *Teller) owe(ctx context.Context, b *batch, audience []matrix.ServerName, a about) error {
	key, content := string(a.User)+" "+string(a.Device), a.content()
	for part := range slices.Chunk(audience, rowsAtOnce) {
		if b.rows+len(part) > rowsAtOnce {
			if err := t.commit(ctx, b); err != nil {
				return err
			}
		}
		b.rows += len(part)
		b.writes = append(b.writes, servers.OweEDU{
			Servers: part, Type: updateType, Key: key, Content: content, NowMS: t.Now().UnixMilli(),
		})
	}
	return nil
}

// commit stores a batch, and how far that goes.
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

// audience returns those whom find finds and who may be told. If they cannot be found in many tries, the user is left out:
// one that is broken must not keep the others from being told.
func (t *Teller) audience(ctx context.Context, user matrix.UserID, find func() ([]matrix.ServerName, error)) (list []matrix.ServerName, err error) {
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
	all, err := find()
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
