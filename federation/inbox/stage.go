package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

// MaxPDUs is how many events a transaction may have.
// https://spec.matrix.org/v1.19/server-server-api/#transactions
const MaxPDUs = 50

// A Transaction is what is left to be done of one, with the answer that its server gets, now and if it asks again.
type Transaction struct {
	Origin matrix.ServerName
	ID     string
	Answer []byte
	Items  []Item
}

// An Item is what a transaction has for one room. Its events have passed all checks that need no room.
type Item struct {
	Room     matrix.RoomID
	Version  *event.Version
	Events   []*event.Event
	Receipts []Receipt
}

// A Receipt waits for the events of its transaction.
type Receipt struct {
	User   matrix.UserID  `json:"user"`
	Event  matrix.EventID `json:"event"`
	Thread string         `json:"thread,omitempty"`
	TS     int64          `json:"ts"`
}

func (i Item) isEmpty() bool { return len(i.Events)+len(i.Receipts) == 0 }

// Answer returns what a transaction was answered, if it was taken in before.
func (in *Inbox) Answer(ctx context.Context, origin matrix.ServerName, id string) (answer []byte, found bool, err error) {
	return servers.AnswerTo(ctx, in.DB, origin, id)
}

// Stage stores a transaction for its rooms, unless it is stored already, and returns what is to be answered. If nothing
// is left to be done, nothing is stored. The error is M_LIMIT_EXCEEDED if too much of its server waits.
func (in *Inbox) Stage(ctx context.Context, t Transaction) (answer []byte, err error) {
	work := t.work()
	if work == nil {
		return t.Answer, nil
	}
	size := int64(len(work))
	if err := in.reserve(t.Origin, size); err != nil {
		return nil, err
	}
	staged := servers.StagedTransaction{
		Num: in.DB.NextNumber(), Origin: t.Origin, ID: t.ID, ReceivedMS: in.Now().UnixMilli(), Answer: t.Answer, Work: work,
		Finished: in.takeFinished(),
	}
	// Waited for whatever becomes of the request: if it was given up and stored all the same, its repeat would be answered,
	// and its work be done by nobody.
	_, err = in.DB.Commit(context.WithoutCancel(ctx), staged)
	if err != nil {
		in.release(t.Origin, size)
		in.finish(staged.Finished...)
	}
	switch {
	case errors.Is(err, storage.ErrDuplicate): // of an earlier attempt whose outcome was not known
		answer, _, err := in.Answer(ctx, t.Origin, t.ID)
		return answer, err
	case err != nil:
		return nil, fmt.Errorf("stage a transaction of %s: %w", t.Origin, err)
	}
	in.add(&stagedTransaction{num: staged.Num, origin: t.Origin, bytes: size}, t.parcels())
	return t.Answer, nil
}

// Waiting is the number of rooms for which something waits that other servers have sent.
func (in *Inbox) Waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.backlog.lines)
}

// reserve makes room for a transaction, or tells its server to come later.
func (in *Inbox) reserve(origin matrix.ServerName, bytes int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.backlog.reserve(origin, bytes) {
		return nil
	}
	return matrix.Errorf(matrix.LimitExceeded, "too much of %s waits to be processed", origin).With("retry_after_ms", int64(5000))
}

func (in *Inbox) release(origin matrix.ServerName, bytes int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.backlog.release(origin, bytes)
}

// add takes a transaction that was stored, and for which room was made.
func (in *Inbox) add(t *stagedTransaction, parcels []*parcel) {
	in.mu.Lock()
	for _, p := range parcels {
		p.careful = in.suspects.any(p.room, p.events)
	}
	in.backlog.add(t, parcels, in.Now())
	in.mu.Unlock()
	in.wake()
}

// work writes what is left to be done; nil if that is nothing.
func (t Transaction) work() []byte {
	size := 0
	for _, item := range t.Items {
		size += 256
		for _, e := range item.Events {
			size += len(e.JSON) + 1
		}
	}
	work, begun := append(make([]byte, 0, size), `{"rooms":[`...), false
	for _, item := range t.Items {
		if item.isEmpty() {
			continue
		}
		if begun {
			work = append(work, ',')
		}
		begun = true
		work = item.appendJSON(work)
	}
	if !begun {
		return nil
	}
	return append(work, `]}`...)
}

// appendJSON writes a stagedRoom without looking at the events again.
func (i Item) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"pdus":[`...)
	for n, e := range i.Events {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e.JSON...)
	}
	dst = append(dst, ']')
	if len(i.Receipts) > 0 {
		receipts, _ := json.Marshal(i.Receipts) // text and numbers: cannot fail
		dst = append(append(dst, `,"receipts":`...), receipts...)
	}
	dst = canonical.AppendString(append(dst, `,"room_id":`...), string(i.Room))
	dst = canonical.AppendString(append(dst, `,"room_version":`...), string(i.Version.ID))
	return append(dst, '}')
}

func (t Transaction) parcels() []*parcel {
	var list []*parcel
	for _, item := range t.Items {
		if !item.isEmpty() {
			list = append(list, &parcel{room: item.Room, events: item.Events, receipts: item.Receipts})
		}
	}
	return list
}
