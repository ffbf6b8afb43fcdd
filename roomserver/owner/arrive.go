package owner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
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

// errLacking says that an event stands on what is not here.
var errLacking = errors.New("owner: what the event stands on is missing")

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

// prevEvents returns the prev events of an event, with their states.
func (st *Step) prevEvents(ctx context.Context, ev *event.Event) ([]placed, error) {
	found, err := st.Find(ctx, ev.PrevEvents...)
	if err != nil {
		return nil, err
	}
	prevs := make([]placed, 0, len(found))
	for i, prev := range found {
		if prev == nil || prev.StateUnknown {
			return nil, fmt.Errorf("%w: prev event %s", errLacking, ev.PrevEvents[i])
		}
		if lost, err := st.isLost(ctx, prev); lost || err != nil {
			return nil, cmp.Or(err, fmt.Errorf("%w: the state after %s", errLacking, prev.ID))
		}
		if !slices.ContainsFunc(prevs, func(p placed) bool { return p.Num == prev.Num }) {
			prevs = append(prevs, st.place(prev))
		}
	}
	return prevs, nil
}

// authEvents returns the auth events of an event. One of another room counts as rejected, whatever it is there.
// https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules
func (st *Step) authEvents(ctx context.Context, ev *event.Event) ([]*rooms.Event, error) {
	found, err := st.Find(ctx, ev.AuthEvents...)
	if err != nil {
		return nil, err
	}
	for i, a := range found {
		id := ev.AuthEvents[i]
		if a != nil && a.Kind != rooms.Aside {
			continue
		}
		if !st.hints.elsewhere[id] {
			return nil, fmt.Errorf("%w: auth event %s", errLacking, id)
		}
		found[i] = &rooms.Event{Event: &event.Event{ID: id}, Kind: rooms.Rejected}
	}
	return found, nil
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

// check holds an event against its own auth events: auth rule 2, and the rules by the state that they are.
func (st *Step) check(in arrival) error {
	ev := in.event
	if ev.TooLong {
		return &auth.Rejection{Rule: "format", Reason: "the type or the state key is too long"}
	}
	if ev.Type == event.TypeCreate && st.tip.create != nil && ev.ID != st.tip.create.ID {
		return &auth.Rejection{Rule: "1", Reason: fmt.Sprintf("the room was created by %s", st.tip.create.ID)}
	}
	rejected := make(map[*event.Event]bool)
	events := make([]*event.Event, len(in.auth))
	for i, a := range in.auth {
		events[i] = a.Event
		if a.Kind == rooms.Rejected {
			rejected[a.Event] = true
			if a.Num == 0 {
				return &auth.Rejection{Rule: "2.5", Reason: fmt.Sprintf("auth event %s is of another room", a.ID)}
			}
		}
	}
	if err := auth.CheckAuthEvents(ev, events, func(a *event.Event) bool { return rejected[a] }); err != nil {
		return err
	}
	return auth.CheckWith(ev, st.createdBy(authState{selected: in.auth, create: st.tip.create}), st.tip.levels)
}

// createdBy is an auth state whose create event is that of the room only where the version does not have it
// among the auth events.
func (st *Step) createdBy(known authState) auth.State {
	if !st.room.Version.CreateInAuthEvents {
		return known.state
	}
	known.create = nil
	for _, ev := range known.selected {
		if ev.IsState() && ev.StateID() == event.CreateKey {
			known.create = ev
		}
	}
	return known.state
}

// allowedIn judges an event by a state: an *auth.Rejection if it is not allowed. Where the state does not know a member,
// the membership counts that the event cites.
func (st *Step) allowedIn(ctx context.Context, ev *event.Event, in statetree.Tree) (why, err error) {
	if ev.Type == event.TypeCreate {
		return auth.Check(ev, nil), nil
	}
	known := authState{create: st.tip.create}
	keys := NeededBy(ev)
	found, err := st.lookupIn(ctx, in, keys)
	if errors.Is(err, statetree.ErrUnknown) {
		found, err = st.citedIn(ctx, ev, in, keys)
	}
	if err != nil {
		return nil, err
	}
	for _, each := range found {
		if each != nil {
			known.selected = append(known.selected, each)
		}
	}
	return auth.CheckWith(ev, st.createdBy(known), st.tip.levels), nil
}

// NeededBy is the state by which an event is judged.
func NeededBy(ev *event.Event) []event.Key {
	stateKey := ""
	if ev.IsState() {
		stateKey = *ev.StateKey
	}
	return auth.Needed(ev.Version, ev.Type, stateKey, ev.Sender, ev.Content)
}

// ReceiveAll takes events of other servers, each behind what it stands on, and says of each what became of it.
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
		results = append(results, result)
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
