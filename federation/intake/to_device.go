package intake

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/matrix"
)

// takeToDevice takes a message to devices. Its receivers need not share a room with its sender.
// https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging
func (t *intake) takeToDevice(content []byte) {
	var in accounts.RemoteToDevice
	if json.Unmarshal(content, &in) == nil && t.isTheirs(in.Sender) {
		t.letters = append(t.letters, in)
	}
}

// deliver stores the messages to devices. If it fails in the middle, the transaction will come again, and what is stored is
// known then.
func (t *intake) deliver(ctx context.Context) error {
	a := t.api
	for len(t.letters) > 0 {
		if wait := a.floods.wait(t.origin, a.now()); wait > 0 {
			return matrix.Errorf(matrix.LimitExceeded, "too many messages to devices").With("retry_after_ms", wait.Milliseconds()+1)
		}
		rest, bytes, err := a.toDevice(ctx, t.letters)
		if err != nil {
			return err
		}
		a.floods.add(t.origin, bytes, a.now())
		t.letters = rest
	}
	return nil
}

// Messages to devices wait until their devices come for them, and anybody may send them to anybody. A server may fill the
// disk so fast, and no faster; what it is told to send later, it does.
const (
	floodBytes     = 64 << 20  // that a server may send at once
	floodPerSecond = 512 << 10 // bytes, in the long run
	maxFloods      = 10_000    // servers that are remembered
)

// floods counts what servers have sent lately. It is safe for concurrent use.
type floods struct {
	mu sync.Mutex
	of map[matrix.ServerName]flood
}

// flood is what a server had sent at a time, but for what it was forgiven.
type flood struct {
	bytes float64
	at    time.Time
}

func newFloods() *floods { return &floods{of: map[matrix.ServerName]flood{}} }

// left returns what of a flood is left at a time.
func (f flood) left(now time.Time) float64 {
	return max(0, f.bytes-max(0, now.Sub(f.at).Seconds())*floodPerSecond)
}

// wait says how long a server has to wait before it may send more.
func (f *floods) wait(s matrix.ServerName, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	over := f.of[s].left(now) - floodBytes
	return time.Duration(max(0, over) / floodPerSecond * float64(time.Second))
}

// add counts what a server has sent.
func (f *floods) add(s matrix.ServerName, bytes int, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.of[s]; !known && len(f.of) >= maxFloods {
		f.shrink(now)
	}
	f.of[s] = flood{f.of[s].left(now) + float64(bytes), now}
}

// shrink forgets the servers of whose floods nothing is left, or, if there are none, any half of them.
func (f *floods) shrink(now time.Time) {
	for s, one := range f.of {
		if one.left(now) == 0 {
			delete(f.of, s)
		}
	}
	for s := range f.of {
		if len(f.of) <= maxFloods/2 {
			return
		}
		delete(f.of, s)
	}
}
