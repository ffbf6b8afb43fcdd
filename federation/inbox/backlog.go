package inbox

import (
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// Limits of what waits for rooms. It is stored before it waits, so only a part of it is held in memory; beyond that the
// senders are told to come later.
const (
	maxBacklogBytes       = 512 << 20
	maxBacklogOriginBytes = 64 << 20 // of one server
	maxHeldBytes          = 48 << 20
	// maxBatchEvents is given to a room at once: what is one step of its owner, which knows then what it looked for.
	maxBatchEvents = 100
)

// stagedTransaction is a stored transaction of which the work is not done.
type stagedTransaction struct {
	num    int64
	origin matrix.ServerName
	bytes  int64
	open   int // parcels
}

// parcel is what a transaction has for one room.
type parcel struct {
	txn      *stagedTransaction
	room     matrix.RoomID
	events   []*event.Event // empty and not loaded: to be read from the database again
	receipts []Receipt
	loaded   bool
	careful  bool  // something panicked with it: its events are tried one by one
	bytes    int64 // held
	tries    int
	due      time.Time // zero: at once
}

// backlog is what waits for rooms. Each room takes its own as it can; none waits for another. It has no clock, database
// or goroutine: its methods take what happened and return what to do.
type backlog struct {
	lines    map[matrix.RoomID]*line
	ready    []matrix.RoomID // rooms with something due that nobody works for, longest first
	delayed  map[matrix.RoomID]bool
	byOrigin map[matrix.ServerName]int64
	bytes    int64
	held     int64
}

// line is what waits for one room.
type line struct {
	parcels   []*parcel
	working   bool
	queued    bool      // in ready
	notBefore time.Time // nothing is tried
}

func newBacklog() *backlog {
	return &backlog{
		lines: map[matrix.RoomID]*line{}, delayed: map[matrix.RoomID]bool{}, byOrigin: map[matrix.ServerName]int64{},
	}
}

// reserve makes room for a transaction, if there is any for this server.
func (b *backlog) reserve(origin matrix.ServerName, bytes int64) bool {
	if b.bytes > 0 && b.bytes+bytes > maxBacklogBytes {
		return false
	}
	if had := b.byOrigin[origin]; had > 0 && had+bytes > maxBacklogOriginBytes {
		return false
	}
	b.bytes += bytes
	b.byOrigin[origin] += bytes
	return true
}

func (b *backlog) release(origin matrix.ServerName, bytes int64) {
	b.bytes -= bytes
	if b.byOrigin[origin] -= bytes; b.byOrigin[origin] <= 0 {
		delete(b.byOrigin, origin)
	}
}

// add queues the parcels of a transaction for which room was made.
func (b *backlog) add(t *stagedTransaction, parcels []*parcel, now time.Time) {
	t.open = len(parcels)
	for _, p := range parcels {
		p.txn, p.loaded = t, p.loaded || len(p.events)+len(p.receipts) > 0
		b.hold(p)
		l := b.lines[p.room]
		if l == nil {
			l = &line{}
			b.lines[p.room] = l
		}
		l.parcels = append(l.parcels, p)
		b.look(p.room, l, now)
	}
}

// hold counts what a parcel holds, and lets go of it if that is too much.
func (b *backlog) hold(p *parcel) {
	b.held -= p.bytes
	p.bytes = 0
	for _, e := range p.events {
		p.bytes += int64(len(e.JSON)) + 512
	}
	if b.held+p.bytes > maxHeldBytes {
		p.events, p.receipts, p.loaded, p.bytes = nil, nil, false, 0
	}
	b.held += p.bytes
}

// look queues a room if something is due in it and nobody is at work.
func (b *backlog) look(id matrix.RoomID, l *line, now time.Time) {
	if l.working || l.queued {
		return
	}
	delete(b.delayed, id)
	switch {
	case len(l.parcels) == 0:
		delete(b.lines, id)
	case !now.Before(l.notBefore) && l.hasDue(now):
		l.queued = true
		b.ready = append(b.ready, id)
	default:
		b.delayed[id] = true
	}
}

func (l *line) hasDue(now time.Time) bool {
	for _, p := range l.parcels {
		if !now.Before(p.due) {
			return true
		}
	}
	return false
}

// promote queues the rooms in which something has become due.
func (b *backlog) promote(now time.Time) {
	for id := range b.delayed {
		b.look(id, b.lines[id], now)
	}
}

// take returns work for the room that waited longest: parcels of one server. They are done when done says so. None are
// returned if nothing is due.
func (b *backlog) take(now time.Time) []*parcel {
	for len(b.ready) > 0 {
		id := b.ready[0]
		b.ready[0] = ""
		b.ready = b.ready[1:]
		l := b.lines[id]
		l.queued = false
		if batch := l.takeDue(now); len(batch) > 0 {
			l.working = true
			return batch
		}
		b.look(id, l, now)
	}
	b.ready = nil // lets go of the memory
	return nil
}

// takeDue takes the parcels of one server that are due, as many as a room takes at once; one that is to be handled with
// care is taken alone.
func (l *line) takeDue(now time.Time) (batch []*parcel) {
	events := 0
	rest := make([]*parcel, 0, len(l.parcels))
	for i, p := range l.parcels {
		switch {
		case now.Before(p.due):
			rest = append(rest, p)
		case len(batch) > 0 && (p.careful || p.txn.origin != batch[0].txn.origin || events+MaxPDUs > maxBatchEvents):
			rest = append(rest, l.parcels[i:]...)
			l.parcels = rest
			return batch
		default:
			batch = append(batch, p)
			events += p.size()
			if p.careful {
				l.parcels = append(rest, l.parcels[i+1:]...)
				return batch
			}
		}
	}
	l.parcels = rest
	return batch
}

// size is how many events a parcel has, at most.
func (p *parcel) size() int {
	if !p.loaded {
		return MaxPDUs
	}
	return max(len(p.events), 1)
}

// done takes back work: again is what has to be tried again, at the time that stands in it, and not before when says for
// the room. It returns the transactions of which all is done.
func (b *backlog) done(batch, again []*parcel, when moments) (finished []*stagedTransaction) {
	id := batch[0].room
	l := b.lines[id]
	kept := make(map[*parcel]bool, len(again))
	for _, p := range again {
		kept[p] = true
		b.hold(p)
	}
	for _, p := range batch {
		if kept[p] {
			continue
		}
		b.held -= p.bytes
		if p.txn.open--; p.txn.open == 0 {
			b.release(p.txn.origin, p.txn.bytes)
			finished = append(finished, p.txn)
		}
	}
	l.parcels = append(again, l.parcels...)
	l.working, l.notBefore = false, when.notBefore
	b.look(id, l, when.now)
	return finished
}

// moments are the time, and the time before which nothing is tried.
type moments struct{ now, notBefore time.Time }
