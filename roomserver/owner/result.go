package owner

import (
	"errors"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
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

// OutcomeOf says what an error means for the events it came up for.
func OutcomeOf(err error) Outcome {
	switch {
	case committed.IsNotHere(err):
		return Refused
	case errors.Is(err, errLacking):
		return Missing
	case matrix.CodeOf(err) == matrix.LimitExceeded:
		return Busy
	}
	return Failed
}

// MaxStepEvents bounds the events of one step, so that others have their turn.
const MaxStepEvents = 100
