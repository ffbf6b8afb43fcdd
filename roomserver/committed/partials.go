package committed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Partials lets requests wait for members, wakes who fetches them, and remembers that no room is partial: that is asked with
// each sync.
type Partials struct {
	Begun chan struct{} // of capacity 1: there is another partial room

	mu      sync.Mutex
	waiting map[int64]chan struct{} // by room number: closed when the room is whole
	waiters int                     // requests that wait now
	joining int                     // joins on their way to the database, by which rooms become partial
	quiet   bool                    // no room is partial, or on its way to be,
	since   storage.Position        // nor was any after this
	changes int64                   // how often that may have become untrue
}

// NewPartials makes Partials that know of no room yet.
func NewPartials() *Partials {
	return &Partials{waiting: make(map[int64]chan struct{}), Begun: make(chan struct{}, 1)}
}

// Begin tells that a room is about to be partial, and done that it is, or will not be.
func (p *Partials) Begin() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joining++
	p.quiet = false
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.joining--
		p.changes++
		select {
		case p.Begun <- struct{}{}:
		default:
		}
	}
}

// whole returns what is closed when a room is whole.
func (p *Partials) whole(room int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := p.waiting[room]
	if ch == nil {
		ch = make(chan struct{})
		p.waiting[room] = ch
	}
	return ch
}

// await waits until what is told by whole, or for waitAgain.
func (p *Partials) await(ctx context.Context, whole <-chan struct{}) error {
	p.count(1)
	defer p.count(-1)
	select {
	case <-whole:
	case <-time.After(waitAgain):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

func (p *Partials) count(waiters int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters += waiters
}

// End tells that a room is whole, or left.
func (p *Partials) End(room int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.waiting[room]; ch != nil {
		close(ch)
		delete(p.waiting, room)
	}
}

// none says whether surely no room is partial.
func (p *Partials) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet
}

// noneSince says whether surely no room has been partial after a position, and how often that may have changed.
func (p *Partials) noneSince(at storage.Position) (none bool, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet && at >= p.since, p.changes
}

// learn notes that no room is partial, nor was any after a position, unless that may have changed since it was found out.
func (p *Partials) learn(since storage.Position, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.joining == 0 && p.changes == changes {
		p.quiet, p.since = true, since
	}
}

// waitForMembers is how long a request waits for the members of a room, and waitAgain how often it looks whether nobody has
// told it that they have come.
const (
	waitForMembers = 45 * time.Second
	waitAgain      = 5 * time.Second
)

// PartialSince returns the joins of the rooms that are partial, or were at some time after a position. It costs nothing
// where there are none.
func (r *Rooms) PartialSince(ctx context.Context, at storage.Position) ([]rooms.PartialJoin, error) {
	none, changes := r.partials.noneSince(at)
	if none {
		return nil, nil
	}
	joins, err := rooms.PartialSince(ctx, r.db, at)
	if err != nil {
		return nil, fmt.Errorf("find partial rooms: %w", err)
	}
	if len(joins) == 0 {
		r.partials.learn(at, changes)
	}
	return joins, nil
}

// IsPartial says whether this server does not know all the members of a room yet.
func (r *Rooms) IsPartial(ctx context.Context, room rooms.Room) (bool, error) {
	_, partial, err := rooms.PartialOf(ctx, r.db, room.Num)
	if err != nil {
		return false, fmt.Errorf("find out whether %s is partial: %w", room.ID, err)
	}
	return partial, nil
}

// AwaitMembers waits until all members of a room are known, for a time. The error is then that they are not.
func (r *Rooms) AwaitMembers(ctx context.Context, room rooms.Room) error {
	if r.partials.none() {
		return nil
	}
	partial, err := r.IsPartial(ctx, room)
	if err != nil || !partial {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, waitForMembers, ErrPartial)
	defer cancel()
	for {
		whole := r.partials.whole(room.Num)
		if partial, err = r.IsPartial(ctx, room); err != nil {
			return err
		}
		if !partial {
			r.partials.End(room.Num) // which forgets what was just made to wait
			return nil
		}
		if err := r.partials.await(ctx, whole); err != nil {
			return err
		}
	}
}

// ErrPartial says that the members of a room were waited for in vain.
var ErrPartial = matrix.Errorf(matrix.UnableDueToPartialState, "the members of the room are still being fetched").WithStatus(503)

// MayBeIn says whether a server has a user in a room: for certain, or, in a partial room, because it had one when this
// server came in.
func (r *Rooms) MayBeIn(ctx context.Context, room rooms.Room, server matrix.ServerName) (bool, error) {
	in, err := rooms.HasJoined(ctx, r.db, room.Num, server)
	if err == nil && !in {
		var join rooms.PartialJoin
		join, _, err = rooms.PartialOf(ctx, r.db, room.Num)
		in = slices.Contains(join.Servers, server)
	}
	if err != nil {
		err = fmt.Errorf("find out whether %s is in %s: %w", server, room.ID, err)
	}
	return in, err
}

// MayBeJoined says whether a user is in a room: for certain, or, of one whom nobody knows here yet, whether its server was
// in the room when this server came in.
func (r *Rooms) MayBeJoined(ctx context.Context, room rooms.Room, user matrix.UserID) (bool, error) {
	m, found, err := rooms.MembershipOf(ctx, r.db, room.Num, user)
	if err != nil {
		return false, fmt.Errorf("find the membership of %s in %s: %w", user, room.ID, err)
	}
	if found || r.IsLocal(user) {
		return m.Membership == event.Join, nil
	}
	join, _, err := rooms.PartialOf(ctx, r.db, room.Num)
	if err != nil {
		return false, fmt.Errorf("find out whether %s is partial: %w", room.ID, err)
	}
	return slices.Contains(join.Servers, user.Server()), nil
}

// Awaited returns for how many rooms somebody may be waiting for members, and how many requests do.
func (r *Rooms) Awaited() (ofRooms, requests int) {
	r.partials.mu.Lock()
	defer r.partials.mu.Unlock()
	return len(r.partials.waiting), r.partials.waiters
}

// IsAwaited says whether somebody may be waiting for the members of a room.
func (r *Rooms) IsAwaited(room rooms.Room) bool {
	r.partials.mu.Lock()
	defer r.partials.mu.Unlock()
	return r.partials.waiting[room.Num] != nil
}

// IsUnknown says whether an error came of a member that is not known yet.
func IsUnknown(err error) bool { return errors.Is(err, statetree.ErrUnknown) }
