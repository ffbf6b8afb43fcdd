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

// apply is the iterative auth checks algorithm: each event in turn becomes
// part of the partial state if it is allowed in it.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) apply(ctx context.Context, nums []statetree.Value) error {
	r.replayed += len(nums)
	for some := range slices.Chunk(nums, MaxLoad/8) { // an event needs up to seven others
		if err := r.warm(ctx, some); err != nil {
			return err
		}
		for _, num := range some {
			allowed, err := r.allowed(ctx, num)
			if err != nil {
				return err
			}
			if allowed {
				n, _, err := r.node(ctx, num)
				if err != nil {
					return err
				}
				r.partial[n.Key] = num
			}
		}
	}
	return nil
}

// allowed checks an event against the partial state.
func (r *resolution) allowed(ctx context.Context, num statetree.Value) (bool, error) {
	ev, err := r.event(ctx, num)
	if err != nil {
		return false, err
	}
	needs := neededBy(ev)
	nums, err := r.numbers(ctx, num, needs)
	if err != nil {
		return false, err
	}
	events, err := r.events.get(ctx, nums)
	if err != nil {
		return false, err
	}
	for i, e := range events {
		if e != nil && e.StateID() != needs[i] {
			return false, fmt.Errorf("%w: event %s is in the place of %s %q", ErrMismatch, e.ID, needs[i].Type, needs[i].StateKey)
		}
	}
	st := func(k event.Key) *event.Event {
		if i := slices.Index(needs, k); i >= 0 {
			return events[i]
		}
		return nil
	}
	levels := r.levels.get(r.room.Version, st(createKey), st(powerLevelsKey))
	err = auth.CheckWith(ev, st, levels)
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

// neededBy returns all that checking an event looks at, the create event
// included.
func neededBy(ev *event.Event) []event.Key {
	needs := auth.Needed(ev.Version, ev.Type, *ev.StateKey, ev.Sender, ev.Content)
	if !slices.Contains(needs, createKey) {
		needs = append(needs, createKey)
	}
	return needs
}

// numbers returns the events at some places of the partial state, 0 where it
// has none. In v2 an auth event of the event being checked stands in for what
// is not there.
func (r *resolution) numbers(ctx context.Context, num statetree.Value, needs []event.Key) ([]statetree.Value, error) {
	nums := make([]statetree.Value, len(needs))
	var instead []Ref
	if r.room.Version.StateResolution != event.StateResolutionV1 {
		n, _, err := r.node(ctx, num)
		if err != nil {
			return nil, err
		}
		instead = n.Auth
	}
	for i, need := range needs {
		k := r.hasher.Key(need)
		v, err := r.current(ctx, k)
		if err != nil {
			return nil, err
		}
		for _, a := range instead {
			if v == 0 && a.Key == k {
				v = a.Num
			}
		}
		if v == 0 && need == createKey && !r.room.Version.CreateInAuthEvents {
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

// event returns one event, which is what the graph says it is.
func (r *resolution) event(ctx context.Context, num statetree.Value) (*event.Event, error) {
	one, err := r.events.get(ctx, []statetree.Value{num})
	if err != nil {
		return nil, err
	}
	return one[0], nil
}

// warm loads, with few calls, what checking some events will mostly need.
func (r *resolution) warm(ctx context.Context, nums []statetree.Value) error {
	events, err := r.events.get(ctx, nums)
	if err != nil {
		return err
	}
	needs := make([][]event.Key, len(events))
	var keys []statetree.Key
	for i, ev := range events {
		needs[i] = neededBy(ev)
		for _, need := range needs[i] {
			k := r.hasher.Key(need)
			if _, ok := r.index[k]; !ok {
				keys = append(keys, k)
			}
		}
	}
	if r.room.Version.StateResolution != event.StateResolutionV21 {
		if err := r.base.warm(ctx, keys); err != nil {
			return err
		}
	}
	var wanted []statetree.Value
	for i := range events {
		found, err := r.numbers(ctx, nums[i], needs[i])
		if err != nil {
			return err
		}
		wanted = append(wanted, found...)
	}
	slices.Sort(wanted)
	_, err = r.events.get(ctx, slices.Compact(wanted))
	return err
}
