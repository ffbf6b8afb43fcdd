package stateres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
)

// question is an event whose check against the partial state is due.
type question struct {
	num  statetree.Value
	ev   *event.Event
	auth []Ref          // its auth events, if they were read, see resolution.standIn
	need []event.Key    // all that the check looks at, the create event included
	at   [maxNeed]place // of these
	own  place          // of the event itself

	answers [maxNeed]*event.Event // to need, while it is checked
}

// state is the state that the event is checked against.
func (q *question) state(k event.Key) *event.Event {
	if i := slices.Index(q.need, k); i >= 0 {
		return q.answers[i]
	}
	return nil
}

// place is a key of the state, and where the partial state has it: in
// resolution.partial if there is a conflict at it, else in resolution.agreed.
type place struct {
	key      statetree.Key
	at       int32
	conflict bool
}

// agreed is a key at which there is no conflict.
type agreed struct {
	partial statetree.Value // resolved so far, 0: nothing
	value   statetree.Value // what all states hold, if that is known
	known   bool
}

func (r *resolution) placeOf(k statetree.Key) place {
	if i, ok := r.conflicts.find(k); ok {
		return place{k, int32(i), true}
	}
	i, _ := r.agreed.add(k)
	return place{k, int32(i), false}
}

// maxNeed is the largest number of events that a check looks at: create, power
// levels, the members who send it, whom it is about and who vouches for a
// join, join rules, third-party invite.
const maxNeed = 8

// pose makes q the question of an event, like which the one before it may be.
// What q was before is reused.
func (r *resolution) pose(q, before *question, e *entry, ev *event.Event) {
	q.num, q.ev, q.auth, q.own = e.num, ev, nil, e.own
	if q.need == nil {
		const usual = 6
		q.need = make([]event.Key, 0, usual)
	}
	q.need = auth.AppendNeeded(q.need[:0], ev)
	if !slices.Contains(q.need, createKey) {
		q.need = append(q.need, createKey)
	}
	own := ev.StateID()
	for i, need := range q.need {
		switch {
		case need == own:
			q.at[i] = q.own
		case before != nil && i < len(before.need) && before.need[i] == need:
			q.at[i] = before.at[i]
		default:
			q.at[i] = r.placeOf(r.keyOf(need))
		}
	}
}

// apply is the iterative auth checks algorithm: each event in turn becomes
// part of the partial state if it is allowed in it.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) apply(ctx context.Context, entries []*entry) error {
	r.replayed += len(entries)
	for some := range slices.Chunk(entries, MaxLoad/maxNeed) {
		if err := r.warm(ctx, some); err != nil {
			return err
		}
		for i := range r.questions {
			q := &r.questions[i]
			allowed, err := r.allowed(ctx, q)
			if err != nil {
				return err
			}
			if allowed {
				r.setPartial(q.own, q.num)
			}
		}
	}
	return nil
}

// allowed checks an event against the partial state.
func (r *resolution) allowed(ctx context.Context, q *question) (bool, error) {
	var err error
	if r.nums, err = r.numbers(ctx, q, r.nums[:0]); err != nil {
		return false, err
	}
	events, err := r.events.get(ctx, r.nums, q.answers[:])
	if err != nil {
		return false, err
	}
	for i, e := range events {
		if need := q.need[i]; e != nil && e.StateID() != need {
			return false, fmt.Errorf("%w: event %s is in the place of %s %q", ErrMismatch, e.ID, need.Type, need.StateKey)
		}
	}
	levels := r.levels.get(r.room.Version, q.state(createKey), q.state(powerLevelsKey))
	err = auth.CheckWith(q.ev, q.state, levels)
	if err == nil {
		return true, nil
	}
	var rejection *auth.Rejection
	if !errors.As(err, &rejection) {
		return false, err
	}
	return false, nil
}

var (
	createKey      = event.Key{Type: event.TypeCreate}
	powerLevelsKey = event.Key{Type: event.TypePowerLevels}
	joinRulesKey   = event.Key{Type: event.TypeJoinRules}
)

