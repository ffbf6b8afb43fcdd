package roomserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// An owner is the one writer of a room. Whoever has work for the room does it as the owner, under its
// lock: there is no goroutine per room. The lock is held for a step and for handing its result to the
// committer, never while waiting for the commit.
type owner struct {
	room    rooms.Room
	waiting atomic.Int32 // callers that hold or want the lock

	mu         sync.Mutex
	tip        *tip // what the next step stands on; nil until loaded
	generation int64
	last       *flight // handed to the committer last
	gone       bool    // unloaded: look the owner up again
	fenced     bool    // a step panicked
	used       time.Time
	graph      authGraph
	watch      *nodeWatch // nil: no state nodes of the room were deleted since it was loaded, nor will be

	flights flights
}

// flights is what an owner shares with the committer: what was handed over, and what came of it.
type flights struct {
	mu        sync.Mutex
	events    map[int64]placed // those not committed yet, by number
	committed *tip
	failed    int64 // the last generation of which a commit failed
	open      int   // handed over and not answered
	arrivals  int64 // another one after each step that took events of other servers; never one twice
}

// A flight is one result of a step on its way through the committer.
type flight struct {
	done  chan struct{} // closed after first and err were set
	first storage.Position
	err   error
}

// Limits of owners.
const (
	maxWaiting   = 4096             // callers for one room; the next is told to come later
	maxTries     = 8                // for one piece of work, when what it stood on was not committed
	idleAfter    = 10 * time.Minute // an owner is unloaded
	maxOwners    = 20_000           // loaded; beyond them idleAfter is idleAtMost
	idleAtMost   = 10 * time.Second
	retryAfterMS = 1000
)

var errFenced = errors.New("roomserver: the room is fenced off after a panic")

// A task is a piece of work for a room. It adds events to the step, or none; it may be run again on a
// fresh step, and must not keep anything of a step that was not the last.
type task func(ctx context.Context, st *step) error

