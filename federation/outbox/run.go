package outbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	lookAnyway = 30 * time.Second // at the log, in case that word of it was lost
	retryRead  = time.Second
	stopTime   = 500 * time.Millisecond

	eduLifetime = 60 * 24 * time.Hour // of what a server that does not come back was to be told
	sweepEvery  = 24 * time.Hour
)

// Run sends until ctx ends, and stores what is left to do.
func (o *Outbox) Run(ctx context.Context) error {
	if !o.begin(ctx) {
		return nil
	}
	var running sync.WaitGroup
	running.Go(func() { o.follow(ctx) })
	running.Go(func() { o.sweep(ctx) })
	o.send(ctx, &running)
	running.Wait()
	return o.finish()
}

// begin takes up what was stored, and says whether it could.
func (o *Outbox) begin(ctx context.Context) bool {
	for {
		sv, err := o.readSaved(ctx)
		if err == nil {
			o.mu.Lock()
			o.state.restore(sv, func(s matrix.ServerName) bool { return o.settings.Sender.Permits(s) == nil }, o.settings.Now())
			o.mu.Unlock()
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		o.log.Error("nothing is sent to other servers yet", "err", err)
		if !pause(ctx, retryRead) {
			return false
		}
	}
}

// follow reads the log whenever it moves.
func (o *Outbox) follow(ctx context.Context) {
	for {
		wait := lookAnyway
		if err := o.dispatch(ctx); err != nil && ctx.Err() == nil {
			o.log.Error("other servers wait for what is new", "err", err)
			wait = retryRead
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-o.moved:
			t.Stop()
		}
	}
}

// send starts transactions whenever there is something to send and nothing in the way, and stores what has changed from
// time to time.
func (o *Outbox) send(ctx context.Context, running *sync.WaitGroup) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		now := o.settings.Now()
		orders, save, next := o.next(now)
		for _, ord := range orders {
			running.Go(func() { o.deliver(ctx, ord) })
		}
		if save {
			running.Go(func() { o.store(ctx) })
		}
		t.Stop()
		var due <-chan time.Time
		if !next.IsZero() {
			t.Reset(max(next.Sub(now), time.Millisecond))
			due = t.C
		}
		select {
		case <-ctx.Done():
			return
		case <-o.changed:
		case <-due:
		}
	}
}

// next says what to do now, and when to look again.
func (o *Outbox) next(now time.Time) (orders []order, save bool, next time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	orders, next = o.state.start(now)
	if o.unsaved != nil {
		return orders, false, next // being stored
	}
	at := o.state.saveAt(now)
	if !at.IsZero() && !at.After(now) {
		if w, due := o.state.saveDue(now); due {
			o.unsaved = &w
			return orders, true, next
		}
		at = o.state.saveAt(now)
	}
	if !at.IsZero() {
		next = earlier(next, at)
	}
	return orders, false, next
}

// deliver makes and sends one transaction.
func (o *Outbox) deliver(ctx context.Context, ord order) {
	defer signal(o.changed)
	c, err := o.load(ctx, ord)
	o.mu.Lock()
	now := o.settings.Now()
	if err != nil {
		o.state.unread(ord, now)
		o.mu.Unlock()
		if ctx.Err() == nil {
			o.log.Error("what a server is owed cannot be read", "server", ord.server, "err", err)
		}
		return
	}
	send := o.state.loaded(ord, c, now)
	o.mu.Unlock()
	if !send {
		return
	}
	t := c.contents.transaction(o.settings.ServerName, o.db.Incarnation())
	limited, cancel := context.WithTimeout(ctx, patience)
	answer, err := o.settings.Sender.Send(limited, ord.server, t)
	cancel()
	if ctx.Err() != nil && err != nil {
		return // we are stopping, and know nothing; the plan is stored as it is
	}
	t.count(err)
	o.mu.Lock()
	follows := o.state.sent(ord, judge(err), o.settings.Now())
	o.mu.Unlock()
	o.report(ord, t, answer, err)
	o.reportConsequence(ord, follows, err)
}

// report logs what a server says of a transaction.
func (o *Outbox) report(ord order, t Transaction, a Answer, err error) {
	if err != nil {
		o.log.Debug("transaction not delivered", "server", ord.server, "txn", t.ID, "pdus", len(t.PDUs), "edus", t.EDUs, "err", err)
		return
	}
	for _, id := range t.PDUs {
		if text, bad := a.Errors[id]; bad {
			o.log.Info("a server does not like an event", "server", ord.server, "event", id, "says", text)
		}
	}
}

// longAway is how long a server has been away when its return is worth a line.
const longAway = time.Hour

func (o *Outbox) reportConsequence(ord order, c consequence, err error) {
	droppedItems.Add(float64(len(c.dropped)))
	for _, it := range c.dropped {
		o.log.Warn("a server refuses something again and again; it is not sent any more",
			"server", ord.server, "position", int64(it.At), "err", err)
	}
	if c.away >= longAway {
		o.log.Info("a server can be reached again", "server", ord.server, "away", c.away)
	}
}

// store stores what is unsaved, however long it takes: nothing that is of a later moment may be stored before it.
func (o *Outbox) store(ctx context.Context) {
	defer signal(o.changed)
	for {
		_, err := o.db.Commit(ctx, *o.unsaved)
		if err == nil {
			o.mu.Lock()
			o.unsaved = nil
			o.mu.Unlock()
			return
		}
		if ctx.Err() != nil || !pause(ctx, retryRead) {
			return
		}
		o.log.Error("what is owed to other servers cannot be stored", "err", err)
	}
}

// finish stores all, when nothing is under way any more.
func (o *Outbox) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unsaved != nil {
		if _, err := o.db.Commit(ctx, *o.unsaved); err != nil {
			return fmt.Errorf("store what is owed to other servers: %w", err)
		}
		o.unsaved = nil
	}
	if len(o.state.dirty) == 0 && o.state.position == o.state.storedAt {
		return nil
	}
	if _, err := o.db.Commit(ctx, o.state.save()); err != nil {
		return fmt.Errorf("store what is owed to other servers: %w", err)
	}
	return nil
}

// sweep drops what nobody came for.
func (o *Outbox) sweep(ctx context.Context) {
	for {
		before := o.settings.Now().Add(-eduLifetime)
		if _, err := o.db.Commit(ctx, servers.DropEDUs{BeforeMS: before.UnixMilli()}); err != nil && ctx.Err() == nil {
			o.log.Error("old EDUs cannot be dropped", "err", err)
		}
		if !pause(ctx, sweepEvery) {
			return
		}
	}
}

// pause waits for d, and tells whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
