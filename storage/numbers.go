package storage

import "sync/atomic"

// numberBlock is how many row numbers are reserved ahead; a crash skips at most this many.
const numberBlock = 1 << 16

// numbers gives out row numbers. The log row holds a number above all that were given out, and every
// group moves it on; so a number that is stored is always below it, and one that never was stored is not
// given again unless a whole block was given out between two groups.
type numbers struct {
	next     atomic.Int64 // the one to give
	reserved atomic.Int64 // the log row's
	low      chan struct{}
}

// take never waits, since owners build on what is not stored yet.
func (n *numbers) take() int64 {
	v := n.next.Add(1) - 1
	if n.reserved.Load()-v < numberBlock/2 {
		select {
		case n.low <- struct{}{}: // the committer reserves more, even if nobody writes
		default:
		}
	}
	return v
}

// reserve is what the next group writes into the log row.
func (n *numbers) reserve() int64 { return n.next.Load() + numberBlock }
