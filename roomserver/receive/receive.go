package receive

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/rooms"
)

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
//	known           is it here already? then that is all            fetch.go
//	prev events     are all here, with their states? else fetch     prev_events.go, state_at.go
//	auth events     are all here? else fetch                        auth_events.go
//	policy server   has it signed? else ask                         policy.go
//	  -- from here on as the owner of the room (package owner), which never waits for the network --
//	check           auth rule 2, and the rules by its auth events   auth.go
//	state before    the states after its prev events, resolved      state_before.go
//	auth            the rules by the state before it: rejection     auth.go
//	soft failure    the rules by the current state, the policy server   auth.go, policy.go
//	store           extremities, current state, what follows        store.go, current_state.go, tip.go
//
// https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
func (s *Receiver) Receive(ctx context.Context, origin matrix.ServerName, id matrix.RoomID, events []*event.Event) []owner.Result {
	r := newReception(events)
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	if !s.inbox.admit(id, events) {
		return r.all(owner.Busy, matrix.Errorf(matrix.LimitExceeded, "too much waits for %s", id).With("retry_after_ms", busyForMS))
	}
	defer s.inbox.leave(id, events)
	wanted := r.screen(room)
	if wanted, err = s.receiveAside(ctx, room, r, wanted); err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	if len(wanted) == 0 {
		return r.list()
	}
	f := s.newFetch(room, origin, wanted)
	if err := f.complete(ctx); err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	if err := s.storeFetched(ctx, f); err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	unasked, err := f.askPolicy(ctx)
	if err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	r.note(unasked...)
	if err := s.owners.ReadGraphAhead(ctx, f.Hints, f.batch); err != nil {
		return r.all(owner.OutcomeOf(err), err)
	}
	for events := range slices.Chunk(event.InOrder(f.batch), owner.MaxStepEvents) {
		s.receiveSome(ctx, f, events, r)
	}
	return r.list()
}

// receiveSome lets the owner take some events, in one step or more. If one makes a step fail, each is tried alone.
func (s *Receiver) receiveSome(ctx context.Context, f *fetch, events []*event.Event, r *reception) {
	var results []owner.Result
	err := s.owners.DoWith(ctx, f.Hints, func(ctx context.Context, st *owner.Step) (err error) {
		results, err = st.ReceiveAll(ctx, events)
		return err
	})
	switch {
	case err == nil:
		r.note(results...)
		if rest := events[len(results):]; len(rest) > 0 {
			s.receiveSome(ctx, f, rest, r)
		}
	case len(events) > 1 && ctx.Err() == nil && owner.OutcomeOf(err) == owner.Failed && !owner.IsFenced(err):
		for i := range events {
			s.receiveSome(ctx, f, events[i:i+1], r)
		}
	default:
		for _, ev := range events {
			r.note(owner.Result{Event: ev.ID, Outcome: owner.OutcomeOf(err), Err: err})
		}
	}
}

// A reception is a call of Receive and what has come of it.
type reception struct {
	events  []*event.Event
	results map[matrix.EventID]owner.Result
}

func newReception(events []*event.Event) *reception {
	return &reception{events: events, results: make(map[matrix.EventID]owner.Result, len(events))}
}

// screen returns the events that may be of the room, each once.
func (r *reception) screen(room rooms.Room) (wanted []*event.Event) {
	seen := make(map[matrix.EventID]bool, len(r.events))
	for _, ev := range r.events {
		switch {
		case seen[ev.ID]:
		case ev.RoomID != room.ID || ev.Version != room.Version:
			r.note(owner.Result{Event: ev.ID, Outcome: owner.Refused, Err: matrix.Errorf(matrix.InvalidParam, "event %s is not of room %s", ev.ID, room.ID)})
		default:
			wanted = append(wanted, ev)
		}
		seen[ev.ID] = true
	}
	return wanted
}

// note notes results; the first of each event counts.
func (r *reception) note(results ...owner.Result) {
	for _, result := range results {
		if _, noted := r.results[result.Event]; !noted {
			r.results[result.Event] = result
		}
	}
}

// all gives every event that has no result yet the same one.
func (r *reception) all(o owner.Outcome, err error) []owner.Result {
	for _, ev := range r.events {
		r.note(owner.Result{Event: ev.ID, Outcome: o, Err: err})
	}
	return r.list()
}

func (r *reception) list() []owner.Result {
	list := make([]owner.Result, len(r.events))
	for i, ev := range r.events {
		list[i] = r.results[ev.ID]
	}
	return list
}

// busyForMS is when a server for which there was no room is to come again.
const busyForMS = 1000
