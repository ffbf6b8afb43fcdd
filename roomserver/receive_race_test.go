package roomserver_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver"
)

// The same events come from many servers at once, while our own users speak: each is stored once.
func TestReceiveAtOnce(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		all := append(w.row(bobThere, 30, w.base), w.topic("alice", "a branch", w.base))
		all = append(all, w.row(carolThere, 30, all[30])...)
		all = append(all, w.member("alice", "dan:third.org", "ban", all[10]))
		var group sync.WaitGroup
		for i := range uint64(8) {
			group.Go(func() {
				r := rand.New(rand.NewPCG(i, 0))
				for range 6 {
					some := make([]*event.Event, 12)
					for j := range some {
						some[j] = all[r.IntN(len(all))]
					}
					for _, got := range w.receive(some...) {
						if got.Outcome != roomserver.Accepted && got.Outcome != roomserver.Known {
							t.Errorf("got outcome %d: %v", got.Outcome, got.Err)
						}
					}
					if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "meanwhile")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		w.must(roomserver.Known, w.missingOf(all)...)
		for _, ev := range all {
			if got := w.stored(ev); got == nil || got.Position == 0 {
				t.Errorf("%s: got %+v, want it live", ev.ID, got)
			}
		}
	})
}

// missingOf receives what is not stored yet, and returns all.
func (w *wire) missingOf(all []*event.Event) []*event.Event {
	w.t.Helper()
	for _, ev := range all {
		if w.stored(ev) == nil {
			w.must(roomserver.Accepted, ev)
		}
	}
	return all
}
