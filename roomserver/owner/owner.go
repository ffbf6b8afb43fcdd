package owner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of owners.
const (
	maxWaiting   = 4096             // callers for one room; the next is told to come later
	maxTries     = 8                // for one piece of work, when what it stood on was not committed
	IdleAfter    = 10 * time.Minute // an owner is unloaded
	maxOwners    = 20_000           // loaded; beyond them IdleAfter is idleAtMost
	idleAtMost   = 10 * time.Second
	retryAfterMS = 1000
)

var errFenced = errors.New("owner: the room is fenced off after a panic")

// A Task is a piece of work for a room. It adds events to the step, or none; it may be run again on a
// fresh step, and must not keep anything of a step that was not the last.
type Task func(ctx context.Context, st *Step) error

// Do runs a task as the owner of a room, and waits until its result, or what it stood on, is committed. A task that needs
// to know members of a partial room waits for them, while others work on the room.
func (s *Owners) Do(ctx context.Context, id matrix.RoomID, work Task) error {
	room, err := s.Room(ctx, id)
	if err != nil {
		return err
	}
	var on *footing
	for range maxTries {
		fl, own, err := s.turn(ctx, room, work, on)
		on = nil
		if errors.Is(err, storage.ErrChain) {
			continue
		}
		if errors.Is(err, statetree.ErrUnknown) {
			if err := s.AwaitMembers(ctx, room); err != nil {
				return err
			}
			continue
		}
		if ask := (*unsignedError)(nil); errors.As(err, &ask) {
			if on, err = s.askFor(ctx, ask); err == nil {
				continue
			}
		}
		if err != nil || fl == nil {
			return err
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			return ctx.Err() // the commit goes on
		}
		if fl.err == nil || own && !errors.Is(fl.err, storage.ErrChain) {
			return fl.err
		}
	}
	return fmt.Errorf("work for room %s: %w", id, storage.ErrChain)
}

// turn is one go at a task, on a footing if it was begun before. It returns the flight to wait for, nil if there is nothing
// to wait for, and whether that is the task's own: a task that has nothing to store still rests on what is in flight.
func (s *Owners) turn(ctx context.Context, room rooms.Room, work Task, on *footing) (fl *flight, own bool, err error) {
	o, err := s.acquire(room)
	if err != nil {
		return nil, false, err
	}
	defer o.release()
	if err := s.ready(ctx, o); err != nil {
		return nil, false, err
	}
	st := s.newStep(room, *o.tip, &o.flights)
	st.graph = &o.graph
	st.stand(on)
	o.graph.mark()
	err = s.guard(ctx, o, func() error {
		if err := work(ctx, st); err != nil {
			return st.unlessGone(err)
		}
		if err := st.finish(ctx); err != nil {
			return err
		}
		if err := o.watch.pass(ctx, st); err != nil {
			return err
		}
		return st.mustBeSigned(o.tip, o.last)
	})
	if err != nil {
		s.cache.Trees.Dropped(st.nodes)
		o.graph.goBack()
		if o.flights.hasFailed(o.generation) {
			// What the step stood on broke away under it; so the error may be of no meaning.
			err = storage.ErrChain
		}
		return nil, false, err
	}
	if st.empty() {
		return o.last, false, nil
	}
	return s.launch(o, st), true, nil
}

// ready makes an owner ready for a step: the room is loaded, and what is known of it is not of a commit that failed.
func (s *Owners) ready(ctx context.Context, o *owner) (err error) {
	if o.fenced {
		return fmt.Errorf("room %s: %w", o.room.ID, errFenced)
	}
	if o.tip == nil {
		if o.tip, err = s.loadTip(ctx, o.room); err != nil {
			return err
		}
		o.flights.begin(o.tip)
	}
	s.settle(o)
	return nil
}

// guard runs a step and fences the room off if it panics: what is in memory may be wrong then, what is
// stored is not.
func (s *Owners) guard(ctx context.Context, o *owner, work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			o.fenced = true
			s.log.ErrorContext(ctx, "room fenced off", "room", o.room.ID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("room %s: %w", o.room.ID, errFenced)
		}
	}()
	return work()
}

// acquire returns the owner of a room, locked.
func (s *Owners) acquire(room rooms.Room) (*owner, error) {
	for {
		s.mu.Lock()
		o := s.ownerOf(room)
		waiting := o.waiting.Add(1)
		s.mu.Unlock()
		if waiting > maxWaiting {
			o.waiting.Add(-1)
			return nil, matrix.Errorf(matrix.LimitExceeded, "too many requests for %s at once", room.ID).With("retry_after_ms", retryAfterMS)
		}
		o.mu.Lock()
		if !o.gone {
			if o.tip == nil {
				o.room = room // it may have been begun anew, under another version
			}
			o.used = s.now()
			return o, nil
		}
		o.release()
	}
}

// ownerOf returns the owner of a room, which may not be loaded. It is called with s.mu held.
func (s *Owners) ownerOf(room rooms.Room) *owner {
	o := s.loaded[room.ID]
	if o == nil {
		o = &owner{room: room, generation: s.generations.Add(1), used: s.now()}
		o.flights.arrivals = o.generation
		s.loaded[room.ID] = o
	}
	return o
}

func (o *owner) release() {
	o.mu.Unlock()
	o.waiting.Add(-1)
}

