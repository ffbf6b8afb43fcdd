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
		of   func(*conflict) bool
		pick func(context.Context, *conflict) (statetree.Value, error)
	}{
		{func(c *conflict) bool { return c.key == r.keys.powerLevels }, r.pickLatestAllowed},
		{func(c *conflict) bool { return c.key == r.keys.joinRules }, r.pickLatestAllowed},
		{func(c *conflict) bool { return statetree.Members.Has(c.key) }, r.pickLatestAllowed},
		{func(c *conflict) bool { return true }, r.pickDeepestAllowed},
	}
	for _, pass := range passes {
		var picked []*conflict
		for i := range r.conflicts {
			c := &r.conflicts[i]
			if c.settled || c.outcome != 0 || !pass.of(c) {
				continue
			}
			var err error
			if c.outcome, err = pass.pick(ctx, c); err != nil {
				return err
			}
			picked = append(picked, c)
		}
		// They take part in the checks of later passes only, so that their
		// order does not matter.
		for _, c := range picked {
			c.partial = c.outcome
		}
	}
	return nil
}

// pickLatestAllowed goes from the first event upward as long as each is
// allowed when the one before it is the state.
func (r *resolution) pickLatestAllowed(ctx context.Context, c *conflict) (statetree.Value, error) {
	order, err := r.byDepth(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { c.partial = 0 }()
	r.replayed += len(order)
	picked := order[0].num
	for i := range order[1:] {
		q := &order[1+i]
		c.partial = picked
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
func (r *resolution) pickDeepestAllowed(ctx context.Context, c *conflict) (statetree.Value, error) {
	order, err := r.byDepth(ctx, c)
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
func (r *resolution) byDepth(ctx context.Context, c *conflict) ([]question, error) {
	var nums []statetree.Value
	for o := range c.accepted {
		nums = append(nums, o.num)
	}
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
		all[i] = ranked{r.question(nums[i], c.key, ev), sha1.Sum([]byte(ev.ID))}
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
