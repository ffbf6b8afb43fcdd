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
	num   statetree.Value
	ev    *event.Event
	needs []event.Key     // all that the check looks at, the create event included
	keys  []statetree.Key // of needs
}

func (r *resolution) question(num statetree.Value, ev *event.Event) question {
	q := question{num: num, ev: ev}
	q.needs = auth.Needed(ev.Version, ev.Type, *ev.StateKey, ev.Sender, ev.Content)
	if !slices.Contains(q.needs, createKey) {
		q.needs = append(q.needs, createKey)
	}
	q.keys = make([]statetree.Key, len(q.needs))
	for i, need := range q.needs {
		q.keys[i] = r.hasher.Key(need)
	}
	return q
}

// apply is the iterative auth checks algorithm: each event in turn becomes
// part of the partial state if it is allowed in it.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) apply(ctx context.Context, nums []statetree.Value) error {
	r.replayed += len(nums)
	for some := range slices.Chunk(nums, MaxLoad/8) { // an event needs up to seven others
		questions, err := r.warm(ctx, some)
		if err != nil {
			return err
		}
		for _, q := range questions {
			allowed, err := r.allowed(ctx, q)
			if err != nil {
				return err
			}
			if allowed {
				r.partial[r.hasher.Key(q.ev.StateID())] = q.num
			}
		}
	}
	return nil
}

// allowed checks an event against the partial state.
func (r *resolution) allowed(ctx context.Context, q question) (bool, error) {
	nums, err := r.numbers(ctx, q)
	if err != nil {
		return false, err
	}
	events, err := r.events.get(ctx, nums)
	if err != nil {
		return false, err
	}
	for i, e := range events {
		if e != nil && e.StateID() != q.needs[i] {
			return false, fmt.Errorf("%w: event %s is in the place of %s %q", ErrMismatch, e.ID, q.needs[i].Type, q.needs[i].StateKey)
		}
	}
	st := func(k event.Key) *event.Event {
		if i := slices.Index(q.needs, k); i >= 0 {
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
)

// numbers returns the events that a check looks at, 0 where the partial state
// has none. In v2 an auth event of the event being checked stands in for what
// is not there.
func (r *resolution) numbers(ctx context.Context, q question) ([]statetree.Value, error) {
	nums := make([]statetree.Value, len(q.keys))
	var instead []Ref
	if r.room.Version.StateResolution != event.StateResolutionV1 {
		n, _, err := r.node(ctx, q.num)
		if err != nil {
			return nil, err
		}
		instead = n.Auth
	}
	for i, k := range q.keys {
		v, err := r.current(ctx, k)
		if err != nil {
			return nil, err
		}
		for _, a := range instead {
			if v == 0 && a.Key == k {
				v = a.Num
			}
		}
		if v == 0 && k == r.keys.create && !r.room.Version.CreateInAuthEvents {
			v = r.room.Create // which the room ID names
		}
		nums[i] = v
	}
	return nums, nil
}

// current returns what the partial state has at a key. In v2.1 it begins
// empty, before that with what is not in conflict.
func (r *resolution) current(ctx context.Context, k statetree.Key) (statetree.Value, error) {
	if v, ok := r.partial[k]; ok {
		return v, nil
	}
	if r.room.Version.StateResolution == event.StateResolutionV21 {
		return 0, nil
	}
	return r.unconflicted(ctx, k)
}

// warm loads events and, with few calls, what checking them will mostly need.
func (r *resolution) warm(ctx context.Context, nums []statetree.Value) ([]question, error) {
	events, err := r.events.get(ctx, nums)
	if err != nil {
		return nil, err
	}
	questions := make([]question, len(events))
	var keys []statetree.Key
	for i, ev := range events {
		questions[i] = r.question(nums[i], ev)
		for _, k := range questions[i].keys {
			if _, ok := r.index[k]; !ok {
				keys = append(keys, k)
			}
		}
	}
	if r.room.Version.StateResolution != event.StateResolutionV21 {
		if err := r.base.warm(ctx, keys); err != nil {
			return nil, err
		}
	}
	var wanted []statetree.Value
	for _, q := range questions {
		found, err := r.numbers(ctx, q)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, found...)
	}
	slices.Sort(wanted)
	_, err = r.events.get(ctx, slices.Compact(wanted))
	return questions, err
}
