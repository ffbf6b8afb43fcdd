package bus

import "github.com/nats-io/nats.go"

// lossTopic is where a node tells all that messages of its own were lost.
const lossTopic = "\x00lost"

// OnLost has f called when messages may have been lost: after the connection was made again, after a subscription of this node
// fell behind, after another node could not send. f reads again whatever messages only hint at; it must not block, and
// may be called more often than there was a loss.
func (b *Bus) OnLost(f func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.hookID
	b.hookID++
	b.hooks[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.hooks, id)
	}
}

// lost calls the hooks.
func (b *Bus) lost() {
	b.mu.Lock()
	hooks := make([]func(), 0, len(b.hooks))
	for _, f := range b.hooks {
		hooks = append(hooks, f)
	}
	b.mu.Unlock()
	for _, f := range hooks {
		b.guard(f)
	}
}

// connected tells this node that it has missed what was sent meanwhile, and the others if they have missed something
// of this one.
func (b *Bus) connected(conn *nats.Conn) {
	b.log.Info("bus connected")
	// The subscriptions have been sent again, but only after an answer are they in force: what is published before that
	// is lost, and has to be so before anybody reads again. An error means that this connection broke too.
	_ = conn.FlushTimeout(confirmTimeout)
	b.lost()
	if b.unsent.Swap(false) {
		if err := b.Publish(lossTopic, nil); err != nil {
			b.log.Warn("bus: the loss could not be told", "error", err)
		}
	}
}
