package main

import (
	"context"
	"encoding/binary"
	"sync/atomic"

	"github.com/myelin-chat/myelin/bus"
	"github.com/myelin-chat/myelin/storage"
)

const positionTopic = "position"

// waker tells every node that the log moved. The committer calls Wake and must not wait for the bus, so the position
// is put down and published by Run; of several the last is enough.
type waker struct {
	last  atomic.Int64
	moved chan struct{} // capacity 1
}

// newWaker is made before the database, which calls it, and the bus, on which it publishes.
func newWaker() *waker { return &waker{moved: make(chan struct{}, 1)} }

// Wake implements storage.Waker.
func (w *waker) Wake(p storage.Position) {
	w.last.Store(int64(p))
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// run publishes until ctx ends. What cannot be published is lost, as any message may be.
func (w *waker) run(ctx context.Context, b *bus.Bus) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.moved:
			_ = b.Publish(positionTopic, binary.BigEndian.AppendUint64(nil, uint64(w.last.Load())))
		}
	}
}

// onMoved calls f whenever the log moved or messages may have been lost. f must not block.
func onMoved(b *bus.Bus, f func()) (stop func(), err error) {
	quiet, err := b.Subscribe(positionTopic, func([]byte) { f() })
	if err != nil {
		return nil, err
	}
	deaf := b.OnLost(f)
	return func() { quiet(); deaf() }, nil
}
