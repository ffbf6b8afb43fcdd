package roomserver

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

// A room is partial while this server does not know all its members: a join to a large room is answered before they have
// come (docs/decisions/0033-partial-state.md). Its states have a hole, and reading an unknown member is
// statetree.ErrUnknown. Nobody takes that for "not there" but where this is the safe thing to do, and says so.

// partial is what an owner keeps of a partial room.
type partial struct {
	rooms.PartialJoin
	listed *listed
}

// listed are the numbers of events that are to be checked again, the latest first. A list goes on from another without
// changing it, as tips do.
type listed struct {
	num    int64
	before *listed
}

// inOrder returns the numbers in the order in which they were listed.
func (l *listed) inOrder() []int64 {
	var nums []int64
	for ; l != nil; l = l.before {
		nums = append(nums, l.num)
	}
	slices.Reverse(nums)
	return nums
}

// loadPartial reads what an owner keeps of a partial room; nil of another.
func (s *Server) loadPartial(ctx context.Context, room rooms.Room) (*partial, error) {
	join, found, err := rooms.PartialOf(ctx, s.db, room.Num)
	if err != nil || !found {
		return nil, err
	}
	nums, err := rooms.PartialEvents(ctx, s.db, room.Num)
	if err != nil {
		return nil, err
	}
	p := &partial{PartialJoin: join}
	for _, num := range nums {
		p.listed = &listed{num, p.listed}
	}
	return p, nil
}

// beginPartial makes the room partial from the join on that the step has taken.
func (st *step) beginPartial(join rooms.PartialJoin) {
	st.begins = &join
	st.tip.partial = &partial{PartialJoin: join}
}

// enlist notes an event of a partial room, to be checked again. It returns its place in the order of them.
func (st *step) enlist(num int64) int64 {
	p := *st.tip.partial
	p.listed = &listed{num, p.listed}
	st.tip.partial = &p
	return st.server.db.NextNumber()
}

// knownIn returns the events of a state at these keys, nil where there is none, and nil for members that are not known.
func (st *step) knownIn(ctx context.Context, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, _, err := st.server.knownEvents(ctx, st.source, tree, keys)
	return found, err
}

// citedIn returns the events of a state by which an event is judged. Where members are not known it takes its word: those
// of its auth events that stand in their place. They have been judged themselves, and so has the event by them, but that
// they are out of date nobody here can tell yet.
func (st *step) citedIn(ctx context.Context, ev *event.Event, tree statetree.Tree, keys []event.Key) ([]*rooms.Event, error) {
	found, err := st.knownIn(ctx, tree, keys)
	if err != nil {
		return nil, err
	}
	cited, err := st.authEvents(ctx, ev)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		if found[i] != nil || key.Type != event.TypeMember {
			continue
		}
		for _, a := range cited {
			if a.Kind != rooms.Rejected && a.IsState() && a.StateID() == key {
				found[i] = a
			}
		}
	}
	return found, nil
}

// unlessUnknown drops the error that a member is not known.
func unlessUnknown(err error) error {
	if errors.Is(err, statetree.ErrUnknown) {
		return nil
	}
	return err
}

// waitForMembers is how long a request waits for the members of a room, and waitAgain how often it looks whether nobody has
// told it that they have come.
const (
	waitForMembers = 45 * time.Second
	waitAgain      = 5 * time.Second
)

// partials lets requests wait for members, wakes who fetches them, and remembers that no room is partial: that is asked with
// each sync.
type partials struct {
	begun chan struct{} // capacity 1: there is another partial room

	mu      sync.Mutex
	waiting map[int64]chan struct{} // by room number: closed when the room is whole
	joining int                     // joins on their way to the database, by which rooms become partial
	quiet   bool                    // no room is partial, or on its way to be,
	since   storage.Position        // nor was any after this
	changes int64                   // how often that may have become untrue
}

func newPartials() *partials {
	return &partials{waiting: make(map[int64]chan struct{}), begun: make(chan struct{}, 1)}
}

// begin tells that a room is about to be partial, and done that it is, or will not be.
func (p *partials) begin() (done func()) {
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
		case p.begun <- struct{}{}:
		default:
		}
	}
}

// whole returns what is closed when a room is whole.
func (p *partials) whole(room int64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := p.waiting[room]
	if ch == nil {
		ch = make(chan struct{})
		p.waiting[room] = ch
	}
	return ch
}

// end tells that a room is whole, or left.
func (p *partials) end(room int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.waiting[room]; ch != nil {
		close(ch)
		delete(p.waiting, room)
	}
}

// none says whether surely no room is partial.
func (p *partials) none() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet
}

// noneSince says whether surely no room has been partial after a position, and how often that may have changed.
func (p *partials) noneSince(at storage.Position) (none bool, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quiet && at >= p.since, p.changes
}

// learn notes that no room is partial, nor was any after a position, unless that may have changed since it was found out.
func (p *partials) learn(since storage.Position, changes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.joining == 0 && p.changes == changes {
		p.quiet, p.since = true, since
	}
}

// PartialSince returns the joins of the rooms that are partial, or were at some time after a position. It costs nothing where
// there are none.
func (s *Server) PartialSince(ctx context.Context, at storage.Position) ([]rooms.PartialJoin, error) {
	none, changes := s.partials.noneSince(at)
	if none {
		return nil, nil
	}
	joins, err := rooms.PartialSince(ctx, s.db, at)
	if err != nil {
		return nil, fmt.Errorf("find partial rooms: %w", err)
	}
	if len(joins) == 0 {
		s.partials.learn(at, changes)
	}
	return joins, nil
}