// do runs a task as the owner of a room, and waits until its result, or what it stood on, is committed. A task that needs
// to know members of a partial room waits for them, while others work on the room.
func (s *Server) do(ctx context.Context, id matrix.RoomID, work task) error {
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

// turn is one go at a task, on a footing if it was begun before. It returns the flight to wait for, nil if there is nothing to wait for, and
// whether that is the task's own: a task that has nothing to store still rests on what is in flight.
func (s *Server) turn(ctx context.Context, room rooms.Room, work task, on *footing) (fl *flight, own bool, err error) {
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
			return err
		}
		if err := st.finish(ctx); err != nil {
			return err
		}
		if err := o.watch.pass(st); err != nil {
			return err
		}
		return st.mustBeSigned(o.tip, o.last)
	})
	if err != nil {
		s.trees.Dropped(st.nodes)
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
func (s *Server) ready(ctx context.Context, o *owner) (err error) {
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
func (s *Server) guard(ctx context.Context, o *owner, work func() error) (err error) {
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
func (s *Server) acquire(room rooms.Room) (*owner, error) {
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
			o.used = s.now()
			return o, nil
		}
		o.release()
	}
}

// ownerOf returns the owner of a room, which may not be loaded. It is called with s.mu held.
func (s *Server) ownerOf(room rooms.Room) *owner {
	o := s.owners[room.ID]
	if o == nil {
		o = &owner{room: room, generation: s.generations.Add(1), used: s.now()}
		o.flights.arrivals = o.generation
		s.owners[room.ID] = o
	}
	return o
}

func (o *owner) release() {
	o.mu.Unlock()
	o.waiting.Add(-1)
}

// settle goes back to what is committed if a commit of this generation failed.
func (s *Server) settle(o *owner) {
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
func (s *Server) launch(o *owner, st *step) *flight {
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

// A landing is what came of a flight.
type landing struct {
	tip        *tip
	generation int64
	first      storage.Position
	err        error
}

// land runs on the committer, in the order of the commits.
func (s *Server) land(o *owner, st *step, l landing) {
	if l.err != nil {
		s.trees.Dropped(st.nodes)
	} else {
		s.trees.Stored(st.nodes)
		s.remember(st, l.first)
	}
	o.flights.land(st.fresh, l)
}

// remember puts what was committed into the cache of events: states, and redacted forms in the place
// of what was there.
func (s *Server) remember(st *step, first storage.Position) {
	isChange := func(ev rooms.NewEvent) bool { return ev.Again || ev.Known }
	if len(st.redacted) > 0 || slices.ContainsFunc(st.events, isChange) {
		s.changes.Add(1)
	}
	for _, ev := range st.events {
		stored := ev.Event
		if ev.Again {
			s.events.drop(ev.Num) // its position may not be known here
			continue
		}
		if ev.Kind == rooms.Live {
			stored = ev.At(first)
			first++
		}
		if ev.Accepted || ev.Known {
			s.events.add(ev.Num, stored, eventCost(stored))
			s.ids.add(eventName{st.room.Num, ev.ID}, ev.Num, 1)
		}
	}
	for _, ev := range st.redacted {
		s.events.add(ev.Num, ev, eventCost(ev))
	}
}

// begin sets what is committed when a room is loaded.
func (f *flights) begin(t *tip) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed = t
}

// launch pins the events of a step until it lands. Arrivals is 0 if none are of other servers.
func (f *flights) launch(fresh map[int64]placed, arrivals int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if arrivals != 0 {
		f.arrivals = arrivals
	}
	if f.events == nil {
		f.events = make(map[int64]placed)
	}
	maps.Copy(f.events, fresh)
	f.open++
}

func (f *flights) land(fresh map[int64]placed, l landing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for num, ev := range fresh {
		if f.events[num].Event == ev.Event { // not the redacted form, if that is still on its way
			delete(f.events, num)
		}
	}
	f.open--
	if l.err != nil {
		f.failed = l.generation
	} else {
		f.committed = l.tip
	}
}

// event returns an event that is not committed yet; of none for a nil receiver.
func (f *flights) event(num int64) (placed, bool) {
	if f == nil {
		return placed{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ev, ok := f.events[num]
	return ev, ok
}

// all returns the events that are not committed yet.
func (f *flights) all() []placed {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.events))
}

// byID returns an event that is not committed yet.
func (f *flights) byID(id matrix.EventID) *rooms.Event {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range f.events {
		if ev.ID == id {
			return ev.Event
		}
	}
	return nil
}

// arrived tells apart the times between which events of other servers came; 0 for a nil receiver.
func (f *flights) arrived() int64 {
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.arrivals
}

func (f *flights) hasFailed(generation int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed == generation
}

func (f *flights) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open == 0
}

// committedRoot returns the committed state of a room that is loaded.
func (s *Server) committedRoot(id matrix.RoomID) (statetree.NodeID, bool) {
	s.mu.Lock()
	o := s.owners[id]
	s.mu.Unlock()
	if o == nil {
		return 0, false
	}
	o.flights.mu.Lock()
	defer o.flights.mu.Unlock()
	if o.flights.committed == nil {
		return 0, false
	}
	return o.flights.committed.state.Root(), true
}

// sweep unloads the owners that were idle for a while, and the fenced ones, which are loaded afresh
// when they are next wanted.
func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := idleAfter
	if len(s.owners) > maxOwners {
		idle = idleAtMost
	}
	var graphs int64
	for id, o := range s.owners {
		if !o.mu.TryLock() {
			continue
		}
		if graphs += o.graph.bytes(); graphs > maxGraphsBytes {
			graphs -= o.graph.bytes()
			o.graph.forget()
		}
		if o.flights.idle() && (o.fenced || now.Sub(o.used) >= idle) {
			o.gone = true
			delete(s.owners, id)
		}
		o.mu.Unlock()
	}
}
