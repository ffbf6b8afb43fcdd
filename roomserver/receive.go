package roomserver

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Outcome says what became of an event that another server sent.
type Outcome uint8

// The outcomes.
const (
	Accepted   Outcome = iota + 1 // it is in the room, and shown
	SoftFailed                    // allowed at its own place, not by the current state: kept, not shown
	Rejected                      // it breaks the rules at its own place: kept as such
	Known                         // we had it
	Missing                       // not kept: what it stands on cannot be had. It may be sent again
	Refused                       // not kept: it is not of this room, or this server is not in the room
	Busy                          // not kept: too much waits for this room. It may be sent again
	Failed                        // not kept: a fault of ours, in Err. It may be sent again
)

// A Result is what became of one event.
type Result struct {
	Event   matrix.EventID
	Outcome Outcome
	Err     error // why, for all but Accepted and Known; an *auth.Rejection for Rejected and SoftFailed
}

// Receive takes events of one room that another server sent, in any order, and says of each what became
// of it, in the order given. It returns when what was stored is committed. The events have passed
// event.Parse and the check of their signatures; what they lack is asked of other servers, origin first.
//
// It is best given all that waits for the room at once: the current state is resolved once for all.
// Different rooms do not wait for each other, nor does anything else in this room wait for what is being
// fetched here.
//
// An event passes these stations, each of which takes and returns values:
//
//	known           is it here already? then that is all            known.go
//	prev events     are all here, with their states? else fetch     prev_events.go, state_at.go
//	auth events     are all here? else fetch                        auth_events.go
//	policy server   has it signed? else ask                         policy.go
//	  -- from here on as the owner of the room, which never waits for the network --
//	check           auth rule 2, and the rules by its auth events   arrive.go
//	state before    the states after its prev events, resolved      state_before.go
//	auth            the rules by the state before it: rejection     arrive.go
//	soft failure    the rules by the current state, the policy server   soft_fail.go, policy.go
//	store           extremities, current state, what follows        step.go, current_state.go, extremities.go
//
// https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
func (s *Server) Receive(ctx context.Context, origin matrix.ServerName, id matrix.RoomID, events []*event.Event) []Result {
	r := newReception(events)
	room, err := s.Room(ctx, id)
	if err != nil {
		return r.all(outcomeOf(err), err)
	}
	if !s.inbox.admit(id, events) {
		return r.all(Busy, matrix.Errorf(matrix.LimitExceeded, "too much waits for %s", id).With("retry_after_ms", retryAfterMS))
	}
	defer s.inbox.leave(id, events)
	wanted := r.screen(room)
	if wanted, err = s.receiveAside(ctx, room, r, wanted); err != nil {
		return r.all(outcomeOf(err), err)
	}
	if len(wanted) == 0 {
		return r.list()
	}
	f := s.newFetch(room, origin, wanted)
	if err := f.complete(ctx); err != nil {
		return r.all(outcomeOf(err), err)
	}
	if err := s.storeFetched(ctx, f); err != nil {
		return r.all(outcomeOf(err), err)
	}
	if err := f.askPolicy(ctx); err != nil {
		return r.all(outcomeOf(err), err)
	}
	if err := s.readGraphAhead(ctx, f); err != nil {
		return r.all(outcomeOf(err), err)
	}
	for events := range f.chunks(maxStepEvents) {
		s.receiveSome(ctx, f, events, r)
	}
	return r.list()
}

// maxStepEvents bounds the events of one step, so that others have their turn.
const maxStepEvents = 100

// outcomeOf says what an error means for the events it came up for.
func outcomeOf(err error) Outcome {
	switch {
	case errors.As(err, new(noRoomError)):
		return Refused
	case errors.Is(err, errLacking):
		return Missing
	case matrix.CodeOf(err) == matrix.LimitExceeded:
		return Busy
	}
	return Failed
}

// receiveSome lets the owner take some events. If one makes the step fail, each is tried alone.
func (s *Server) receiveSome(ctx context.Context, f *fetch, events []*event.Event, r *reception) {
	var results []Result
	err := s.doFor(ctx, f, func(ctx context.Context, st *step) error {
		results = results[:0]
		if err := st.lookForGaps(ctx, idsOf(events)...); err != nil {
			return err
		}
		for _, ev := range events {
			result, err := st.receive(ctx, ev)
			if err != nil {
				return err
			}
			results = append(results, result)
		}
		return st.joinExtremities(ctx)
	})
	switch {
	case err == nil:
		r.note(results...)
	case len(events) > 1 && ctx.Err() == nil && outcomeOf(err) == Failed && !errors.Is(err, errFenced):
		for i := range events {
			s.receiveSome(ctx, f, events[i:i+1], r)
		}
	default:
		for _, ev := range events {
			r.note(Result{Event: ev.ID, Outcome: outcomeOf(err), Err: err})
		}
	}
}

// doFor runs a task with the hints of a fetch, and keeps these good.
func (s *Server) doFor(ctx context.Context, f *fetch, work task) error {
	var last *step
	fresh := false
	err := s.do(ctx, f.room.ID, func(ctx context.Context, st *step) error {
		st.hints = f.hints
		last, fresh = st, st.hintsAreFresh()
		return work(ctx, st)
	})
	if err == nil && fresh {
		f.hints.follow(last)
	}
	return err
}

func idsOf(events []*event.Event) []matrix.EventID {
	ids := make([]matrix.EventID, len(events))
	for i, ev := range events {
		ids[i] = ev.ID
	}
	return ids
}

// A reception is a call of Receive and what has come of it.
type reception struct {
	events  []*event.Event
	results map[matrix.EventID]Result
}

func newReception(events []*event.Event) *reception {
	return &reception{events: events, results: make(map[matrix.EventID]Result, len(events))}
}

// screen returns the events that may be of the room, each once.
func (r *reception) screen(room rooms.Room) (wanted []*event.Event) {
	seen := make(map[matrix.EventID]bool, len(r.events))
	for _, ev := range r.events {
		switch {
		case seen[ev.ID]:
		case ev.RoomID != room.ID || ev.Version != room.Version:
			r.note(Result{ev.ID, Refused, matrix.Errorf(matrix.InvalidParam, "event %s is not of room %s", ev.ID, room.ID)})
		default:
			wanted = append(wanted, ev)
		}
		seen[ev.ID] = true
	}
	return wanted
}

// note notes results; the first of each event counts.
func (r *reception) note(results ...Result) {
	for _, result := range results {
		if _, noted := r.results[result.Event]; !noted {
			r.results[result.Event] = result
		}
	}
}

// all gives every event that has no result yet the same one.
func (r *reception) all(o Outcome, err error) []Result {
	for _, ev := range r.events {
		r.note(Result{ev.ID, o, err})
	}
	return r.list()
}

func (r *reception) list() []Result {
	list := make([]Result, len(r.events))
	for i, ev := range r.events {
		list[i] = r.results[ev.ID]
	}
	return list
}
