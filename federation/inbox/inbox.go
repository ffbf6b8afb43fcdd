package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxWorkers  = 1024 // rooms that are worked for at once; most of them wait for other servers
	lookEvery   = time.Second
	busyPause   = time.Second
	firstPause  = time.Second
	lastPause   = 5 * time.Minute
	fencedPause = 90 * time.Second // by then the room was loaded afresh
	// maxLacking is how often events are tried that stand on something that cannot be had: for 15 seconds and the time
	// that asking takes. When one that follows them comes, they are asked for.
	maxLacking = 5
	maxFailed  = 60 // some four hours

	answersKept  = time.Hour // for who repeats a transaction
	forgetEvery  = time.Minute
	forgetAtOnce = 1000

	maxForgetRounds = 50
)

// Settings are what an inbox works with. All are required.
type Settings struct {
	DB *storage.DB
	// Receive gives events to a room: roomserver.Server.Receive.
	Receive func(context.Context, matrix.ServerName, matrix.RoomID, []*event.Event) []roomserver.Result
	// SetReceipt stores a receipt: roomserver.Server.SetReceipt.
	SetReceipt func(context.Context, matrix.Requester, roomserver.SetReceipt) error
	Now        func() time.Time
	Log        *slog.Logger
}

// Inbox gives to the rooms what was staged for them.
type Inbox struct {
	Settings
	moved    chan struct{} // capacity 1
	newest   int64         // transactions with a greater number were added since the start
	suspects suspects

	mu       sync.Mutex
	backlog  *backlog
	finished []int64 // transactions of which the work is done, but not noted so
}

// New returns an inbox, which takes transactions at once, and gives them to rooms in Run.
func New(s Settings) *Inbox {
	return &Inbox{
		Settings: s, moved: make(chan struct{}, 1), newest: s.DB.NextNumber(),
		backlog: newBacklog(), suspects: suspects{panics: map[suspect]int64{}},
	}
}

// Run gives to the rooms what other servers have sent, from where the run before was broken off, until ctx ends.
func (in *Inbox) Run(ctx context.Context) error {
	if err := in.load(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("load what other servers have sent: %w", err)
	}
	var workers sync.WaitGroup
	defer in.noteFinished()
	defer workers.Wait()
	free := make(chan struct{}, maxWorkers)
	workers.Go(func() { in.forget(ctx) })
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		in.start(ctx, &workers, free)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-in.moved:
		case <-look.C:
			in.noteFinished()
			in.mu.Lock()
			in.backlog.promote(in.Now())
			in.mu.Unlock()
		}
	}
}

// forget drops the answers to transactions that are old, from time to time, until ctx ends.
func (in *Inbox) forget(ctx context.Context) {
	defer in.survive("forgetting old transactions")
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := in.forgetOld(ctx); err != nil && ctx.Err() == nil {
			in.Log.Warn("old transactions were not forgotten", "cause", err)
		}
	}
}

// forgetOld looks before it writes: a server to which nobody speaks writes nothing.
func (in *Inbox) forgetOld(ctx context.Context) error {
	beforeMS := in.Now().Add(-answersKept).UnixMilli()
	for range maxForgetRounds {
		old, err := servers.HasOldTransactions(ctx, in.DB, beforeMS)
		if err != nil || !old {
			return err
		}
		if _, err := in.DB.Commit(ctx, servers.ForgetTransactions{BeforeMS: beforeMS, Limit: forgetAtOnce}); err != nil {
			return err
		}
	}
	return nil
}

// start begins work for all rooms that wait for it, as many as may be worked for.
func (in *Inbox) start(ctx context.Context, workers *sync.WaitGroup, free chan struct{}) {
	for {
		select {
		case free <- struct{}{}:
		default:
			return // who is done makes it look again
		}
		in.mu.Lock()
		batch := in.backlog.take(in.Now())
		in.mu.Unlock()
		if batch == nil {
			<-free
			return
		}
		workers.Go(func() {
			defer func() {
				<-free
				in.wake()
			}()
			defer in.survive("working for a room")
			in.work(ctx, batch)
		})
	}
}

