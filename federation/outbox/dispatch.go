package outbox

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

// maxPage is how much of the log is read at a time.
const maxPage = 256

// A reader reads the log.
type reader struct {
	since func(from storage.Position, limit int) ([]storage.News, bool) // of the log in memory
	swept storage.Position                                              // up to here the receipts were looked at, all at once
}

// dispatch reads the log from where it was left to its end.
func (o *Outbox) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		o.mu.Lock()
		from := o.state.position
		o.mu.Unlock()
		p, err := o.readPage(ctx, from)
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", from, err)
		}
		if p.upTo <= from {
			return nil
		}
		o.mu.Lock()
		o.state.read(p, o.settings.Now())
		o.mu.Unlock()
		signal(o.changed)
	}
	return ctx.Err()
}

// readPage reads the next stretch of the log: from memory, or from the database if it is no more in memory.
func (o *Outbox) readPage(ctx context.Context, from storage.Position) (page, error) {
	news, complete := o.reader.since(from, maxPage)
	if !complete {
		return o.readStored(ctx, from)
	}
	p := page{upTo: from, edus: map[matrix.ServerName]storage.Span{}}
	for _, n := range news {
		if err := o.readNews(ctx, &p, n); err != nil {
			return page{}, err
		}
		p.upTo = n.Position
	}
	return p, nil
}

func (o *Outbox) readNews(ctx context.Context, p *page, n storage.News) error {
	switch n.Kind {
	case storage.NewsEvent:
		if ev, ok := rooms.FromNews(n); ok {
			return o.readEvent(ctx, p, ev)
		}
	case storage.NewsReceipt:
		if r, ok := n.Value.(rooms.Receipt); ok && r.Type == receiptRead && r.User.Server() == o.settings.ServerName {
			return o.readReceipt(ctx, p, n.Room, owedReceipt{room: r.RoomNum, after: n.Position - 1, at: n.Position})
		}
	case storage.NewsServer:
		if w, ok := n.Value.(servers.OweEDU); ok {
			o.readEDU(p, n.Position, w)
		}
	}
	return nil
}

func (o *Outbox) readEDU(p *page, at storage.Position, w servers.OweEDU) {
	for _, s := range o.permitted(w.Servers) {
		span, more := p.edus[s]
		if !more {
			span.After = at - 1
		}
		span.UpTo = at
		p.edus[s] = span
	}
}

func (o *Outbox) readEvent(ctx context.Context, p *page, ev *rooms.Event) error {
	owed, err := o.owed(ctx, ev)
	if err != nil {
		return fmt.Errorf("servers to be told of %s: %w", ev.ID, err)
	}
	p.events = append(p.events, owedEvent{ev, o.permitted(owed)})
	return nil
}

func (o *Outbox) readReceipt(ctx context.Context, p *page, room matrix.RoomID, r owedReceipt) error {
	in, err := o.servers(ctx, room, r.at)
	if err != nil {
		return fmt.Errorf("servers of %s: %w", room, err)
	}
	r.servers = o.permitted(in)
	p.receipts = append(p.receipts, r)
	return nil
}

// readStored reads the next stretch from the database. Of receipts and EDUs only the last of each kind is there.
func (o *Outbox) readStored(ctx context.Context, from storage.Position) (page, error) {
	p := page{upTo: o.db.Position()} // before it is read: what comes meanwhile is for the next time
	events, err := rooms.LogAfter(ctx, o.db, from, maxPage)
	if err != nil {
		if events, p.upTo, err = o.readOne(ctx, from, err); err != nil {
			return page{}, err
		}
	}
	if len(events) == maxPage {
		p.upTo = events[maxPage-1].Position
	}
	for _, ev := range events {
		p.upTo = max(p.upTo, ev.Position)
		if err := o.readEvent(ctx, &p, ev); err != nil {
			return page{}, err
		}
	}
	if p.edus, err = o.storedEDUs(ctx, o.db, from); err != nil {
		return page{}, err
	}
	return p, o.storedReceipts(ctx, &p, from)
}

// readOne reads the next event, of several that cannot be read together, and up to where the log is read with it.
func (o *Outbox) readOne(ctx context.Context, from storage.Position, cause error) ([]*rooms.Event, storage.Position, error) {
	next, err := servers.NextEvent(ctx, o.db, 0, from)
	if err != nil || next == 0 {
		return nil, 0, cause
	}
	ev, err := o.eventAt(ctx, next)
	switch {
	case err != nil && !o.hopeless(ctx, next, err):
		return nil, 0, cause
	case err != nil || ev == nil:
		return nil, next, nil
	}
	return []*rooms.Event{ev}, next, nil
}

func (o *Outbox) storedEDUs(ctx context.Context, q storage.Querier, from storage.Position) (map[matrix.ServerName]storage.Span, error) {
	found, err := servers.EDUsOwed(ctx, q, from)
	if err != nil {
		return nil, fmt.Errorf("read who is owed EDUs: %w", err)
	}
	spans := make(map[matrix.ServerName]storage.Span, len(found))
	for s, last := range found {
		if len(o.permitted([]matrix.ServerName{s})) > 0 {
			spans[s] = storage.Span{After: from, UpTo: last}
		}
	}
	return spans, nil
}

// storedReceipts looks at all receipts there are, and so not again for the stretches that were not read yet then.
func (o *Outbox) storedReceipts(ctx context.Context, p *page, from storage.Position) error {
	upTo := o.db.Position()
	if from < o.reader.swept {
		return nil
	}
	moved, err := servers.ReceiptsMoved(ctx, o.db, from, upTo)
	if err != nil {
		return fmt.Errorf("read the receipts: %w", err)
	}
	for num, at := range moved {
		room, known, err := o.room(ctx, num, at)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		if err := o.readReceipt(ctx, p, room.ID, owedReceipt{room: num, after: from, at: at}); err != nil {
			return err
		}
	}
	o.reader.swept = upTo
	return nil
}
