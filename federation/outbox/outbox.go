// Package outbox sends to other servers what they are owed: the events of the rooms they are in, and EDUs.
//
// It keeps no queue of copies. One dispatcher reads the log once and notes, for each destination, what of it is owed;
// the content is read when it is sent. A destination that keeps up has a short list of positions. One that does not has
// one number a room, from which on its events are still to be sent: however long it is away it costs bytes, and no
// room waits for another. Idle destinations cost nothing at all: there is no goroutine, timer or row for them.
//
// The package promises that every event and durable EDU owed arrives at least once, the events of a room in their
// order, over failures and restarts. What is noted is stored now and then, together with the position up to which the
// log was read; after a crash that stretch of the log is read again. A transaction's ID follows from what is in it, so
// what is repeated is known to its receiver. Only two things are left out: of a room in which a destination lags far
// behind, all but the newest events (the receiver asks for the others, which it can see are missing), and what a
// destination refuses again and again while it takes all else. Typing and presence are sent to who can be reached at
// that moment.
//
// All decisions are made by state, which has no clock, database, network or goroutine: its steps take what happened
// and return what to do.
package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

// Sender delivers transactions. HTTP makes the one for the network.
type Sender interface {
	// Permits returns an error if nothing is ever sent to a server.
	Permits(s matrix.ServerName) error
	// Send returns when the server has acknowledged the transaction.
	Send(ctx context.Context, to matrix.ServerName, t Transaction) (Answer, error)
}

// Rooms says who is to be told. All servers that it names have passed the server ACL of the room; this server itself
// may be among them.
type Rooms interface {
	// Owed returns the servers to which this server sends an event: those that are in the room before it, and those
	// that it brings in, if the event was made here or entered by our send_join, send_leave or send_knock, but for
	// the server that it came from; none for an event that others send. It always says the same of an event.
	Owed(ctx context.Context, ev *rooms.Event) ([]matrix.ServerName, error)
	// Servers returns the servers that are in a room now.
	Servers(ctx context.Context, room matrix.RoomID) ([]matrix.ServerName, error)
	// Sharing returns the servers that share a room with a user now.
	Sharing(ctx context.Context, user matrix.UserID) ([]matrix.ServerName, error)
}

// Settings say what an outbox works with.
type Settings struct {
	DB         *storage.DB
	ServerName matrix.ServerName
	Rooms      Rooms
	Sender     Sender
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
	Rand       *rand.Rand       // for the spread of retries; nil: seeded by the system
}

// Outbox sends to other servers. All methods may be called from any goroutine.
type Outbox struct {
	settings Settings
	db       *storage.DB
	log      *slog.Logger
	moved    chan struct{} // capacity 1: the log did, or may have
	changed  chan struct{} // capacity 1: the state did

	mu      sync.Mutex
	state   *state
	unsaved *servers.SaveOutbox // being stored, or to be stored before anything else

	troubles troubles
	reader   reader // of the dispatcher alone
}

// New makes an outbox; Run makes it work.
func New(s Settings) *Outbox {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Rand == nil {
		s.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	return &Outbox{
		settings: s, db: s.DB, log: s.Log, state: newState(s.Rand), reader: reader{since: s.DB.Since},
		moved: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// Wake says that the log moved, or that word of it may have been lost. It does not block.
func (o *Outbox) Wake() { signal(o.moved) }

// Heard says that a server has spoken to us, so that it may be worth another try.
func (o *Outbox) Heard(s matrix.ServerName) {
	o.mu.Lock()
	news := o.state.heard(s, o.settings.Now())
	o.mu.Unlock()
	if news {
		signal(o.changed)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// permitted leaves out of a list this one and those to which nothing is sent.
func (o *Outbox) permitted(list []matrix.ServerName) []matrix.ServerName {
	kept := make([]matrix.ServerName, 0, len(list))
	for _, s := range list {
		if s != o.settings.ServerName && o.settings.Sender.Permits(s) == nil {
			kept = append(kept, s)
		}
	}
	return kept
}
