// Package bus carries news between the parts of the server and between its nodes: wake-ups, typing, presence, requests
// to the owner of a room. It is core NATS: a server inside the process that listens on no port, or a cluster outside.
//
// A message may be lost: when a node falls behind, when a connection breaks, when the cluster restarts. Truth is never
// here. Whoever listens also reads what it has missed when [Bus.OnLost] calls, and on a slow timer, because a cluster can
// lose a message without any node noticing.
//
// A message goes to all nodes that have subscribed to its topic, the publisher's own included. Messages of one publisher
// on one topic arrive in the order in which they were sent.
//
// NATS itself is seen in this package only.
package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Embedded is the URL of the server inside the process.
const Embedded = "embedded"

// MaxPayload is the size of the largest message.
const MaxPayload = 1 << 20

// What a message may fail with.
var (
	ErrTooLarge = errors.New("the message is too large for the bus")
	ErrClosed   = errors.New("the bus is closed")
)

const (
	// pendingMessages and pendingBytes are how far a subscription may fall behind before messages are dropped.
	pendingMessages = 16 << 10
	pendingBytes    = 16 << 20
	// outageBytes are kept for a cluster that cannot be reached at the moment.
	outageBytes = 1 << 20

	reconnectWait = 250 * time.Millisecond
	dialTimeout   = 2 * time.Second
	pingInterval  = 20 * time.Second
	startTimeout  = 5 * time.Second
	// confirmTimeout is how long a subscription waits until the cluster has heard of it.
	confirmTimeout = 2 * time.Second
)

// Settings are what a bus is made of.
type Settings struct {
	URL  string       // [Embedded], or nats:// URLs separated by commas
	Name string       // keeps servers apart that share a cluster: the server name
	Log  *slog.Logger // nil: nothing is logged
}

// Bus is a connection to the messages of all nodes.
type Bus struct {
	name   string
	log    *slog.Logger
	server *server.Server // nil if it is outside
	conn   *nats.Conn

	// late is set if the first connection was not made at once, so that there may be something to read again when it is.
	late atomic.Bool
	// unsent is set when a message could not be sent, until all nodes have been told to read again.
	unsent atomic.Bool

	// running is held for reading by each delivery, and for writing to close.
	running sync.RWMutex
	closed  bool

	mu     sync.Mutex
	topics map[string]*topic
	hooks  map[int]func()
	hookID int
}

// Start makes a bus and connects it. A cluster that cannot be reached is tried for ever, and is no error.
func Start(s Settings) (*Bus, error) {
	b := &Bus{name: s.Name, log: s.Log, topics: make(map[string]*topic), hooks: make(map[int]func())}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	options := b.options()
	if s.URL == Embedded {
		if err := b.startServer(); err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(b.server))
	}
	if err := b.connect(strings.ReplaceAll(s.URL, " ", ""), options); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Bus) startServer() error {
	s, err := server.NewServer(&server.Options{
		ServerName: "embedded",
		DontListen: true,
		NoSigs:     true, // its handler of SIGINT would end the process
		NoLog:      true,
		MaxPayload: MaxPayload,
	})
	if err != nil {
		return fmt.Errorf("make the embedded bus: %w", err)
	}
	b.server = s
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		b.stopServer()
		return errors.New("the embedded bus did not start")
	}
	return nil
}

func (b *Bus) options() []nats.Option {
	return []nats.Option{
		nats.Name("myelin"),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectBufSize(outageBytes),
		nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("bus disconnected", "error", err)
			}
		}),
		nats.ConnectHandler(func(conn *nats.Conn) {
			if b.late.Load() {
				b.connected(conn)
			}
		}),
		nats.ReconnectHandler(b.connected),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			b.log.Warn("bus", "error", err)
		}),
	}
}

// connect connects, and subscribes to what nodes tell each other about losses.
func (b *Bus) connect(url string, options []nats.Option) error {
	conn, err := nats.Connect(url, options...)
	if err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	b.conn = conn
	b.late.Store(!conn.IsConnected())
	_, err = b.conn.Subscribe(subject(b.name, lossTopic), func(*nats.Msg) { b.lost() })
	if err != nil {
		return fmt.Errorf("subscribe to losses: %w", err)
	}
	return nil
}

// Publish sends data to whoever has subscribed to the topic. It does not wait until it is delivered.
func (b *Bus) Publish(topic string, data []byte) error {
	if len(data) > MaxPayload {
		return fmt.Errorf("publish %d bytes: %w", len(data), ErrTooLarge)
	}
	err := b.conn.Publish(subject(b.name, topic), data)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish %d bytes: %w", len(data), ErrTooLarge)
	}
	b.unsent.Store(true)
	return fmt.Errorf("publish: %w", err)
}

// Close ends all subscriptions, waits for handlers that are running, and disconnects. It must not be called by a
// handler.
func (b *Bus) Close() {
	b.running.Lock()
	b.closed = true
	b.running.Unlock()
	if b.conn != nil {
		b.conn.Close()
	}
	b.stopServer()
}

func (b *Bus) stopServer() {
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}
