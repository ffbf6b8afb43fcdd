package keys

import (
	"sync"
	"sync/atomic"
)

// pool bounds the goroutines that check signatures: it has a slot for each that works beside those who wait for it.
type pool chan struct{}

// each calls f for 0 to n-1, in no order. The caller works, too, and takes as many helpers as are free, so a small
// batch never waits behind a large one.
func (p pool) each(n int, f func(i int)) {
	var next atomic.Int64
	var panicked atomic.Pointer[any]
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			f(i)
		}
	}
	var helping sync.WaitGroup
	for range min(n-1, cap(p)-1) {
		select {
		case p <- struct{}{}:
		default:
			continue
		}
		helping.Go(func() {
			defer func() {
				if cause := recover(); cause != nil {
					panicked.Store(&cause)
				}
				<-p
			}()
			work()
		})
	}
	defer func() {
		helping.Wait()
		if cause := panicked.Load(); cause != nil {
			panic(*cause) // where the caller can recover
		}
	}()
	work()
}
