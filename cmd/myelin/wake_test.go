package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/bus"
	"github.com/myelin-chat/myelin/storage"
)

func TestWakeUpsTravelOverTheBus(t *testing.T) {
	b, err := bus.Start(bus.Settings{URL: bus.Embedded, Name: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	heard := make(chan struct{}, 1)
	stop, err := onMoved(b, func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	w := newWaker()
	for p := range storage.Position(1000) { // nobody publishes yet: the committer does not wait for that
		w.Wake(p)
	}
	if got := w.last.Load(); got != 999 {
		t.Errorf("got position %d, want the last, 999", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.run(ctx, b); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Error("got no wake-up")
	}
	cancel()
	running.Wait()
}
