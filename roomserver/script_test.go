package roomserver_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A script is other servers, as a test wants them.
type script struct {
	mu      sync.Mutex
	events  map[matrix.EventID]*event.Event
	prevs   map[matrix.EventID][]*event.Event
	states  map[matrix.EventID][]*event.Event // before an event
	deaf    map[matrix.ServerName]bool
	hidden  map[matrix.EventID]bool
	moments map[matrix.ServerName]matrix.EventID                             // what each says is nearest to any
	policy  func(ctx context.Context, ev *event.Event) (*event.Event, error) // what the policy server says; nil: nothing
	asked   []string
	between func(gap roomserver.Gap) []*event.Event
	broken  int                        // things that come with the events between
	keep    func(ev *event.Event) bool // of the events of a state; nil: all
	gate    chan struct{}              // if not nil, answers wait until it is closed
}

var errDeaf = errors.New("no answer")

func newScript() *script {
	return &script{
		events: make(map[matrix.EventID]*event.Event), prevs: make(map[matrix.EventID][]*event.Event),
		states: make(map[matrix.EventID][]*event.Event), deaf: make(map[matrix.ServerName]bool), hidden: make(map[matrix.EventID]bool),
	}
}

func (s *script) know(ev *event.Event, prevs []*event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[ev.ID], s.prevs[ev.ID] = ev, prevs
}

// ask notes a request and says whether it is answered.
func (s *script) ask(ctx context.Context, what string, from matrix.ServerName) error {
	s.mu.Lock()
	s.asked = append(s.asked, what+" "+string(from))
	gate, deaf := s.gate, s.deaf[from]
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if deaf {
		return errDeaf
	}
	return nil
}

func (s *script) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *script) MissingEvents(ctx context.Context, from matrix.ServerName, gap roomserver.Gap) (b roomserver.Between, err error) {
	if err := s.ask(ctx, "missing", from); err != nil {
		return b, err
	}
	b.Broken = s.broken
	if s.between != nil {
		b.Events = s.between(gap)
		return b, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*event.Event
	todo := slices.Clone(gap.Latest)
	for len(todo) > 0 && len(found) < gap.Limit {
		id := todo[0]
		todo = todo[1:]
		for _, prev := range s.prevs[id] {
			if !s.hidden[prev.ID] && !slices.Contains(gap.Earliest, prev.ID) && s.events[prev.ID] != nil {
				found = append(found, prev)
				todo = append(todo, prev.ID)
			}
		}
	}
	b.Events = found
	return b, nil
}

func (s *script) StateIDs(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (ids roomserver.StateIDs, err error) {
	if err := s.ask(ctx, "state_ids", from); err != nil {
		return ids, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.states[at] {
		ids.State = append(ids.State, ev.ID)
	}
	return ids, nil
}

func (s *script) State(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (answer roomserver.StateEvents, err error) {
	if err := s.ask(ctx, "state", from); err != nil {
		return answer, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ev := range s.states[at] {
		if s.keep == nil || s.keep(ev) {
			answer.State = append(answer.State, ev)
		}
	}
	return answer, nil
}

func (s *script) Event(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) (*event.Event, error) {
	if err := s.ask(ctx, "event", from); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hidden[id] {
		return nil, errDeaf
	}
	return s.events[id], nil
}

func (s *script) EventAuth(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) ([]*event.Event, error) {
	if err := s.ask(ctx, "event_auth", from); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var chain []*event.Event
	todo := []matrix.EventID{id}
	for len(todo) > 0 && len(chain) < 1000 {
		ev := s.events[todo[0]]
		todo = todo[1:]
		if ev == nil {
			continue
		}
		for _, a := range ev.AuthEvents {
			if known := s.events[a]; known != nil && !s.hidden[a] {
				chain = append(chain, known)
				todo = append(todo, a)
			}
		}
	}
	return chain, nil
}

func (s *script) Backfill(ctx context.Context, from matrix.ServerName, h roomserver.History) ([]*event.Event, error) {
	if err := s.ask(ctx, "backfill", from); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*event.Event
	for todo := slices.Clone(h.From); len(todo) > 0 && len(found) < h.Limit; {
		ev := s.events[todo[0]]
		todo = todo[1:]
		if ev == nil || s.hidden[ev.ID] || slices.Contains(found, ev) {
			continue
		}
		found = append(found, ev)
		todo = append(todo, ev.PrevEvents...)
	}
	return found, nil
}

func (s *script) EventAt(ctx context.Context, from matrix.ServerName, room rooms.Room, m rooms.Moment) (matrix.EventID, error) {
	if err := s.ask(ctx, "event at", from); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.moments[from]; ok {
		return id, nil
	}
	return "", errDeaf
}

func (s *script) PolicySign(ctx context.Context, p policy.Server, ev *event.Event) (*event.Event, error) {
	if err := s.ask(ctx, "policy", p.Name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	say := s.policy
	s.mu.Unlock()
	if say == nil {
		return nil, errDeaf
	}
	return say(ctx, ev)
}