// IsPartial says whether this server does not know all the members of a room yet.
func (s *Server) IsPartial(ctx context.Context, room rooms.Room) (bool, error) {
	_, partial, err := rooms.PartialOf(ctx, s.db, room.Num)
	if err != nil {
		return false, fmt.Errorf("find out whether %s is partial: %w", room.ID, err)
	}
	return partial, nil
}

// AwaitMembers waits until all members of a room are known, for a time. The error is then that they are not.
func (s *Server) AwaitMembers(ctx context.Context, room rooms.Room) error {
	if s.partials.none() {
		return nil
	}
	partial, err := s.IsPartial(ctx, room)
	if err != nil || !partial {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, waitForMembers, errPartial)
	defer cancel()
	for {
		whole := s.partials.whole(room.Num)
		if partial, err = s.IsPartial(ctx, room); err != nil {
			return err
		}
		if !partial {
			s.partials.end(room.Num) // which forgets what was just made to wait
			return nil
		}
		select {
		case <-whole:
		case <-time.After(waitAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errPartial = matrix.Errorf(matrix.UnableDueToPartialState, "the members of the room are still being fetched").WithStatus(503)

// MayBeIn says whether a server has a user in a room: for certain, or, in a partial room, because it had one when this
// server came in.
func (s *Server) MayBeIn(ctx context.Context, room rooms.Room, server matrix.ServerName) (bool, error) {
	in, err := rooms.HasJoined(ctx, s.db, room.Num, server)
	if err == nil && !in {
		var join rooms.PartialJoin
		join, _, err = rooms.PartialOf(ctx, s.db, room.Num)
		in = slices.Contains(join.Servers, server)
	}
	if err != nil {
		err = fmt.Errorf("find out whether %s is in %s: %w", server, room.ID, err)
	}
	return in, err
}

// MayBeJoined says whether a user is in a room: for certain, or, of one whom nobody knows here yet, whether its server was in
// the room when this server came in.
func (s *Server) MayBeJoined(ctx context.Context, room rooms.Room, user matrix.UserID) (bool, error) {
	m, found, err := rooms.MembershipOf(ctx, s.db, room.Num, user)
	if err != nil {
		return false, fmt.Errorf("find the membership of %s in %s: %w", user, room.ID, err)
	}
	if found || s.isLocal(user) {
		return m.Membership == event.Join, nil
	}
	join, _, err := rooms.PartialOf(ctx, s.db, room.Num)
	if err != nil {
		return false, fmt.Errorf("find out whether %s is partial: %w", room.ID, err)
	}
	return slices.Contains(join.Servers, user.Server()), nil
}

// refusePartial refuses other servers what this one could not answer for yet.
func (s *Server) refusePartial(ctx context.Context, room rooms.Room) error {
	partial, err := s.IsPartial(ctx, room)
	if err == nil && partial {
		err = matrix.Errorf(matrix.NotFound, "this server does not know all of %s yet", room.ID)
	}
	return err
}

// onceKnown reads a state, and once more when the members are known if that needs them.
func (st State) onceKnown(ctx context.Context, read func() error) error {
	err := read()
	if !errors.Is(err, statetree.ErrUnknown) {
		return err
	}
	if err := st.server.AwaitMembers(ctx, st.room); err != nil {
		return err
	}
	if err = read(); errors.Is(err, statetree.ErrUnknown) {
		return errPartial // and stays so: the room was left before it was whole
	}
	return err
}

// LacksMembers says whether not all members of the state are known.
func (st State) LacksMembers(ctx context.Context) (bool, error) {
	hole, err := st.server.trees.HoleOf(ctx, st.tree)
	return hole != 0, err
}

// Known returns the state events at these keys, nil where there is none, and nil for members that are not known. It never
// waits.
func (st State) Known(ctx context.Context, keys ...event.Key) ([]*rooms.Event, error) {
	found, _, err := st.server.knownEvents(ctx, source{room: st.room}, st.tree, keys)
	return found, err
}

// Cited is Known, but for senders of some events who are not known: their member events are those that the latest of their
// events cites.
func (st State) Cited(ctx context.Context, events []*rooms.Event, keys ...event.Key) ([]*rooms.Event, error) {
	found, holed, err := st.server.knownEvents(ctx, source{room: st.room}, st.tree, keys)
	if err != nil || !holed {
		return found, err
	}
	for i, key := range keys {
		if found[i] != nil || key.Type != event.TypeMember {
			continue
		}
		for _, ev := range slices.Backward(events) {
			if string(ev.Sender) != key.StateKey {
				continue
			}
			if found[i], err = st.citedBy(ctx, ev, key); err != nil {
				return nil, err
			}
			break
		}
	}
	return found, nil
}

// citedBy returns the auth event of an event for a place in the state; nil if there is none.
func (st State) citedBy(ctx context.Context, ev *rooms.Event, key event.Key) (*rooms.Event, error) {
	cited, err := rooms.EventsByID(ctx, st.server.db, st.room, ev.AuthEvents)
	if err != nil {
		return nil, fmt.Errorf("read the auth events of %s: %w", ev.ID, err)
	}
	for _, a := range cited {
		if a.Kind != rooms.Rejected && a.Kind != rooms.Aside && a.IsState() && a.StateID() == key {
			return a, nil
		}
	}
	return nil, nil
}
