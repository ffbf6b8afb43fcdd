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
	j := &job{n: int64(n), f: f}
	defer j.end()
	for range min(n-1, cap(p)-1) {
		select {
		case p <- struct{}{}:
			j.helping.Go(func() {
				defer func() { <-p }()
				j.help()
			})
		default:
		}
	}
	j.work()
}

// job is a number of calls that several goroutines share.
type job struct {
	n        int64
	f        func(i int)
	next     atomic.Int64
	helping  sync.WaitGroup
	panicked atomic.Pointer[any]
}

func (j *job) work() {
	for i := j.next.Add(1); i <= j.n; i = j.next.Add(1) {
		j.f(int(i - 1))
	}
}

// help works, and keeps a panic for the caller, who can recover from it.
func (j *job) help() {
	defer func() {
		if cause := recover(); cause != nil {
			j.panicked.Store(&cause)
		}
	}()
	j.work()
}

func (j *job) end() {
	j.helping.Wait()
	if cause := j.panicked.Load(); cause != nil {
		panic(*cause)
	}
}
