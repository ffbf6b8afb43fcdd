package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	saveDelay = time.Second // changes of that long are stored together
	saveEvery = 10_000      // positions read, with nothing else to store
	// restDelay is how long it is not stored that servers have got what was theirs at once. After a crash they get it again,
	// and know it. A server that says little would else write to its disk twice for each message.
	restDelay = time.Minute
)

// saveAt says when what has changed wants to be stored; never, if the time is zero.
func (s *state) saveAt(now time.Time) time.Time {
	switch {
	case len(s.dirty) > 0:
		return s.dirtyAt.Add(saveDelay)
	case s.position-s.storedAt >= saveEvery:
		return now
	}
	return s.restAt
}

// saveDue is save at the time of saveAt. It is false if there turns out to be nothing but a position, which can wait.
func (s *state) saveDue(now time.Time) (w servers.SaveOutbox, due bool) {
	storedAt, restAt := s.storedAt, s.restAt
	w = s.save()
	rows := len(w.Destinations) + len(w.Lags) + len(w.Settled) + len(w.Caught) + len(w.Delivered)
	rested := !restAt.IsZero() && !restAt.After(now)
	if rows > 0 || rested || s.position-storedAt >= saveEvery {
		return w, true
	}
	s.storedAt, s.restAt = storedAt, restAt
	if restAt.IsZero() && s.position > storedAt {
		s.restAt = now.Add(restDelay)
	}
	return w, false
}

// save returns what is to be stored, all of this moment, and takes it for stored: until it is, no other may be.
func (s *state) save() servers.SaveOutbox {
	w := servers.SaveOutbox{Position: s.position}
	s.storedAt, s.restAt = s.position, time.Time{}
	dirty := s.dirty
	s.dirty = map[*destination]struct{}{}
	for _, d := range inOrder(dirty) {
		d.save(&w)
		s.forget(d)
	}
	return w
}

// save adds what of a destination is not as it is stored.
func (d *destination) save(w *servers.SaveOutbox) {
	for _, l := range d.rooms {
		if !l.stored || l.acked != l.after {
			w.Lags = append(w.Lags, servers.Lag{Server: d.server, Kind: l.kind, Room: l.room, Acked: l.after})
			l.stored, l.acked = true, l.after
		}
	}
	for _, p := range d.gone {
		w.Caught = append(w.Caught, servers.Lag{Server: d.server, Kind: p.kind, Room: p.room})
	}
	d.gone = nil
	if len(d.done) > 0 {
		w.Delivered = append(w.Delivered, servers.Delivered{Server: d.server, EDUs: d.done})
		d.done = nil
	}
	row := servers.Destination{
		Server: d.server, Plan: debts(d.plan), Items: d.items(), Failures: int64(d.failures), RetryMS: milliseconds(d.retryAt),
		FailingMS: milliseconds(d.failing),
	}
	switch {
	case len(row.Plan)+len(row.Items) > 0 || d.failures > 0 && d.owes():
		w.Destinations = append(w.Destinations, row)
		d.stored = true
	case d.stored:
		w.Settled = append(w.Settled, d.server)
		d.stored = false
	}
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// A saved state is what is found in the database at the start.
type saved struct {
	position     storage.Position
	destinations []servers.Destination
	lags         []servers.Lag
	edus         map[matrix.ServerName]storage.Span
}

func (o *Outbox) readSaved(ctx context.Context) (sv saved, err error) {
	err = o.db.Snapshot(ctx, func(q storage.Querier) error {
		if sv.position, err = servers.OutboxPosition(ctx, q); err != nil {
			return err
		}
		if sv.destinations, err = servers.Destinations(ctx, q); err != nil {
			return err
		}
		if sv.lags, err = servers.Lags(ctx, q); err != nil {
			return err
		}
		sv.edus, err = o.storedEDUs(ctx, q, 0)
		return err
	})
	if err != nil {
		return saved{}, fmt.Errorf("read what is owed to other servers: %w", err)
	}
	return sv, nil
}

// restore takes up what was stored. Servers that nothing is sent to any more keep their rows, until they are permitted
// again.
func (s *state) restore(sv saved, permit func(matrix.ServerName) bool, now time.Time) {
	s.position, s.storedAt = sv.position, sv.position
	touched := map[*destination]struct{}{}
	for _, row := range sv.destinations {
		if permit(row.Server) {
			d := s.destination(row.Server)
			d.restore(row)
			touched[d] = struct{}{}
		}
	}
	for _, l := range sv.lags {
		if permit(l.Server) {
			d := s.destination(l.Server)
			d.restoreLag(l, sv.position)
			touched[d] = struct{}{}
		}
	}
	for server, span := range sv.edus {
		d := s.destination(server)
		d.fallBehind(place{kind: servers.DebtEDUs}, d.lastEDU(), span.UpTo)
		if d.edus.after >= d.edus.upTo {
			d.edus = nil
		}
		touched[d] = struct{}{}
	}
	for _, d := range inOrder(touched) {
		s.arrange(d, now)
	}
}

func (d *destination) restore(row servers.Destination) {
	d.plan, d.head, d.stored = itemsOf(row.Plan), itemsOf(row.Items), true
	d.failures = int(row.Failures)
	if row.RetryMS > 0 {
		d.retryAt = time.UnixMilli(row.RetryMS)
	}
	if row.FailingMS > 0 {
		d.failing = time.UnixMilli(row.FailingMS)
	}
}

func (d *destination) restoreLag(row servers.Lag, upTo storage.Position) {
	p := place{row.Kind, row.Room}
	d.fallBehind(p, row.Acked, max(row.Acked, upTo))
	l := d.lag(p)
	l.stored, l.acked, l.guessed = true, row.Acked, row.Kind == servers.DebtEvents
}

// lastEDU is the last that is among the items; what is later is still to be looked for.
func (d *destination) lastEDU() (last storage.Position) {
	for _, list := range [][]item{d.plan, d.head} {
		for _, it := range list {
			if it.Kind == servers.DebtEDUs {
				last = max(last, it.At)
			}
		}
	}
	return last
}
