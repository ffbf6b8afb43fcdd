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
	for i := range r.agreed.items {
		a := &r.agreed.items[i]
		if a.value.partial == 0 {
			continue
		}
		v, err := r.base.value(ctx, a.key)
		if err != nil {
			return err
		}
		if v == 0 {
			r.added = append(r.added, statetree.Change{Key: a.key, Value: a.value.partial})
		}
	}
	return nil
}

// entry is what sorting needs of an event of the full conflicted set.
type entry struct {
	num    statetree.Value
	own    place
	id     matrix.EventID
	ts     int64
	create statetree.Value // the create event by which it was authorised, or 0
	levels statetree.Value // the power levels event among its auth events, or 0
	level  auth.Level      // of its sender, by these
	at     int32           // its place in the set
	auth   [2]int32        // begin and end in conflictedSet.cited
	waits  int             // for so many entries
	power  bool            // is a power event
	first  bool            // belongs to step 1: a power event, or in the auth chain of one
}

// older breaks ties between events: that of the lower timestamp is first, then
// that of the lower ID.
func (e *entry) older(than *entry) bool {
	if e.ts != than.ts {
		return e.ts < than.ts
	}
	return e.id < than.id
}

// conflictedSet is the full conflicted set.
type conflictedSet struct {
	entries []entry
	index   table[statetree.Value, struct{}] // of the entries
	cited   []int32                          // the auth events of each entry that are entries, in turn
}

// auth returns the auth events of an entry that are entries.
func (s *conflictedSet) auth(e *entry) []int32 { return s.cited[e.auth[0]:e.auth[1]] }

// newConflictedSet returns the set of the given events, ascending. Each may be
// given more than once.
func newConflictedSet(nums []statetree.Value) *conflictedSet {
	sortByNum(nums, func(num statetree.Value) statetree.Value { return num })
	nums = slices.Compact(nums)
	set := &conflictedSet{index: newTable[statetree.Value, struct{}](len(nums)), entries: make([]entry, len(nums))}
	for i, num := range nums {
		set.index.add(num)
		set.entries[i] = entry{num: num, at: int32(i)}
	}
	return set
}

// fullConflictedSet is the conflicted state set, the auth difference and, in
// v2.1, the conflicted state subgraph.
func (r *resolution) fullConflictedSet(ctx context.Context) (*conflictedSet, error) {
	full, err := r.difference(ctx)
	if err != nil {
		return nil, err
	}
	full = slices.Grow(full, len(r.disputed.items))
	for i := range r.disputed.items {
		full = append(full, r.disputed.items[i].key)
	}
	if r.room.Version.StateResolution == event.StateResolutionV21 {
		between, err := r.subgraph(ctx)
		if err != nil {
			return nil, err
		}
		full = append(full, between...)
	}
	set := newConflictedSet(full)
	for from := 0; from < len(set.entries); from += MaxLoad {
		if err := r.describe(ctx, set, set.entries[from:min(from+MaxLoad, len(set.entries))]); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// describe fills in entries.
func (r *resolution) describe(ctx context.Context, set *conflictedSet, entries []entry) error {
	r.nums = r.nums[:0]
	for i := range entries {
		r.nums = append(r.nums, entries[i].num)
	}
	var err error
	if r.loaded, err = r.events.get(ctx, r.nums, r.loaded); err != nil {
		return err
	}
	for i, ev := range r.loaded {
		e := &entries[i]
		e.id, e.ts, e.power = ev.ID, ev.OriginServerTS, isPowerEvent(ev)
		n, _, err := r.node(ctx, e.num)
		if err != nil {
			return err
		}
		if err := r.sameKey(ev, n.Key); err != nil {
			return err
		}
		if at, ok := r.disputed.find(e.num); ok {
			e.own = place{n.Key, r.disputed.value(at).conflict, true}
		} else {
			e.own = r.placeOf(n.Key)
		}
		r.describeAuth(set, e, n.Auth)
	}
	return nil
}

// describeAuth fills in what an entry's auth events say.
func (r *resolution) describeAuth(set *conflictedSet, e *entry, authEvents []Ref) {
	if !r.room.Version.CreateInAuthEvents {
		e.create = r.room.Create
	}
	e.auth[0] = int32(len(set.cited))
	for _, a := range authEvents {
		switch a.Key {
		case r.keys.create:
			e.create = a.Num
		case r.keys.powerLevels:
			e.levels = a.Num
		}
		if at, ok := set.index.find(a.Num); ok {
			set.cited = push(set.cited, int32(at))
		}
	}
	e.auth[1] = int32(len(set.cited))
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
func (r *resolution) mainlineOrder(ctx context.Context, set *conflictedSet) ([]*entry, error) {
	levels, err := r.current(ctx, r.placeOf(r.keys.powerLevels))
	if err != nil {
		return nil, err
	}
	line := mainline{r: r, met: newTable[statetree.Value, int](0)}
	if err := line.begin(ctx, levels); err != nil {
		return nil, err
	}
	rest := make([]onMainline, 0, len(set.entries))
	for i := range set.entries {
		e := &set.entries[i]
		if e.first {
			continue
		}
		position, err := line.of(ctx, e.levels)
		if err != nil {
			return nil, err
		}
		rest = append(rest, onMainline{position, e.ts, e})
	}
	slices.SortFunc(rest, onMainline.compare)
	order := make([]*entry, len(rest))
	for i := range rest {
		order[i] = rest[i].entry
	}
	return order, nil
}

// onMainline is what sorting from the mainline looks at, so that it mostly need
// not look elsewhere.
type onMainline struct {
	position int
	ts       int64
	entry    *entry
}

func (a onMainline) compare(b onMainline) int {
	if a.position != b.position {
		return cmp.Compare(b.position, a.position)
	}
	if a.ts != b.ts {
		return cmp.Compare(a.ts, b.ts)
	}
	return cmp.Compare(a.entry.id, b.entry.id)
}
