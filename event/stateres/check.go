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
	auth []Ref          // its auth events, if they may stand in for state
	need []event.Key    // all that the check looks at, the create event included
	at   [maxNeed]place // of these
	own  place          // of the event itself
}

// place is a key of the state, and the conflict there is at it.
type place struct {
	key      statetree.Key
	conflict int32 // index in resolution.conflicts, or noConflict
}

const noConflict = -1

func (r *resolution) placeOf(k statetree.Key) place {
	if i, ok := r.index.find(k); ok {
		return place{k, int32(i)}
	}
	return place{k, noConflict}
}

// maxNeed is the largest number of events that a check looks at: create, power
// levels, the members who send it, whom it is about and who vouches for a
// join, join rules, third-party invite.
const maxNeed = 8

func (r *resolution) question(num statetree.Value, key statetree.Key, ev *event.Event) question {
	q := question{num: num, ev: ev, own: r.placeOf(key)}
	q.need = auth.Needed(ev.Version, ev.Type, *ev.StateKey, ev.Sender, ev.Content)
	if !slices.Contains(q.need, createKey) {
		q.need = append(q.need, createKey)
	}
	for i, need := range q.need {
		q.at[i] = r.placeOf(r.keyOf(need))
	}
	return q
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
	var numsBuf [maxNeed]statetree.Value
	nums, err := r.numbers(ctx, q, numsBuf[:0])
	if err != nil {
		return false, err
	}
	var eventsBuf [maxNeed]*event.Event
	events, err := r.events.get(ctx, nums, eventsBuf[:])
	if err != nil {
		return false, err
	}
	for i, e := range events {
		if need := q.need[i]; e != nil && e.StateID() != need {
			return false, fmt.Errorf("%w: event %s is in the place of %s %q", ErrMismatch, e.ID, need.Type, need.StateKey)
		}
	}
	st := func(k event.Key) *event.Event {
		if i := slices.Index(q.need, k); i >= 0 {
			return events[i]
		}
		return nil
	}
	levels := r.levels.get(r.room.Version, st(createKey), st(powerLevelsKey))
	err = auth.CheckWith(q.ev, st, levels)
	var rejection *auth.Rejection
	if err != nil && !errors.As(err, &rejection) {
		return false, err
	}
	return err == nil, nil
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
		for _, a := range q.auth {
			if v == 0 && a.Key == p.key {
				v = a.Num
			}
		}
		if v == 0 && p.key == r.keys.create && !r.room.Version.CreateInAuthEvents {
			v = r.room.Create // which the room ID names
		}
		nums = append(nums, v)
	}
	return nums, nil
}

// current returns what the partial state has at a key. In v2.1 it begins
// empty, before that with what is not in conflict.
func (r *resolution) current(ctx context.Context, p place) (statetree.Value, error) {
	startsEmpty := r.room.Version.StateResolution == event.StateResolutionV21
	if p.conflict != noConflict {
		c := &r.conflicts[p.conflict]
		if c.partial != 0 || startsEmpty {
			return c.partial, nil
		}
		return c.agreed(), nil
	}
	if v := r.partial[p.key]; v != 0 || startsEmpty {
		return v, nil
	}
	return r.base.value(ctx, p.key)
}

// setPartial makes an event part of the partial state.
func (r *resolution) setPartial(p place, num statetree.Value) {
	if p.conflict != noConflict {
		r.conflicts[p.conflict].partial = num
	} else {
		r.partial[p.key] = num
	}
}

// warm makes the questions of some entries, and loads with few calls what
// checking them will mostly need.
func (r *resolution) warm(ctx context.Context, entries []*entry) error {
	if err := r.ask(ctx, entries); err != nil {
		return err
	}
	if r.room.Version.StateResolution != event.StateResolutionV21 {
		var keys []statetree.Key
		for i := range r.questions {
			q := &r.questions[i]
			for _, p := range q.at[:len(q.need)] {
				if p.conflict == noConflict {
					keys = append(keys, p.key)
				}
			}
		}
		if err := r.base.warm(ctx, keys); err != nil {
			return err
		}
	}
	var wanted []statetree.Value
	for i := range r.questions {
		var err error
		if wanted, err = r.numbers(ctx, &r.questions[i], wanted); err != nil {
			return err
		}
	}
	slices.Sort(wanted)
	_, err := r.events.get(ctx, slices.Compact(wanted), nil)
	return err
}

// ask makes the questions of some entries.
func (r *resolution) ask(ctx context.Context, entries []*entry) error {
	nums := make([]statetree.Value, len(entries))
	for i, e := range entries {
		nums[i] = e.num
	}
	events, err := r.events.get(ctx, nums, nil)
	if err != nil {
		return err
	}
	r.questions = r.questions[:0]
	var refs []Ref
	for i, e := range entries {
		n, _, err := r.node(ctx, e.num)
		if err != nil {
			return err
		}
		q := r.question(e.num, e.key, events[i])
		from := len(refs)
		refs = append(refs, n.Auth...)
		q.auth = refs[from:]
		r.questions = append(r.questions, q)
	}
	return nil
}
