package outbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	maxBytes = 4 << 20 // of a transaction; a single item may be larger

	maxCatchUp = 1000 // the newest events of a room that a destination gets after it was away
	guessPage  = 50   // events looked through at a time for the last that is owed
)

// load reads what an order asks for. That some stored thing makes it panic must not end the process, which would find
// the same thing again.
func (o *Outbox) load(ctx context.Context, ord order) (c cargo, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	l := loader{o: o, ord: ord}
	if len(ord.volatile) > 0 {
		l.volatile()
		return l.cargo, nil
	}
	if err := l.exact(ctx); err != nil {
		return cargo{}, err
	}
	for _, r := range ord.reads {
		if err := l.look(ctx, r); err != nil {
			return cargo{}, err
		}
	}
	if err := l.receipts(ctx); err != nil {
		return cargo{}, err
	}
	return l.cargo, nil
}

// A loader fills a cargo.
type loader struct {
	o    *Outbox
	ord  order
	full bool // nothing more is taken, lest a later event overtakes an earlier one
	cargo
}

// volatile writes the EDUs of the moment.
func (l *loader) volatile() {
	for _, json := range l.ord.volatile {
		l.contents.addEDU(letter{json: json}, l.o.settings.Now().UnixMilli())
	}
	l.contents.number = l.ord.number
}

// exact reads the items that are owed for certain. What is not there any more is owed no more.
func (l *loader) exact(ctx context.Context) error {
	edus, err := l.exactEDUs(ctx)
	if err != nil {
		return err
	}
	for i, it := range l.ord.exact {
		if l.full {
			l.left = slices.Clone(l.ord.exact[i:])
			return nil
		}
		switch it.Kind {
		case servers.DebtReceipts:
			l.items = append(l.items, it)
		case servers.DebtEDUs:
			if e, ok := edus[it.At]; ok {
				l.addEDU(it, e)
			}
		default:
			ev, err := l.o.eventAt(ctx, it.At)
			if err != nil && !l.o.hopeless(ctx, it.At, err) {
				return fmt.Errorf("read the event at %d: %w", it.At, err)
			}
			if ev != nil {
				l.addEvent(it, ev)
			}
		}
	}
	return nil
}

func (l *loader) exactEDUs(ctx context.Context) (map[storage.Position]servers.EDU, error) {
	var at []storage.Position
	for _, it := range l.ord.exact {
		if it.Kind == servers.DebtEDUs {
			at = append(at, it.At)
		}
	}
	if len(at) == 0 {
		return nil, nil
	}
	list, err := servers.EDUsAt(ctx, l.o.db, l.ord.server, at...)
	found := make(map[storage.Position]servers.EDU, len(list))
	for _, e := range list {
		found[e.Position] = e
	}
	return found, err
}

// eventAt returns the live event at a position, nil if there is none.
func (o *Outbox) eventAt(ctx context.Context, at storage.Position) (*rooms.Event, error) {
	o.mu.Lock()
	ev := o.state.recent.events[at]
	o.mu.Unlock()
	if ev != nil {
		return ev, nil
	}
	found, err := rooms.LogAfter(ctx, o.db, at-1, 1)
	if err != nil || len(found) == 0 || found[0].Position != at {
		return nil, err
	}
	return found[0], nil
}

func (l *loader) addEvent(it item, ev *rooms.Event) {
	l.items = append(l.items, it)
	l.contents.addPDU(letter{at: ev.Position, id: ev.ID, json: ev.JSON}, ev.OriginServerTS)
	l.full = l.contents.bytes > maxBytes
}

func (l *loader) addEDU(it item, e servers.EDU) {
	content, err := canonical.JSON(e.Content, canonical.Strict)
	if err != nil {
		l.o.log.Error("an EDU cannot be sent", "type", e.Type, "server", l.ord.server, "err", err)
		l.void = append(l.void, e.Position)
		return
	}
	json := append(append([]byte(`{"content":`), content...), `,"edu_type":`...)
	json = append(canonical.AppendString(json, e.Type), '}')
	l.items = append(l.items, it)
	l.contents.addEDU(letter{at: e.Position, json: json}, e.CreatedMS)
	l.full = l.contents.bytes > maxBytes
}

// look takes items out of a lag.
func (l *loader) look(ctx context.Context, r read) (err error) {
	switch {
	case l.full:
	case r.kind == servers.DebtEDUs:
		err = l.lookForEDUs(ctx, &r)
	case r.kind == servers.DebtReceipts:
		debt := servers.Debt{Kind: r.kind, Room: r.room, After: r.after, At: r.upTo}
		l.items = append(l.items, item{Debt: debt})
		r.after = r.upTo
	default:
		err = l.lookForEvents(ctx, &r)
	}
	l.reads = append(l.reads, r)
	return err
}

