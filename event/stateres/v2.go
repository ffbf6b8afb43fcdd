package stateres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// resolveV2 is the algorithm of room versions 2 to 11, and with the conflicted
// state subgraph and an empty start that of version 12.
// https://spec.matrix.org/v1.19/rooms/v2/#algorithm
// https://spec.matrix.org/v1.19/rooms/v12/#algorithm
func (r *resolution) resolveV2(ctx context.Context) error {
	set, err := r.fullConflictedSet(ctx)
	if err != nil || len(set.entries) == 0 {
		return err
	}
	// Steps 1 and 2.
	power, err := r.powerOrder(ctx, set)
	if err != nil {
		return err
	}
	if err := r.apply(ctx, power); err != nil {
		return err
	}
	// Steps 3 and 4.
	rest, err := r.mainlineOrder(ctx, set)
	if err != nil {
		return err
	}
	if err := r.apply(ctx, rest); err != nil {
		return err
	}
	return r.conclude(ctx)
}

// conclude is step 5: what is not in conflict stays as it is. The rest is as
// the partial state has it, and that may have something, from the auth chains,
// in places where none of the states has anything.
func (r *resolution) conclude(ctx context.Context) error {
	for i := range r.conflicts {
		if c := &r.conflicts[i]; c.outcome == 0 {
			c.outcome = r.partial[c.key]
		}
	}
	for k, num := range r.partial {
		if _, ok := r.index[k]; ok {
			continue
		}
		v, err := r.base.value(ctx, k)
		if err != nil {
			return err
		}
		if v == 0 {
			r.added = append(r.added, statetree.Change{Key: k, Value: num})
		}
	}
	return nil
}

// entry is what sorting needs of an event of the full conflicted set.
type entry struct {
	num   statetree.Value
	id    matrix.EventID
	ts    int64
	power bool // is a power event
	first bool // belongs to step 1: a power event, or in the auth chain of one
	level auth.Level
	main  int     // mainline position
	auth  []int32 // its auth events, as far as they are entries
}

// conflictedSet is the full conflicted set.
type conflictedSet struct {
	entries []entry
	index   map[statetree.Value]int32
}

func (s *conflictedSet) add(num statetree.Value) {
	if _, ok := s.index[num]; !ok {
		s.index[num] = int32(len(s.entries))
		s.entries = append(s.entries, entry{num: num})
	}
}

// fullConflictedSet is the conflicted state set, the auth difference and, in
// v2.1, the conflicted state subgraph.
func (r *resolution) fullConflictedSet(ctx context.Context) (*conflictedSet, error) {
	set := &conflictedSet{index: make(map[statetree.Value]int32)}
	for o := range r.conflicting {
		set.add(o.num)
	}
	parts := []func(context.Context) ([]statetree.Value, error){r.difference}
	if r.room.Version.StateResolution == event.StateResolutionV21 {
		parts = append(parts, r.subgraph)
	}
	for _, part := range parts {
		nums, err := part(ctx)
		if err != nil {
			return nil, err
		}
		for _, num := range nums {
			set.add(num)
		}
	}
	for from := 0; from < len(set.entries); from += MaxLoad {
		if err := r.describe(ctx, set, set.entries[from:min(from+MaxLoad, len(set.entries))]); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// describe fills in entries.
func (r *resolution) describe(ctx context.Context, set *conflictedSet, entries []entry) error {
	nums := make([]statetree.Value, len(entries))
	for i := range entries {
		nums[i] = entries[i].num
	}
	events, err := r.events.get(ctx, nums)
	if err != nil {
		return err
	}
	for i, ev := range events {
		e := &entries[i]
		e.id, e.ts, e.power = ev.ID, ev.OriginServerTS, isPowerEvent(ev)
		n, _, err := r.node(ctx, e.num)
		if err != nil {
			return err
		}
		if err := r.sameKey(ev, n.Key); err != nil {
			return err
		}
		for _, a := range n.Auth {
			if at, ok := set.index[a.Num]; ok {
				e.auth = append(e.auth, at)
			}
		}
	}
	return nil
}

// sameKey checks that an event belongs where states and graph have it.
func (r *resolution) sameKey(ev *event.Event, k statetree.Key) error {
	if r.hasher.Key(ev.StateID()) != k {
		return fmt.Errorf("%w: event %s is of type %s, state key %q", ErrMismatch, ev.ID, ev.Type, *ev.StateKey)
	}
	return nil
}

// isPowerEvent says whether an event might take from somebody the ability to
// do something, or is the create event.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func isPowerEvent(ev *event.Event) bool {
	switch ev.Type {
	case event.TypePowerLevels, event.TypeJoinRules, event.TypeCreate:
		return *ev.StateKey == ""
	case event.TypeMember:
		m := ev.Membership()
		return (m == event.Leave || m == event.Ban) && string(ev.Sender) != *ev.StateKey
	}
	return false
}

// mainlineOrder returns what is not in step 1, sorted from the mainline of the
// power levels that step 1 led to.
// https://spec.matrix.org/v1.19/rooms/v2/#definitions
func (r *resolution) mainlineOrder(ctx context.Context, set *conflictedSet) ([]statetree.Value, error) {
	levels, err := r.current(ctx, r.keys.powerLevels)
	if err != nil {
		return nil, err
	}
	line := mainline{r: r, position: make(map[statetree.Value]int)}
	if err := line.begin(ctx, levels); err != nil {
		return nil, err
	}
	var rest []*entry
	for i := range set.entries {
		e := &set.entries[i]
		if e.first {
			continue
		}
		if e.main, err = line.of(ctx, e.num); err != nil {
			return nil, err
		}
		rest = append(rest, e)
	}
	slices.SortFunc(rest, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.main, a.main), cmp.Compare(a.ts, b.ts), cmp.Compare(a.id, b.id))
	})
	return numbersOf(rest), nil
}

func numbersOf(entries []*entry) []statetree.Value {
	nums := make([]statetree.Value, len(entries))
	for i, e := range entries {
		nums[i] = e.num
	}
	return nums
}
