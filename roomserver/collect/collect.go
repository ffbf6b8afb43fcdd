// Package collect deletes nodes of state trees that no state needs any more (docs/decisions/0032-collecting-state-nodes.md).
//
// What is deleted wrongly is the state of a room, and cannot be had again. So a node is deleted only if two looks agree that
// nothing needs it, at least [Wait] apart and each at the database as it then is:
//
//   - The first walks down from all roots of the room, which it finds by the room's indexes, and notes the nodes in doubt that
//     it did not meet.
//   - The second comes from the other side. It reads the tables themselves, and takes a note back if any row names the node
//     as a root, or any node of the room that is not noted names it.
//
// Between the second look and the deletion the room goes on. Its owner watches what its steps name, and ends the look if
// that is a noted node; and it refuses a step that names a deleted one, which nothing in memory should be able to come to.
//
// Only rooms about which there is a doubt are looked at (rooms.Doubt), and of these only nodes made since. A look works in
// slices, between which it rests longer than it has worked, and takes some 30 MB at most, however many nodes there are.
package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Wait is how long the notes on a room stand before its nodes are looked at again and deleted.
const Wait = time.Hour

// Settings are the parts of a Collector. All but Rest are required.
type Settings struct {
	DB     *storage.DB
	Owners *owner.Owners
	Now    func() time.Time
	Rest   func(context.Context, time.Duration) // returns after a time, or when the context ends; nil: by a timer
	Log    *slog.Logger
}

// A Collector collects the nodes of all rooms of a database. One look at a time.
type Collector struct {
	Settings
	limits
}

// limits are those of a look.
type limits struct {
	nodes   int   // noted, or in doubt, that are looked at together; not less than numbers
	seen    int   // others that a walk remembers
	numbers int64 // row numbers of a table that are read at once
	writes  int   // rows written in one commit
}

// maxRest bounds a rest, as clocks are set now and then.
const maxRest = time.Second

// New returns a Collector.
func New(s Settings) *Collector {
	if s.Rest == nil {
		s.Rest = wait
	}
	return &Collector{s, limits{nodes: 1 << 20, seen: 1 << 18, numbers: 8192, writes: 1000}}
}

// lookEvery is how often Run looks for state nodes that are not needed.
const lookEvery = 10 * time.Minute

// Run collects state nodes until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.Look(ctx); err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "state nodes cannot be collected", "error", err)
		}
	}
}

// Look looks once at each room about which there are doubts. Of one that was not looked at it notes the nodes that nothing
// needs, of one that was it deletes them if it is time to. A room that fails does not keep the others from their look.
func (c *Collector) Look(ctx context.Context) error {
	for last := int64(0); ; {
		next, err := rooms.DoubtedRooms(ctx, c.DB, last, 1) // as it is now: a look may take hours
		if err != nil {
			return fmt.Errorf("find rooms with state nodes in doubt: %w", err)
		}
		if len(next) == 0 {
			return ctx.Err()
		}
		last = next[0].RoomNum
		if err := c.lookAt(ctx, next[0]); err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "state nodes of a room cannot be collected", "room", last, "error", err)
		}
	}
}

func (c *Collector) lookAt(ctx context.Context, d rooms.Doubted) (err error) {
	found, err := rooms.ByNumbers(ctx, c.DB, []int64{d.RoomNum})
	if err != nil {
		return fmt.Errorf("find room %d: %w", d.RoomNum, err)
	}
	room, known := found[d.RoomNum]
	if !known {
		return matrix.Errorf(matrix.NotFound, "there is no room %d", d.RoomNum)
	}
	l := &look{Collector: c, room: room, upTo: c.DB.NextNumber(), began: c.Now()}
	switch {
	case c.Owners.Unnamed(room.Num): // asked after upTo was taken: what is stored from now on is above it
		return nil
	case !d.Noted:
		return l.note(ctx, d.First)
	case l.began.Sub(time.UnixMilli(d.NotedMS)) < Wait:
		return nil
	}
	err = l.sweep(ctx)
	if errors.Is(err, owner.ErrDisturbed) {
		c.Log.InfoContext(ctx, "state nodes are collected later", "room", room.ID, "why", err)
		return nil
	}
	return err
}

// A look is one look at a room.
type look struct {
	*Collector
	room  rooms.Room
	upTo  int64     // nodes and events that were stored before have no number above it
	began time.Time // of the slice that is worked on
}

// rest lets others work, three times as long as the last slice took.
func (l *look) rest(ctx context.Context) error {
	l.Rest(ctx, min(3*l.Now().Sub(l.began), maxRest))
	l.began = l.Now()
	return ctx.Err()
}

// wait returns after a time, or when the context ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// commit stores a slice.
func (l *look) commit(ctx context.Context, w storage.Write) error {
	if _, err := l.DB.Commit(ctx, w); err != nil {
		return fmt.Errorf("store what was found out about the state nodes of %s: %w", l.room.ID, err)
	}
	return l.rest(ctx)
}
