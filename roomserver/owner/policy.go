package owner

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Events of our own in a room with a policy server are made twice: a task is run, what it would add is shown to the policy
// server without the room waiting for it, and the task is run again on the same footing, so that it makes the very same
// events, which now are signed. Where the room has gone on meanwhile they are a branch of it, and held against the current
// state like all that comes late.

// unsignedError ends a step that has made events which the policy server has not signed.
type unsignedError struct {
	policy policy.Server
	events []*event.Event
	on     footing
	rests  *flight // on this, in turn; nil if all is committed
}

func (*unsignedError) Error() string { return "owner: the policy server has not been asked" }

// stand lets the events of a step follow what those of an earlier try did.
func (st *Step) stand(on *footing) {
	if on == nil {
		return
	}
	st.nowMS = on.nowMS
	st.footing = &footing{follows: slices.Clone(on.follows), nowMS: on.nowMS, signed: on.signed}
}

// recommend returns an event of our own as it goes into the room: with the signature of the room's policy server if that
// has given it. One that it has not been asked about yet is noted.
func (st *Step) recommend(ctx context.Context, ev *event.Event) (*event.Event, error) {
	if st.tip.policy == nil || st.created {
		return ev, nil
	}
	p, inUse, err := st.owners.policyServer(ctx, st.room, st.tip.policy)
	if err != nil || !inUse {
		return ev, err
	}
	if st.footing != nil && st.footing.signed[ev.ID] != nil {
		ev = st.footing.signed[ev.ID]
	}
	if p.Wants(ev) {
		st.unseen = append(st.unseen, ev)
		st.asked = p
	}
	return ev, nil
}

// checkLate holds an event of our own that stands on an earlier footing against the current state.
func (st *Step) checkLate(ctx context.Context, in arrival) error {
	if st.footing == nil {
		return nil
	}
	why, err := st.softFails(ctx, in.event, in.before)
	if why != nil {
		return Forbidden(why)
	}
	return err
}

// advance lets the next event follow this one.
func (on *footing) advance(ev placed) {
	t := tip{extremities: on.follows}
	t.replaceExtremities(ev)
	on.follows = t.extremities
}

// mustBeSigned ends a step of which the policy server has not seen all events. Before is the tip it began with.
func (st *Step) mustBeSigned(before *tip, rests *flight) error {
	if len(st.unseen) == 0 {
		return nil
	}
	return &unsignedError{
		policy: st.asked, events: st.unseen, rests: rests,
		on: footing{follows: before.extremities, nowMS: st.nowMS},
	}
}

// askFor shows the events of a step to the policy server, once what they follow is committed.
func (s *Owners) askFor(ctx context.Context, ask *unsignedError) (*footing, error) {
	if ask.rests != nil {
		select {
		case <-ask.rests.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if ask.rests.err != nil {
			return nil, nil // it broke away: the task begins anew
		}
	}
	on := ask.on
	on.signed = make(map[matrix.EventID]*event.Event, len(ask.events))
	for _, ev := range ask.events {
		signed, err := s.policies.Sign(ctx, ask.policy, ev)
		if err != nil {
			return nil, err
		}
		on.signed[ev.ID] = signed
	}
	return &on, nil
}

// policyServer returns whom a room wants to be asked, if that server is in the room; named is what stands at policy.Key.
func (s *Owners) policyServer(ctx context.Context, room rooms.Room, named *rooms.Event) (p policy.Server, inUse bool, err error) {
	if p, inUse = policy.Of(named); !inUse {
		return p, false, nil
	}
	inUse, err = s.MayBeIn(ctx, room, p.Name)
	return p, inUse, err
}

// unwanted says why the policy server that the room has now does not want an event: an *auth.Rejection.
func (st *Step) unwanted(ev *event.Event) error {
	why, unwanted := st.hints.unwanted[ev.ID]
	if !unwanted || st.tip.policy == nil || st.tip.policy.Num != st.hints.policy {
		return nil
	}
	return &auth.Rejection{Rule: "policy server", Reason: why}
}

// stillUnwanted says why an event that was kept out stays so when it is judged anew: it came without the signature of the
// policy server, or this was refused. It is not asked about again.
func (st *Step) stillUnwanted(ctx context.Context, ev *rooms.Event) (why, err error) {
	if ev.Kind == rooms.Live {
		return nil, nil
	}
	p, inUse, err := st.owners.policyServer(ctx, st.room, st.tip.policy)
	if err != nil || !inUse || !p.Wants(ev.Event) {
		return nil, err
	}
	return &auth.Rejection{Rule: "policy server", Reason: fmt.Sprintf("%s has not signed the event", p.Name)}, nil
}

// PolicyIn returns whom a room wants to be asked as it is committed, if that server is in the room, and the state event that
// names it.
func (s *Owners) PolicyIn(ctx context.Context, room rooms.Room) (p policy.Server, named *rooms.Event, inUse bool, err error) {
	state, err := s.Current(ctx, room.ID)
	if err != nil {
		return p, nil, false, err
	}
	if named, err = state.Event(ctx, policy.Key); err != nil {
		return p, nil, false, err
	}
	p, inUse, err = s.policyServer(ctx, room, named)
	return p, named, inUse, err
}

// Recommended returns an event for a room as its policy server, if it has one, wants it.
func (s *Owners) Recommended(ctx context.Context, room rooms.Room, ev *event.Event) (*event.Event, error) {
	p, _, inUse, err := s.PolicyIn(ctx, room)
	if err != nil || !inUse || !p.Wants(ev) {
		return ev, err
	}
	return s.policies.Sign(ctx, p, ev)
}

// SignByPolicy returns an event with the signature of a policy server, which is asked for it. The error is what clients are
// told.
func (s *Owners) SignByPolicy(ctx context.Context, p policy.Server, ev *event.Event) (*event.Event, error) {
	return s.policies.Sign(ctx, p, ev)
}
