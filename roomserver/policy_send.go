package roomserver

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// Events of our own in a room with a policy server are made twice: a task is run, what it would add is shown to the policy
// server without the room waiting for it, and the task is run again on the same footing, so that it makes the very same
// events, which now are signed. Where the room has gone on meanwhile they are a branch of it, and held against the current
// state like all that comes late.

// A footing is what the events of a task stand on, and what of them the policy server has signed.
type footing struct {
	follows []placed // as forward extremities
	nowMS   int64
	signed  map[matrix.EventID]*event.Event
}

// unsignedError ends a step that has made events which the policy server has not signed.
type unsignedError struct {
	policy PolicyServer
	events []*event.Event
	on     footing
	rests  *flight // on this, in turn; nil if all is committed
}

func (*unsignedError) Error() string { return "roomserver: the policy server has not been asked" }

// stand lets the events of a step follow what those of an earlier try did.
func (st *step) stand(on *footing) {
	if on == nil {
		return
	}
	st.nowMS = on.nowMS
	st.footing = &footing{follows: slices.Clone(on.follows), nowMS: on.nowMS, signed: on.signed}
}

// recommend returns an event of our own as it goes into the room: with the signature of the room's policy server if that
// has given it. One that it has not been asked about yet is noted.
func (st *step) recommend(ctx context.Context, ev *event.Event) (*event.Event, error) {
	if st.tip.policy == nil || st.created {
		return ev, nil
	}
	p, inUse, err := st.server.policyServer(ctx, st.room, st.tip.policy)
	if err != nil || !inUse {
		return ev, err
	}
	if st.footing != nil && st.footing.signed[ev.ID] != nil {
		ev = st.footing.signed[ev.ID]
	}
	if p.wants(ev) {
		st.unseen = append(st.unseen, ev)
		st.asked = p
	}
	return ev, nil
}

// checkLate holds an event of our own that stands on an earlier footing against the current state.
func (st *step) checkLate(ctx context.Context, in arrival) error {
	if st.footing == nil {
		return nil
	}
	why, err := st.softFails(ctx, in.event, in.before)
	if why != nil {
		return forbidden(why)
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
func (st *step) mustBeSigned(before *tip, rests *flight) error {
	if len(st.unseen) == 0 {
		return nil
	}
	return &unsignedError{
		policy: st.asked, events: st.unseen, rests: rests,
		on: footing{follows: before.extremities, nowMS: st.nowMS},
	}
}

// askFor shows the events of a step to the policy server, once what they follow is committed.
func (s *Server) askFor(ctx context.Context, ask *unsignedError) (*footing, error) {
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
		signed, err := s.recommended(ctx, ask.policy, ev)
		if err != nil {
			return nil, err
		}
		on.signed[ev.ID] = signed
	}
	return &on, nil
}