// settle goes back to what is committed if a commit of this generation failed.
func (s *Owners) settle(o *owner) {
	o.flights.mu.Lock()
	defer o.flights.mu.Unlock()
	if o.flights.failed == o.generation {
		o.tip = o.flights.committed
		o.generation = s.generations.Add(1)
		o.last = nil
		o.graph.forget()
	}
}

// launch hands the result of a step to the committer, and stands on it from then on.
func (s *Owners) launch(o *owner, st *Step) *flight {
	fl := &flight{done: make(chan struct{})}
	generation, next := o.generation, st.tip
	if st.hints.looked != nil || st.ofOthers {
		st.arrivals = s.generations.Add(1)
	}
	o.flights.launch(st.fresh, st.arrivals)
	o.tip, o.last = &next, fl
	s.db.Submit(st.write(generation), func(first storage.Position, err error) {
		s.land(o, st, landing{tip: &next, generation: generation, first: first, err: err})
		fl.first, fl.err = first, err
		close(fl.done)
	})
	return fl
}

// land runs on the committer, in the order of the commits.
func (s *Owners) land(o *owner, st *Step, l landing) {
	if l.err != nil {
		s.cache.Trees.Dropped(st.nodes)
	} else {
		s.cache.Trees.Stored(st.nodes)
		s.remember(st, l.first)
	}
	o.flights.land(st.fresh, l)
	if l.err == nil && st.whole != nil {
		s.partials.End(st.room.Num)
	}
}

// remember puts what was committed into the cache of events: states, and redacted forms in the place
// of what was there.
func (s *Owners) remember(st *Step, first storage.Position) {
	isChange := func(ev rooms.NewEvent) bool { return ev.Again || ev.Known }
	if len(st.redacted) > 0 || slices.ContainsFunc(st.events, isChange) {
		s.cache.NoteChange()
	}
	for _, ev := range st.events {
		stored := ev.Event
		if ev.Again {
			s.cache.Drop(ev.Num) // its position may not be known here
			continue
		}
		if ev.Kind == rooms.Live {
			stored = ev.At(first)
			first++
		}
		if ev.Accepted || ev.Known {
			s.cache.PutNamed(stored)
		}
	}
	for _, ev := range st.redacted {
		s.cache.Put(ev)
	}
}

// IsFenced says whether an error came of a room that is fenced off, since work for it panicked: this work, or other work
// a little before. The room is loaded afresh some time later.
func IsFenced(err error) bool { return errors.Is(err, errFenced) }

// loadTip reads a room as its last commit left it.
func (s *Owners) loadTip(ctx context.Context, room rooms.Room) (*tip, error) {
	head, found, err := rooms.HeadOf(ctx, s.db, room.Num)
	if err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if !found {
		return nil, committed.NotHere("this server is not in %s", room.ID)
	}
	t := &tip{state: statetree.At(head.Root), depth: head.Depth, joined: head.Joined, invited: head.Invited}
	extremities, err := s.cache.Events(ctx, room, head.Extremities)
	if err != nil {
		return nil, err
	}
	for _, ev := range extremities {
		t.extremities = append(t.extremities, storedPlaced(ev))
	}
	kept, err := s.cache.StateEvents(ctx, room, t.state, keptKeys)
	if err != nil {
		return nil, err
	}
	t.keepAll(room.Version, kept)
	if t.latestMS, err = rooms.LatestTimely(ctx, s.db, room); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.listed, err = rooms.IsPublished(ctx, s.db, room.Num); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.partial, err = s.loadPartial(ctx, room); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.holes, t.gone, err = s.findHoles(ctx, room); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.gaps, err = rooms.HasGaps(ctx, s.db, room.Num); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.pending, err = rooms.PendingRedactions(ctx, s.db, room.Num, maxPending+1); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if len(t.pending) > maxPending {
		t.pending, t.crowded = nil, true
	}
	return t, nil
}

// loadPartial reads what an owner keeps of a partial room; nil of another.
func (s *Owners) loadPartial(ctx context.Context, room rooms.Room) (*partial, error) {
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

// sweepEvery is how often Run looks for idle rooms.
const sweepEvery = time.Minute

// Run unloads idle rooms until ctx ends.
func (s *Owners) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.Sweep(s.now())
		}
	}
}

// Sweep unloads the owners that were idle for a while, and the fenced ones, which are loaded afresh
// when they are next wanted.
func (s *Owners) Sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := IdleAfter
	if len(s.loaded) > maxOwners {
		idle = idleAtMost
	}
	var graphs int64
	for id, o := range s.loaded {
		if !o.mu.TryLock() {
			continue
		}
		if o.watch.over(now) {
			o.watch = nil
		}
		if graphs += o.graph.bytes(); graphs > maxGraphsBytes {
			graphs -= o.graph.bytes()
			o.graph.forget()
		}
		if o.flights.idle() && (o.fenced || !o.watch.isOpen() && now.Sub(o.used) >= idle) {
			o.gone = true
			delete(s.loaded, id)
		}
		o.mu.Unlock()
	}
}

// Unfinished returns a room of which work is not done, or that is fenced off; empty if there is none.
func (s *Owners) Unfinished() matrix.RoomID {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, o := range s.loaded {
		if o.waiting.Load() != 0 || !o.flights.idle() || len(o.flights.all()) > 0 || o.fenced {
			return id
		}
	}
	return ""
}
