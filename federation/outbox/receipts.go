package outbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	receiptRead = "m.read" // the others are nobody's business

	maxReceipts = 1000 // of a room in a transaction
)

// receipts reads what the receipt items of the cargo stand for, and writes the EDUs. An EDU has one receipt of a user
// in a room, so those that read in several threads need several.
// https://spec.matrix.org/v1.19/server-server-api/#receipts
func (l *loader) receipts(ctx context.Context) error {
	w := receiptWriter{}
	kept := l.items[:0:0]
	for _, it := range l.items {
		if it.Kind != servers.DebtReceipts {
			kept = append(kept, it)
			continue
		}
		room, known, err := l.o.room(ctx, it.Room, it.At)
		if err == nil && known {
			known, err = l.isIn(ctx, room.ID, it.At)
		}
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		list, err := rooms.Receipts(ctx, l.o.db, it.Room, storage.Span{After: it.After, UpTo: it.At})
		if err != nil {
			return fmt.Errorf("read the receipts of %s: %w", room.ID, err)
		}
		taken := w.room(room.ID, list, l.o.settings.ServerName)
		if taken.any {
			kept = append(kept, it)
		}
		if taken.upTo < it.At {
			kept[len(kept)-1].At = taken.upTo
			it.After = taken.upTo
			l.left = append(l.left, it)
		}
	}
	l.items = kept
	for _, e := range w.edus {
		l.contents.addEDU(letter{at: e.at, json: e.text()}, e.ts)
	}
	return nil
}

// isIn says whether the destination is in a room: one that has left is not told who reads there.
func (l *loader) isIn(ctx context.Context, room matrix.RoomID, at storage.Position) (bool, error) {
	in, err := l.o.servers(ctx, room, at)
	if err != nil {
		return false, fmt.Errorf("servers of %s: %w", room, err)
	}
	return slices.Contains(in, l.ord.server), nil
}

// A receiptWriter spreads receipts over EDUs.
type receiptWriter struct{ edus []*receiptEDU }

// A receiptEDU holds receipts of several rooms.
type receiptEDU struct {
	json []byte
	room matrix.RoomID // that is being written
	at   storage.Position
	ts   int64
}

// taken says which receipts of a room were written.
type taken struct {
	any  bool
	upTo storage.Position
}

// room writes receipts of a room, oldest change first, as long as there is room for them.
func (w *receiptWriter) room(id matrix.RoomID, list []rooms.Receipt, ours matrix.ServerName) (t taken) {
	written := map[matrix.UserID]int{} // receipts of each user, which is how many EDUs are taken for it
	total := 0
	for _, r := range list {
		if r.Type != receiptRead || r.User.Server() != ours {
			continue
		}
		n := written[r.User]
		if n >= maxReceiptEDUs || total >= maxReceipts {
			return t
		}
		if n == len(w.edus) {
			w.edus = append(w.edus, &receiptEDU{})
		}
		w.edus[n].add(id, r)
		written[r.User] = n + 1
		total++
		t.any, t.upTo = true, r.Position
	}
	t.upTo = 1<<63 - 1
	return t
}

func (e *receiptEDU) add(room matrix.RoomID, r rooms.Receipt) {
	switch {
	case e.room == room:
		e.json = append(e.json, ',')
	case e.room != "":
		e.json = append(e.json, `}},`...)
		e.open(room)
	default:
		e.json = append(e.json, `{"content":{`...)
		e.open(room)
	}
	e.json = canonical.AppendString(e.json, string(r.User))
	e.json = append(e.json, `:{"data":{`...)
	if r.Thread != "" {
		e.json = canonical.AppendString(append(e.json, `"thread_id":`...), r.Thread)
		e.json = append(e.json, ',')
	}
	e.json = fmt.Appendf(e.json, `"ts":%d},"event_ids":[`, r.TS)
	e.json = append(canonical.AppendString(e.json, string(r.Event)), `]}`...)
	e.at, e.ts = max(e.at, r.Position), max(e.ts, r.TS)
}

func (e *receiptEDU) open(room matrix.RoomID) {
	e.room = room
	e.json = append(canonical.AppendString(e.json, string(room)), `:{"m.read":{`...)
}

// text ends the EDU and returns it.
func (e *receiptEDU) text() []byte {
	return append(e.json, `}}},"edu_type":"m.receipt"}`...)
}