// survive keeps the process from ending with a mistake of this package. What was being done stays staged until the next
// start.
func (in *Inbox) survive(what string) {
	if cause := recover(); cause != nil {
		in.Log.Error("panic", "while", what, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	}
}

func (in *Inbox) wake() {
	select {
	case in.moved <- struct{}{}:
	default:
	}
}

// work lets a room take parcels of one server.
func (in *Inbox) work(ctx context.Context, batch []*parcel) {
	again, notBefore := in.deliver(ctx, batch)
	if ctx.Err() != nil {
		return // all is stored, and will be done by the next run
	}
	now := in.Now()
	in.mu.Lock()
	finished := in.backlog.done(batch, again, moments{now: now, notBefore: notBefore})
	in.mu.Unlock()
	for _, t := range finished {
		in.finish(t.num)
	}
}

// deliver returns the parcels of which something has to be tried again.
func (in *Inbox) deliver(ctx context.Context, batch []*parcel) (again []*parcel, notBefore time.Time) {
	if err := in.reload(ctx, batch); err != nil {
		in.Log.Warn("what other servers have sent cannot be read", "cause", err)
		for _, p := range batch {
			p.tries++
			p.due = in.Now().Add(pause(p.tries))
		}
		return batch, notBefore
	}
	if batch[0].careful {
		notBefore = in.deliverCarefully(ctx, batch[0])
	} else {
		notBefore = in.deliverAll(ctx, batch)
	}
	for _, p := range batch {
		if len(p.events) > 0 {
			again = append(again, p)
		} else if ctx.Err() == nil {
			in.storeReceipts(ctx, p)
		}
	}
	return again, notBefore
}

// deliverAll gives all events at once, and leaves in the parcels what has to be tried again.
func (in *Inbox) deliverAll(ctx context.Context, batch []*parcel) (notBefore time.Time) {
	var events []*event.Event
	for _, p := range batch {
		events = append(events, p.events...)
	}
	results, panicked := in.guard(ctx, batch[0], events)
	outcomes := make(map[matrix.EventID]roomserver.Result, len(results))
	for _, r := range results {
		outcomes[r.Event] = r
	}
	if panicked {
		spared := func(e *event.Event) bool { return results != nil && !roomserver.IsFenced(outcomes[e.ID].Err) }
		in.suspects.note(ctx, in, batch[0].room, slices.DeleteFunc(events, spared))
		for _, p := range batch {
			p.careful = true
		}
		return in.Now().Add(fencedPause)
	}
	if ctx.Err() != nil {
		return notBefore
	}
	for _, p := range batch {
		in.settle(p, outcomes)
	}
	return notBefore
}

// guard lets a room take events, and says whether something panicked: here or where the room is worked for.
func (in *Inbox) guard(ctx context.Context, p *parcel, events []*event.Event) (results []roomserver.Result, panicked bool) {
	if len(events) == 0 {
		return nil, false
	}
	defer func() {
		if cause := recover(); cause != nil {
			in.Log.Error("panic over events of another server", "room", p.room, "server", p.txn.origin,
				"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			panicked = true
		}
	}()
	results = in.Receive(ctx, p.txn.origin, p.room, events)
	count(results)
	for _, r := range results {
		if roomserver.IsFenced(r.Err) {
			return results, true
		}
	}
	return results, false
}

// settle leaves in a parcel the events that have to be tried again, and says when.
func (in *Inbox) settle(p *parcel, outcomes map[matrix.EventID]roomserver.Result) {
	worst := roomserver.Accepted
	var cause error
	var again []*event.Event
	for _, e := range p.events {
		r := outcomes[e.ID]
		switch r.Outcome {
		case roomserver.Missing, roomserver.Busy, roomserver.Failed:
			again = append(again, e)
			worst, cause = max(worst, r.Outcome), r.Err
		default:
			in.Log.Debug("event of another server", "room", p.room, "event", e.ID, "outcome", r.Outcome, "cause", r.Err)
		}
	}
	p.events = again
	if len(again) == 0 {
		return
	}
	p.tries++
	p.due = in.Now().Add(pause(p.tries))
	switch {
	case worst == roomserver.Busy:
		p.due = in.Now().Add(busyPause)
		p.tries--
	case worst == roomserver.Missing && p.tries == maxLacking:
		in.Log.Debug("events of another server stand on what cannot be had", "room", p.room, "events", len(again), "cause", cause)
		p.events = nil
	case worst == roomserver.Failed && p.tries == maxFailed:
		in.Log.Error("events of another server could not be stored", "room", p.room, "events", len(again), "cause", cause)
		p.events = nil
	case worst == roomserver.Failed:
		in.Log.Warn("events of another server are tried again", "room", p.room, "events", len(again), "cause", cause)
	}
}

// pause is how long to wait after so many tries.
func pause(tries int) time.Duration {
	return min(firstPause<<min(tries-1, 20), lastPause)
}

// storeReceipts stores the receipts of a parcel whose events are in their room. Those that the room does not take are
// of no use; what is lost with a database that fails is a receipt, which its user's next one mends.
func (in *Inbox) storeReceipts(ctx context.Context, p *parcel) {
	const sideBySide = 16 // each waits for its commit
	slots := make(chan struct{}, sideBySide)
	var waiting sync.WaitGroup
	for _, r := range p.receipts {
		slots <- struct{}{}
		waiting.Go(func() {
			defer func() { <-slots }()
			defer in.survive("storing a receipt")
			err := in.SetReceipt(ctx, matrix.Requester{Account: r.User, User: r.User}, roomserver.SetReceipt{
				Room: p.room, Type: roomserver.ReceiptRead, Event: r.Event, Thread: r.Thread, TS: r.TS,
			})
			if err != nil {
				in.Log.Debug("receipt of another server", "room", p.room, "cause", err)
			}
		})
	}
	waiting.Wait()
	p.receipts = nil
}
