package bus

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
)

// topic is what this node hears under one name: one subscription, however many handlers.
type topic struct {
	bus *Bus
	sub *nats.Subscription

	mu       sync.Mutex
	handlers []*handler // replaced, never changed, since deliveries hold it

	// Only the goroutine that delivers uses these.
	delivered int
	dropped   int // of the drops that sub counts, those that were told
}

type handler struct{ f func(data []byte) }

// Subscribe has f called with each message of the topic, one at a time, in order. f owns data. When Subscribe returns,
// the server has heard of it: what is published from then on arrives. After cancel f is not called any more, though one
// call may still be running.
func (b *Bus) Subscribe(name string, f func(data []byte)) (cancel func(), err error) {
	h := &handler{f}
	fresh, err := b.attach(name, h)
	if err != nil {
		return nil, err
	}
	if fresh {
		// An error means that there is no connection: when there is one, the subscription is made, and OnLost calls.
		_ = b.conn.FlushTimeout(confirmTimeout)
	}
	return sync.OnceFunc(func() { b.detach(name, h) }), nil
}

// attach adds a handler to a topic, which is fresh if this node had not subscribed to it.
func (b *Bus) attach(name string, h *handler) (fresh bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.topics[name]; t != nil {
		t.set(append(slices.Clone(t.current()), h))
		return false, nil
	}
	t := &topic{bus: b, handlers: []*handler{h}}
	// The lock is for deliver, which may be called before sub is set.
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sub, err = b.conn.Subscribe(subject(b.name, name), t.deliver)
	if errors.Is(err, nats.ErrConnectionClosed) {
		return false, ErrClosed
	}
	if err != nil {
		return false, fmt.Errorf("subscribe: %w", err)
	}
	if err := t.sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		return false, fmt.Errorf("limit a subscription: %w", err)
	}
	b.topics[name] = t
	return true, nil
}

func (b *Bus) detach(name string, h *handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[name]
	rest := slices.DeleteFunc(slices.Clone(t.current()), func(other *handler) bool { return other == h })
	t.set(rest)
	if len(rest) > 0 {
		return
	}
	delete(b.topics, name)
	// An error means that the bus is closed, and the subscription with it.
	_ = t.sub.Unsubscribe()
}

func (t *topic) current() []*handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.handlers
}

func (t *topic) set(handlers []*handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handlers = handlers
}

// deliver hands a message to the handlers. NATS calls it one message at a time.
func (t *topic) deliver(m *nats.Msg) {
	t.bus.running.RLock()
	defer t.bus.running.RUnlock()
	if t.bus.closed {
		return
	}
	handlers := t.current()
	for i, h := range handlers {
		data := m.Data
		if i < len(handlers)-1 {
			data = slices.Clone(data) // each owns what it is given
		}
		t.bus.guard(func() { h.f(data) })
	}
	t.noticeDrops()
}

// checkEvery bounds how often a flood that drops all the time has everything read again.
const checkEvery = 1024

// noticeDrops tells of messages that were dropped because the queue was full. It waits until the queue is empty or
// checkEvery messages later, so that one call covers many drops; and none is missed, since a full queue means that there
// is more to deliver.
func (t *topic) noticeDrops() {
	t.delivered++
	dropped, err := t.sub.Dropped()
	if err != nil || dropped == t.dropped {
		return
	}
	// The message being delivered is still counted as pending.
	if pending, _, err := t.sub.Pending(); err == nil && pending > 1 && t.delivered%checkEvery != 0 {
		return
	}
	t.dropped = dropped
	t.bus.lost()
}

// guard runs f, which may panic: a bug in one handler must not end the process.
func (b *Bus) guard(f func()) {
	defer func() {
		if failure := recover(); failure != nil {
			b.log.Error("panic in a handler of the bus", "panic", failure, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// subject makes a name for NATS of a topic, which may hold what subjects give a meaning to, as . * > and spaces.
func subject(name, topic string) string {
	const prefix, kept = "myelin.", 16
	buf := make([]byte, 0, 128)
	buf = append(buf, name...)
	buf = append(buf, 0xff) // in no valid name, so that no two pairs are one text
	buf = append(buf, topic...)
	sum := sha256.Sum256(buf)
	out := make([]byte, 0, len(prefix)+2*kept)
	out = append(out, prefix...)
	return string(hex.AppendEncode(out, sum[:kept]))
}