func (l *loader) lookForEDUs(ctx context.Context, r *read) error {
	list, err := servers.EDUsAfter(ctx, l.o.db, l.ord.server, r.after, r.limit)
	if err != nil {
		return fmt.Errorf("read the EDUs for %s: %w", l.ord.server, err)
	}
	for _, e := range list {
		if l.full {
			return nil
		}
		l.addEDU(item{Debt: servers.Debt{Kind: servers.DebtEDUs, At: e.Position}}, e)
		r.after = e.Position
	}
	if len(list) < r.limit {
		r.after = max(r.after, r.upTo)
	}
	return nil
}

// lookForEvents takes the next events of a room that are owed to the destination.
func (l *loader) lookForEvents(ctx context.Context, r *read) error {
	room, known, err := l.o.room(ctx, r.room, r.upTo)
	if err != nil || !known {
		r.after = r.upTo
		return err
	}
	if err := l.trim(ctx, room, r); err != nil || r.after >= r.upTo {
		return err
	}
	w := walk{room: room, from: rooms.Order{Anchor: r.after}}
	for more := true; more && err == nil; {
		more, err = l.page(ctx, r, &w)
	}
	return err
}

// A walk goes through the timeline of a room.
type walk struct {
	room  rooms.Room
	from  rooms.Order
	taken int // items
}

// page reads the next stretch of a room, and says whether to read another.
func (l *loader) page(ctx context.Context, r *read, w *walk) (more bool, err error) {
	found, err := rooms.Page(ctx, l.o.db, w.room, rooms.PageQuery{
		From: w.from, To: rooms.Order{Anchor: r.upTo}, Limit: r.limit,
	})
	if err != nil {
		return false, l.step(ctx, r, fmt.Errorf("read %s: %w", w.room.ID, err))
	}
	for _, ev := range found {
		if l.full || w.taken == r.limit {
			return false, nil
		}
		w.from = ev.Order
		if ev.Position == 0 {
			continue // history
		}
		taken, err := l.offer(ctx, r, ev)
		if err != nil {
			return false, err
		}
		if taken {
			w.taken++
		}
	}
	if len(found) < r.limit {
		r.after = r.upTo
		return false, nil
	}
	return true, nil
}

// offer takes an event if it is owed to the destination.
func (l *loader) offer(ctx context.Context, r *read, ev *rooms.Event) (taken bool, err error) {
	if taken, err = l.o.isOwed(ctx, ev, l.ord.server); err != nil {
		return false, err
	}
	if taken {
		l.addEvent(item{Debt: servers.Debt{Kind: r.kind, Room: r.room, At: ev.Position}}, ev)
	}
	r.after = ev.Position
	return taken, nil
}

// step goes over the next event of a room, of those that cannot be read together. If it is the one that cannot be read,
// it is left out.
func (l *loader) step(ctx context.Context, r *read, cause error) error {
	next, err := servers.NextEvent(ctx, l.o.db, r.room, r.after)
	if err != nil || next == 0 {
		return cause
	}
	ev, err := l.o.eventAt(ctx, next)
	switch {
	case err != nil && !l.o.hopeless(ctx, next, err):
		return cause
	case err != nil || ev == nil:
		r.after = next
		return nil
	}
	_, err = l.offer(ctx, r, ev)
	return err
}

// trim moves the beginning of a lag to the newest events that are sent, once.
func (l *loader) trim(ctx context.Context, room rooms.Room, r *read) error {
	if r.guessed {
		if err := l.guess(ctx, room, r); err != nil || r.guessed {
			return err
		}
	}
	if !r.trimmed && r.upTo-r.after > maxCatchUp {
		from, err := servers.NthNewest(ctx, l.o.db, r.room, r.after, r.upTo, maxCatchUp)
		if err != nil {
			return fmt.Errorf("find the newest events of %s: %w", room.ID, err)
		}
		r.after = max(r.after, from)
	}
	r.trimmed = true
	return nil
}

// guess finds the last event of a lag that is owed: that is what says to a server that was shut out that it is.
func (l *loader) guess(ctx context.Context, room rooms.Room, r *read) error {
	for r.after < r.upTo {
		found, err := rooms.Timeline(ctx, l.o.db, room, storage.Span{After: r.after, UpTo: r.upTo}, guessPage)
		if err != nil {
			if l.o.hopeless(ctx, r.upTo, err) {
				r.guessed = false // all of it is looked through
				return nil
			}
			return fmt.Errorf("read %s: %w", room.ID, err)
		}
		for _, ev := range found {
			owed, err := l.o.isOwed(ctx, ev, l.ord.server)
			if err != nil {
				return err
			}
			if r.upTo = ev.Position; owed {
				r.guessed = false
				return nil
			}
		}
		if len(found) < guessPage {
			break
		}
		r.upTo--
	}
	r.after, r.guessed = r.upTo, false
	return nil
}

// isOwed says whether an event is owed to a server.
func (o *Outbox) isOwed(ctx context.Context, ev *rooms.Event, server matrix.ServerName) (bool, error) {
	owed, err := o.owed(ctx, ev)
	return slices.Contains(owed, server), err
}