// numbers appends the events that a check looks at, 0 where the partial state
// has none. An auth event of the event being checked may stand in for what is
// not there.
func (r *resolution) numbers(ctx context.Context, q *question, nums []statetree.Value) ([]statetree.Value, error) {
	for _, p := range q.at[:len(q.need)] {
		v, err := r.current(ctx, p)
		if err != nil {
			return nil, err
		}
		if v == 0 {
			if v, err = r.standIn(ctx, q, p.key); err != nil {
				return nil, err
			}
		}
		if v == 0 && p.key == r.keys.create && !r.room.Version.CreateInAuthEvents {
			v = r.room.Create // which the room ID names
		}
		nums = append(nums, v)
	}
	return nums, nil
}

// standIn returns the auth event of a question's event that has a key, or 0.
// Version 1 does without.
func (r *resolution) standIn(ctx context.Context, q *question, k statetree.Key) (statetree.Value, error) {
	if r.room.Version.StateResolution == event.StateResolutionV1 {
		return 0, nil
	}
	if q.auth == nil {
		n, _, err := r.node(ctx, q.num)
		if err != nil {
			return 0, err
		}
		from := len(r.standIns)
		r.standIns = append(r.standIns, n.Auth...)
		q.auth = r.standIns[from:]
	}
	for _, a := range q.auth {
		if a.Key == k {
			return a.Num, nil
		}
	}
	return 0, nil
}

// current returns what the partial state has at a key. In v2.1 it begins
// empty, before that with what is not in conflict.
func (r *resolution) current(ctx context.Context, p place) (statetree.Value, error) {
	if p.conflict {
		return r.partial[p.at], nil
	}
	startsEmpty := r.room.Version.StateResolution == event.StateResolutionV21
	a := r.agreed.value(int(p.at))
	if a.partial != 0 || startsEmpty {
		return a.partial, nil
	}
	if !a.known {
		v, err := r.base.value(ctx, p.key)
		if err != nil {
			return 0, err
		}
		a.value, a.known = v, true
	}
	return a.value, nil
}

// setPartial makes an event part of the partial state.
func (r *resolution) setPartial(p place, num statetree.Value) {
	if p.conflict {
		r.partial[p.at] = num
	} else {
		r.agreed.value(int(p.at)).partial = num
	}
}

// warm makes the questions of some entries, and loads with few calls what
// checking them will mostly need.
func (r *resolution) warm(ctx context.Context, entries []*entry) error {
	if err := r.ask(ctx, entries); err != nil {
		return err
	}
	if r.room.Version.StateResolution != event.StateResolutionV21 {
		if err := r.warmBase(ctx); err != nil {
			return err
		}
	}
	r.nums = r.nums[:0]
	for i := range r.questions {
		var err error
		if r.nums, err = r.numbers(ctx, &r.questions[i], r.nums); err != nil {
			return err
		}
	}
	return r.events.load(ctx, r.nums)
}

// warmBase reads what all states hold where the questions look.
func (r *resolution) warmBase(ctx context.Context) error {
	var keys []statetree.Key
	for i := range r.questions {
		q := &r.questions[i]
		for _, p := range q.at[:len(q.need)] {
			if !p.conflict && !r.agreed.value(int(p.at)).known {
				keys = append(keys, p.key)
			}
		}
	}
	return r.base.warm(ctx, keys)
}

// ask makes the questions of some entries.
func (r *resolution) ask(ctx context.Context, entries []*entry) error {
	r.nums = r.nums[:0]
	for _, e := range entries {
		r.nums = append(r.nums, e.num)
	}
	var err error
	if r.loaded, err = r.events.get(ctx, r.nums, r.loaded); err != nil {
		return err
	}
	r.questions = slices.Grow(r.questions[:0], len(entries))[:len(entries)]
	r.standIns = r.standIns[:0]
	var before *question
	for i, e := range entries {
		r.pose(&r.questions[i], before, e, r.loaded[i])
		before = &r.questions[i]
	}
	return nil
}
