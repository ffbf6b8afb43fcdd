package owner

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
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

// maxStepEffort bounds what a step resolves before it takes another event: some 50 ms. Whoever cites the beginning of a
// room beside its end has all of its state resolved.
const maxStepEffort = 10_000

// Receive takes an event of another server through the stations.
func (st *Step) Receive(ctx context.Context, ev *event.Event) (Result, error) {
	in, err := st.arrive(ctx, ev)
	switch {
	case errors.Is(err, errLacking):
		return Result{Event: ev.ID, Outcome: Missing, Err: err}, nil
	case err != nil:
		return Result{}, err
	case in.event == nil:
		return Result{Event: ev.ID, Outcome: Known}, nil
	}
	why, err := st.judge(ctx, &in)
	if err == nil {
		_, err = st.store(ctx, in)
	}
	if err != nil {
		return Result{}, err
	}
	outcome := map[rooms.Kind]Outcome{rooms.Rejected: Rejected, rooms.SoftFailed: SoftFailed}[in.kind]
	if outcome == 0 {
		outcome = Accepted
	}
	return Result{Event: ev.ID, Outcome: outcome, Err: why}, nil
}

// arrive finds all that an event stands on. An event that is known gives an arrival without one.
func (st *Step) arrive(ctx context.Context, ev *event.Event) (arrival, error) {
	in, err := st.begin(ctx, ev)
	if err != nil || in.event == nil {
		return in, err
	}
	mayLack := true
	if in.stored == nil || in.stored.StateUnknown {
		prevs, err := st.prevEvents(ctx, in.event)
		if err != nil {
			return in, err
		}
		if in.before, err = st.stateAfterAll(ctx, prevs); err != nil {
			return in, err
		}
		mayLack = slices.ContainsFunc(prevs, func(prev placed) bool { return prev.Position == 0 && prev.Kind != rooms.Live })
	} else {
		in.before = st.place(in.stored).before
	}
	return in, st.findGaps(ctx, &in, mayLack)
}

// findGaps finds what an arrival lacks, and what lacks it.
func (st *Step) findGaps(ctx context.Context, in *arrival, mayLack bool) (err error) {
	if mayLack {
		if in.lacks, err = st.lacking(ctx, in.event); err != nil {
			return err
		}
	}
	in.fills, in.late, err = st.lacked(ctx, in.event.ID)
	return err
}

// begin looks whether an event is known, and for its auth events.
func (st *Step) begin(ctx context.Context, ev *event.Event) (arrival, error) {
	st.ofOthers = true
	found, err := st.Find(ctx, ev.ID)
	if err != nil {
		return arrival{}, err
	}
	in := arrival{event: ev, stored: found[0], kind: rooms.Live}
	if had := in.stored; had != nil {
		if !had.HasNoPlace() {
			return arrival{}, nil
		}
		in.event = had.Event // in old versions others choose the IDs: the first that came counts
		if had.Kind != rooms.Outlier && had.Kind != rooms.Aside {
			in.kind, in.order = had.Kind, had.Order
		}
	}
	in.auth, err = st.authEvents(ctx, in.event)
	return in, err
}

// judge decides what an event is in the room: accepted as what it came as, rejected, or soft-failed. It says
// why: an *auth.Rejection.
func (st *Step) judge(ctx context.Context, in *arrival) (why, err error) {
	why = st.check(*in)
	if why == nil && !in.unknown {
		why, err = st.allowedIn(ctx, in.event, in.before)
	}
	switch {
	case err != nil:
		return nil, err
	case in.stored != nil && in.stored.Kind == rooms.Rejected && why == nil:
		why = &auth.Rejection{Rule: "2.3", Reason: "the event was rejected before"}
	}
	if why != nil {
		in.kind, in.order = rooms.Rejected, rooms.Order{}
		return why, nil
	}
	if in.kind != rooms.Live {
		return nil, nil
	}
	if why, err = st.softFails(ctx, in.event, in.before); why == nil && err == nil {
		why = st.unwanted(in.event)
	}
	if why != nil {
		in.kind = rooms.SoftFailed
	}
	return why, err
}

// ReceiveAll takes events of other servers, each behind what it stands on, and says of each what became of it. It takes fewer
// than all of them, and one at least, where that is much work: the others want a step of their own.
func (st *Step) ReceiveAll(ctx context.Context, events []*event.Event) ([]Result, error) {
	if err := st.mustLive(); err != nil {
		return nil, err
	}
	if err := st.lookForGaps(ctx, idsOf(events)...); err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(events))
	for _, ev := range events {
		result, err := st.Receive(ctx, ev)
		if err != nil {
			return nil, err
		}
		if results = append(results, result); st.effort >= st.owners.stepEffort {
			break
		}
	}
	return results, st.JoinExtremities(ctx)
}

func idsOf(events []*event.Event) []matrix.EventID {
	ids := make([]matrix.EventID, len(events))
	for i, ev := range events {
		ids[i] = ev.ID
	}
	return ids
}
