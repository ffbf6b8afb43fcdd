// Package ephemeral keeps what is true only for the moment: who types in a
// room, and who is online. Nothing of it is stored; after a restart everybody
// is silent and offline until they say otherwise.
//
// Every change takes the next number of one counter, so that a reader who
// remembers a number can ask what changed since. Counters are meaningful within
// one run of the process only; Boot names that run.
//
// A change is applied at once and published on the bus; the other nodes of a
// server apply what they hear. A message that is lost costs at most one typing
// notice, or a presence that is late until the user's next activity.
package ephemeral

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// Bus carries small messages to every node of this server, the sender included.
// It may lose messages.
type Bus interface {
	Publish(topic string, data []byte) error
	Subscribe(topic string, handle func(data []byte)) (cancel func(), err error)
}

// Topics on the bus.
const (
	typingTopic   = "typing"
	presenceTopic = "presence"
)

// Settings is what a Server needs.
type Settings struct {
	Bus  Bus
	Now  func() time.Time
	Boot string // names this run of this process; not empty, no "_"
	Log  *slog.Logger
}

// Change tells a listener what moved: the typists of one room, or the presence
// of some users.
type Change struct {
	Room  matrix.RoomID   // set if the typists of this room changed
	Users []matrix.UserID // set if the presence of these users changed
}

// Server holds typing and presence of all users. It is safe for concurrent use.
type Server struct {
	settings Settings
	cancel   []func()
	kick     chan struct{} // capacity 1: something may be due earlier than Run thinks

	mu         sync.Mutex
	counter    int64
	typing     map[matrix.RoomID]*typists
	typingLast int64 // the counter at the latest change of typists
	presence   map[matrix.UserID]*person
	latest     *list.List                 // of *person: all of presence, the latest changed first
	moved      map[matrix.UserID]struct{} // presence changes not yet told to listeners
	aged       time.Time                  // when presence was last looked through
	listeners  map[int]func(Change)
	nextID     int
}

// New returns a server that already hears the bus. Close ends that.
func New(settings Settings) (*Server, error) {
	s := &Server{
		settings:  settings,
		kick:      make(chan struct{}, 1),
		typing:    map[matrix.RoomID]*typists{},
		presence:  map[matrix.UserID]*person{},
		latest:    list.New(),
		moved:     map[matrix.UserID]struct{}{},
		listeners: map[int]func(Change){},
	}
	for topic, handle := range map[string]func([]byte){
		typingTopic:   s.hearTyping,
		presenceTopic: s.hearPresence,
	} {
		cancel, err := settings.Bus.Subscribe(topic, handle)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
		}
		s.cancel = append(s.cancel, cancel)
	}
	return s, nil
}

// Close stops hearing the bus.
func (s *Server) Close() {
	for _, cancel := range s.cancel {
		cancel()
	}
	s.cancel = nil
}

// Boot names this run: counters of another run mean nothing here.
func (s *Server) Boot() string { return s.settings.Boot }

// Counter returns the number of the latest change.
func (s *Server) Counter() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counter
}

// Listen has f called for every change until cancel is called. f must not block
// and must not call back into the server.
func (s *Server) Listen(f func(Change)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextID
	s.nextID++
	s.listeners[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, id)
	}
}

// Run lets typing end and users go idle and offline in time, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	timer := time.NewTimer(maxPause)
	defer timer.Stop()
	for {
		timer.Reset(s.step(s.settings.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-s.kick:
		}
	}
}

// maxPause is the longest Run sleeps; it bounds how late a user goes idle.
const maxPause = 5 * time.Second

// step does what is due at now and returns how long nothing else will be.
func (s *Server) step(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := min(maxPause, s.expireTyping(now))
	s.agePresence(now)
	s.tellMoved()
	return max(pause, time.Millisecond)
}

// wake makes Run look at once. It never blocks.
func (s *Server) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// tell calls every listener. The lock is held, so that changes are told in order.
func (s *Server) tell(c Change) {
	for _, f := range s.listeners {
		f(c)
	}
}

// publish sends a change of ours to the other nodes. A bus that is down costs
// them this change only.
func (s *Server) publish(topic string, message any) {
	data, err := json.Marshal(message)
	if err == nil {
		err = s.settings.Bus.Publish(topic, data)
	}
	if err != nil {
		s.settings.Log.Warn("ephemeral change not published", "topic", topic, "error", err)
	}
}
