package inbox

import (
	"context"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

const (
	// quarantineAfter is how many panics keep an event out of its room.
	quarantineAfter = 2
	// maxSuspects bounds what is remembered, in memory and over a restart.
	maxSuspects = 10_000
)

// suspect is an event that was being worked on when something panicked.
type suspect struct {
	room  matrix.RoomID
	event matrix.EventID
}

// suspects are those events, with how often that happened. It is noted in the database too, since a panic may end the
// process, and the next one would do it all again.
type suspects struct {
	mu     sync.Mutex
	panics map[suspect]int64
}

func (s *suspects) load(ctx context.Context, q storage.Querier) error {
	stored, err := servers.SuspectEvents(ctx, q, maxSuspects)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range stored {
		s.panics[suspect{e.Room, e.Event}] = e.Panics
	}
	return nil
}

func (s *suspects) count(room matrix.RoomID, id matrix.EventID) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.panics[suspect{room, id}]
}

func (s *suspects) set(room matrix.RoomID, id matrix.EventID, panics int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case panics == 0:
		delete(s.panics, suspect{room, id})
	case len(s.panics) < maxSuspects:
		s.panics[suspect{room, id}] = panics
	}
}

func (s *suspects) any(room matrix.RoomID, events []*event.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.panics) == 0 {
		return false
	}
	for _, e := range events {
		if s.panics[suspect{room, e.ID}] > 0 {
			return true
		}
	}
	return false
}

// IsQuarantined says whether an event is kept out of its room.
func (in *Inbox) IsQuarantined(room matrix.RoomID, id matrix.EventID) bool {
	return in.suspects.count(room, id) >= quarantineAfter
}

// note counts a panic for events.
func (s *suspects) note(ctx context.Context, in *Inbox, room matrix.RoomID, events []*event.Event) {
	for _, e := range events {
		panics := s.count(room, e.ID) + 1
		s.set(room, e.ID, panics)
		in.DB.Submit(servers.SuspectEvent{
			Room: room, Event: e.ID, Panics: panics, SeenMS: in.Now().UnixMilli(),
		}, func(_ storage.Position, err error) { in.logNotNoted(ctx, err) })
	}
}

func (in *Inbox) logNotNoted(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		in.Log.Warn("an event that may have led to a panic was not noted", "cause", err)
	}
}

// deliverCarefully gives a room the events of a parcel one by one. Each is marked as having led to a panic before it is
// tried, in the database, and cleared afterwards: so one that ends the process is known, too.
func (in *Inbox) deliverCarefully(ctx context.Context, p *parcel) (notBefore time.Time) {
	var again []*event.Event
	outcome := parcel{txn: p.txn, room: p.room, tries: p.tries, due: p.due}
	for i, e := range p.events {
		if in.IsQuarantined(p.room, e.ID) {
			in.Log.Error("event quarantined: the server panicked over it again and again",
				"room", p.room, "event", e.ID, "server", p.txn.origin)
			continue
		}
		panics := in.suspects.count(p.room, e.ID) + 1
		mark := servers.SuspectEvent{Room: p.room, Event: e.ID, Panics: panics, SeenMS: in.Now().UnixMilli()}
		if _, err := in.DB.Commit(ctx, mark); err != nil {
			in.logNotNoted(ctx, err)
			p.events, p.due = append(again, p.events[i:]...), in.Now().Add(pause(1))
			return notBefore
		}
		one := []*event.Event{e}
		results, panicked := in.guard(ctx, p, one)
		if panicked {
			in.suspects.set(p.room, e.ID, panics)
			p.events = append(again, p.events[i:]...)
			return in.Now().Add(fencedPause)
		}
		if ctx.Err() != nil { // it was broken off in good order
			mark.Panics--
			in.DB.Submit(mark, func(storage.Position, error) {})
			return notBefore
		}
		in.suspects.set(p.room, e.ID, 0)
		in.DB.Submit(servers.ClearSuspect{Room: p.room, Event: e.ID}, func(_ storage.Position, err error) { in.logNotNoted(ctx, err) })
		outcome.events = one
		outcome.tries = p.tries
		in.settle(&outcome, map[matrix.EventID]roomserver.Result{e.ID: results[0]})
		again = append(again, outcome.events...)
	}
	if len(again) > 0 {
		p.tries, p.due = outcome.tries, outcome.due
	}
	p.events = again
	return notBefore
}
