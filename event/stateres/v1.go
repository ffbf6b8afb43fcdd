package stateres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1" // the algorithm names it; it only breaks ties
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
)

// resolveV1 is the algorithm of room version 1: conflicts are resolved key by
// key, those that others depend on first.
// https://spec.matrix.org/v1.19/rooms/v1/#state-resolution
func (r *resolution) resolveV1(ctx context.Context) error {
	passes := []struct {
		of   func(statetree.Key) bool
		pick func(context.Context, int) (statetree.Value, error)
	}{
		{func(k statetree.Key) bool { return k == r.keys.powerLevels }, r.pickLatestAllowed},
		{func(k statetree.Key) bool { return k == r.keys.joinRules }, r.pickLatestAllowed},
		{statetree.Members.Has, r.pickLatestAllowed},
		{func(statetree.Key) bool { return true }, r.pickDeepestAllowed},
	}
	for _, pass := range passes {
		type outcome struct {
			conflict int
			num      statetree.Value
		}
		var picked []outcome
		for i := range r.conflicts.items {
			c := &r.conflicts.items[i]
			if r.partial[i] != 0 || !pass.of(c.key) || len(c.value.accepted(nil)) == 0 {
				continue
			}
			num, err := pass.pick(ctx, i)
			if err != nil {
				return err
			}
			picked = append(picked, outcome{i, num})
		}
		// They take part in the checks of later passes only, so that their
		// order does not matter.
		for _, o := range picked {
			r.partial[o.conflict] = o.num
		}
	}
	return nil
}

// pickLatestAllowed goes from the first event upward as long as each is
// allowed when the one before it is the state.
func (r *resolution) pickLatestAllowed(ctx context.Context, conflict int) (statetree.Value, error) {
	order, err := r.byDepth(ctx, conflict)
	if err != nil {
		return 0, err
	}
	defer func() { r.partial[conflict] = 0 }()
	r.replayed += len(order)
	picked := order[0].num
	for i := range order[1:] {
		q := &order[1+i]
		r.partial[conflict] = picked
		allowed, err := r.allowed(ctx, q)
		if err != nil {
			return 0, err
		}
		if !allowed {
			break
		}
		picked = q.num
	}
	return picked, nil
}

// pickDeepestAllowed returns the last event that is allowed, or else the first.
func (r *resolution) pickDeepestAllowed(ctx context.Context, conflict int) (statetree.Value, error) {
	order, err := r.byDepth(ctx, conflict)
	if err != nil {
		return 0, err
	}
	r.replayed += len(order)
	for i := range slices.Backward(order) {
		q := &order[i]
		allowed, err := r.allowed(ctx, q)
		if err != nil {
			return 0, err
		}
		if allowed {
			return q.num, nil
		}
	}
	return order[0].num, nil
}

// byDepth returns the events of a conflict by ascending depth, and then by
// descending SHA-1 of their IDs.
func (r *resolution) byDepth(ctx context.Context, conflict int) ([]question, error) {
	c := &r.conflicts.items[conflict]
	nums := c.value.accepted(nil)
	events, err := r.events.get(ctx, nums, nil)
	if err != nil {
		return nil, err
	}
	type ranked struct {
		question
		sum [sha1.Size]byte
	}
	all := make([]ranked, len(nums))
	for i, ev := range events {
		if err := r.sameKey(ev, c.key); err != nil {
			return nil, err
		}
		all[i].sum = sha1.Sum([]byte(ev.ID))
		r.pose(&all[i].question, nil, &entry{num: nums[i], own: place{c.key, int32(conflict), true}}, ev)
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.ev.Depth, b.ev.Depth), bytes.Compare(b.sum[:], a.sum[:]))
	})
	order := make([]question, len(all))
	for i, p := range all {
		order[i] = p.question
	}
	return order, nil
}
