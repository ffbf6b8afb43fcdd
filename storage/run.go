package storage

import (
	"context"
	"errors"
	"runtime"
	"time"
)

var errFenced = errors.New("storage: the log moved without us: another process writes to this database")

// errUndecided answers the writes of which a stopping process never learned whether they are stored.
var errUndecided = errors.New("storage: the connection was lost in the commit, and the process stops before the outcome is known")

// stopTime bounds how long a stopping committer works on what is queued.
const stopTime = 800 * time.Millisecond

// Run is the committer. It ends, with what was queued committed, when ctx does or the database is closed.
func (db *DB) Run(ctx context.Context) error {
	if !db.running.CompareAndSwap(false, true) {
		if db.isClosed() {
			return ErrClosed // before it could begin
		}
		return errors.New("storage: Run was called twice")
	}
	defer close(db.ended)
	ctx, cancel := context.WithCancel(ctx)
	maintained := make(chan struct{})
	go func() {
		defer close(maintained)
		db.engine.maintain(ctx)
	}()
	defer func() {
		cancel()
		<-maintained
	}()
	err := db.serve(ctx)
	db.shut()
	if err == nil {
		err = db.finish()
	}
	db.deliver(effects{answers: db.core.abandon()})
	db.refuseQueued()
	return err
}

// serve commits group after group until ctx ends.
func (db *DB) serve(ctx context.Context) error {
	for {
		items, job, ok := db.gather(ctx)
		if !ok {
			return nil
		}
		if job != nil {
			job()
			continue
		}
		if err := db.commitGroup(ctx, items); err != nil {
			return err
		}
	}
}

// finish commits what is queued once nobody can queue any more.
func (db *DB) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	for ctx.Err() == nil && db.core.trying == nil {
		items := db.drain(nil)
		if len(items) == 0 {
			return nil
		}
		if err := db.commitGroup(ctx, items); err != nil {
			return err
		}
	}
	return nil
}

// gather waits for an item, lets the other goroutines run once, and takes all that came meanwhile.
// No delay is added: groups form by themselves while the last one is being stored. Instead of items there may be
// a job to run, or neither, if row numbers are to be reserved.
func (db *DB) gather(ctx context.Context) (items []*Item, job func(), ok bool) {
	select {
	case it := <-db.queue:
		// Those who were woken by the last commit get to queue their next item, which makes the group larger for free.
		runtime.Gosched()
		return db.drain([]*Item{it}), nil, true
	case <-db.numbers.low:
		return nil, nil, true
	case job := <-db.jobs:
		return nil, job, true
	case <-ctx.Done():
		return nil, nil, false
	case <-db.closed:
		return nil, nil, false
	}
}

// drain adds what is queued to items, up to the bounds of a group.
func (db *DB) drain(items []*Item) []*Item {
	size := 0
	for _, it := range items {
		size += it.size()
	}
	for len(items) < maxGroupItems && size < maxGroupSize {
		select {
		case it := <-db.queue:
			items = append(items, it)
			size += it.size()
		default:
			return items
		}
	}
	return items
}

// commitGroup steps the committer until nothing of the group is left. If ctx ends, attempts
// that have failed are not tried again.
func (db *DB) commitGroup(ctx context.Context, items []*Item) error {
	e := db.core.arrive(items)
	for {
		db.deliver(e)
		switch {
		case e.fatal != nil:
			db.log.Error("the database is used by somebody else", "err", e.fatal)
			return e.fatal
		case e.try == nil && !e.settle:
			return nil
		case !pause(ctx, e.delay):
			return nil
		case e.settle:
			e = db.settle(ctx)
		default:
			e = db.try(e.try)
		}
	}
}

// try writes the attempt and measures what is worth measuring, the commits that succeed.
func (db *DB) try(a *attempt) effects {
	start := time.Now()
	o := db.engine.apply(a)
	if o.verdict == committed {
		commitSeconds.Observe(time.Since(start).Seconds())
		groupSize.Observe(float64(len(a.items)))
	} else {
		db.complain(o)
	}
	db.lastErr = o.err
	return db.core.tried(o)
}

// settle asks what became of an attempt whose COMMIT was not answered. While that cannot be asked, writes are still
// taken from the queue, up to a limit, so that those who can be refused are.
func (db *DB) settle(ctx context.Context) effects {
	row, err := db.engine.settle(ctx)
	if err == nil {
		return db.core.settled(row, db.lastErr)
	}
	db.complaints.error(time.Now(), "the outcome of a commit is unknown, and the database cannot be asked", err)
	var items []*Item
	if db.core.held() < maxQueue {
		items = db.drain(nil)
	}
	return db.core.unsettled(items)
}

// complain logs what an operator can act on; what an item is to blame for goes to its caller.
func (db *DB) complain(o outcome) {
	failedGroups.Inc()
	switch o.verdict {
	case blocked, unreachable, unknown:
		db.complaints.error(time.Now(), "a group of writes could not be stored", o.err)
	}
}

// deliver makes the news readable, answers the callers, and wakes the readers, in this order.
func (db *DB) deliver(e effects) {
	if len(e.news) > 0 {
		db.tail.append(e.news)
	}
	db.numbers.reserved.Store(db.core.log.next)
	for _, a := range e.answers {
		a.item.done(a.first, a.err)
	}
	if len(e.news) > 0 && db.waker != nil {
		db.waker.Wake(e.news[len(e.news)-1].Position)
	}
}

// pause waits for d, and tells whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (db *DB) isClosed() bool {
	select {
	case <-db.closed:
		return true
	default:
		return false
	}
}

// shut stops the intake. When it returns no item enters the queue any more.
func (db *DB) shut() {
	db.shutOnce.Do(func() {
		close(db.closed) // ends the waiting of those who are about to queue an item
		db.intake.Lock()
		defer db.intake.Unlock()
		db.refusing = true
	})
}

// refuseQueued answers those who came too late: a caller must never wait for a committer that is gone.
func (db *DB) refuseQueued() {
	for {
		select {
		case it := <-db.queue:
			it.done(0, ErrClosed)
		default:
			return
		}
	}
}
