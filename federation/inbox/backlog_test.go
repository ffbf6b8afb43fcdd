package inbox

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

func newParcel(room matrix.RoomID, events, bytes int) *parcel {
	p := &parcel{room: room}
	for i := range events {
		p.events = append(p.events, &event.Event{ID: matrix.EventID(fmt.Sprint("$", i)), JSON: make([]byte, bytes)})
	}
	return p
}

func TestBacklogHoldsLittle(t *testing.T) {
	b := newBacklog()
	n := 3 * maxHeldBytes / (50 * event.MaxBytes)
	for range n {
		b.add(&stagedTransaction{origin: "a"}, []*parcel{newParcel("!r", 50, event.MaxBytes)}, start)
	}
	if b.held > maxHeldBytes {
		t.Errorf("got %d bytes held, want at most %d", b.held, maxHeldBytes)
	}
	loaded := 0
	for _, p := range b.lines["!r"].parcels {
		if p.loaded {
			loaded++
		}
	}
	if loaded == 0 || loaded == n {
		t.Errorf("got %d of %d loaded, want some", loaded, n)
	}
	for taken := 0; taken < n; {
		batch := b.take(start)
		if len(batch) == 0 || len(batch) > maxBatchEvents/50 {
			t.Fatalf("got %d parcels at once, want 1 to %d", len(batch), maxBatchEvents/50)
		}
		taken += len(batch)
		b.done(batch, nil, moments{now: start})
	}
	if b.held != 0 || len(b.lines) != 0 {
		t.Errorf("at the end: got %d bytes, %d rooms, want none", b.held, len(b.lines))
	}
}

func TestBacklogShares(t *testing.T) {
	b := newBacklog()
	if !b.reserve("a", maxBacklogOriginBytes+1) {
		t.Error("one that is alone was refused for its size")
	}
	if b.reserve("a", 1) {
		t.Error("a server got more than its share")
	}
	for i := 0; b.reserve(matrix.ServerName(fmt.Sprint(i)), maxBacklogOriginBytes); i++ {
		if i > maxBacklogBytes/maxBacklogOriginBytes {
			t.Fatal("all servers together got more than there is")
		}
	}
	b.release("a", maxBacklogOriginBytes+1)
	if !b.reserve("a", 1) {
		t.Error("what was released is not there")
	}
}

// From many seeds: everything that is added is done once, rooms have one worker, what is to be handled with care comes
// alone, nothing before it is due.
func TestBacklogInAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, now := newBacklog(), start
		open := map[*parcel]bool{}
		working := map[matrix.RoomID][]*parcel{}
		resting := map[matrix.RoomID]time.Time{}
		added, finished := 0, 0
		step := func() {
			switch r.IntN(4) {
			case 0:
				if added == 60 {
					return
				}
				txn := &stagedTransaction{num: int64(added), origin: matrix.ServerName(fmt.Sprint(r.IntN(3))), bytes: 10}
				var parcels []*parcel
				for _, room := range r.Perm(4)[:1+r.IntN(3)] {
					p := newParcel(matrix.RoomID(fmt.Sprint(room)), r.IntN(60), 10)
					p.careful = r.IntN(5) == 0
					p.receipts = []Receipt{{}}
					parcels = append(parcels, p)
					open[p] = true
				}
				if !b.reserve(txn.origin, txn.bytes) {
					t.Fatalf("seed %d: no room", seed)
				}
				added++
				b.add(txn, parcels, now)
			case 1:
				batch := b.take(now)
				if batch == nil {
					return
				}
				room := batch[0].room
				if working[room] != nil || now.Before(resting[room]) {
					t.Fatalf("seed %d: %s has a second worker, or rests", seed, room)
				}
				working[room] = batch
				for _, p := range batch {
					if !open[p] || p.room != room || p.txn.origin != batch[0].txn.origin || now.Before(p.due) || p.careful && len(batch) > 1 {
						t.Fatalf("seed %d: %+v should not be in this batch", seed, p)
					}
				}
			case 2:
				for room, batch := range working {
					var again []*parcel
					for _, p := range batch {
						if r.IntN(3) == 0 {
							p.due = now.Add(time.Duration(r.IntN(10)) * time.Second)
							again = append(again, p)
						} else {
							delete(open, p)
						}
					}
					if delete(resting, room); len(again) > 0 { // who rests has something to come back to
						resting[room] = now.Add(time.Duration(r.IntN(3)) * time.Second)
					}
					finished += len(b.done(batch, again, moments{now: now, notBefore: resting[room]}))
					delete(working, room)
					return
				}
			case 3:
				now = now.Add(time.Second)
				b.promote(now)
			}
		}
		for i := 0; i < 400 || len(open) > 0; i++ {
			if step(); i > 100_000 {
				t.Fatalf("seed %d: %d parcels are never done", seed, len(open))
			}
		}
		if finished != added || len(b.lines)+len(b.delayed)+len(b.byOrigin) > 0 || b.bytes != 0 || b.held != 0 {
			t.Fatalf("seed %d: got %d of %d finished, %+v left, want nothing", seed, finished, added, b)
		}
	}
}
