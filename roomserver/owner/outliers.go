package owner

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// AddOutliers takes events that only authorise others, each behind those that authorise it.
func (st *Step) AddOutliers(ctx context.Context, events []*event.Event) error {
	for _, ev := range events {
		if err := st.addOutlier(ctx, ev); err != nil {
			return err
		}
	}
	return nil
}

// addOutlier stores an event that only authorises others, unless it is known or its own auth events are not.
func (st *Step) addOutlier(ctx context.Context, ev *event.Event) error {
	found, err := st.Find(ctx, ev.ID)
	if err != nil || found[0] != nil && found[0].Kind != rooms.Aside {
		return err
	}
	in := arrival{event: ev, stored: found[0], kind: rooms.Outlier, unknown: true}
	if in.auth, err = st.authEvents(ctx, ev); err != nil {
		return ignoreLacking(err)
	}
	if st.check(in) != nil {
		in.kind = rooms.Rejected
	}
	return st.storeOutlier(ctx, in)
}

// storeOutlier stores an event that is in no timeline. A rejected one never will be, so that what lacked it lacks what
// is missing before it.
func (st *Step) storeOutlier(ctx context.Context, in arrival) error {
	if in.kind == rooms.Rejected {
		if err := st.findGaps(ctx, &in, true); err != nil {
			return err
		}
	}
	_, err := st.store(ctx, in)
	return err
}

// A StatePart is a state as it differs from one that is stored.
type StatePart struct {
	base    statetree.Tree
	changes []statetree.Change
	lacks   int // events of it that are not stored
}

// IsWhole says whether all events of the state are stored: one of which some is missing is none.
func (p StatePart) IsWhole() bool { return p.lacks == 0 }

// StatePart looks how a state that is told by event IDs differs from the current state. Events that were
// rejected are no part of it.
func (s *Owners) StatePart(ctx context.Context, room rooms.Room, ids []matrix.EventID) (StatePart, error) {
	rows, err := s.StateRows(ctx, room, ids)
	if err != nil {
		return StatePart{}, err
	}
	want := make(map[statetree.Key]statetree.Value, len(rows))
	for _, row := range rows {
		if row.Accepted {
			want[s.cache.Hasher.Key(row.Key)] = statetree.Value(row.Num)
		}
	}
	current, err := s.Current(ctx, room.ID)
	if err != nil {
		return StatePart{}, err
	}
	part := StatePart{base: current.Tree(), lacks: len(ids) - len(rows)}
	hole, err := s.cache.Trees.HoleOf(ctx, current.Tree())
	if err != nil {
		return part, err
	}
	if gone, err := s.isGone(ctx, room); hole != 0 || gone || err != nil {
		part.base = statetree.Tree{}
		for key, now := range want {
			part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
		}
		return part, err
	}
	err = s.cache.Trees.Walk(ctx, current.Tree(), statetree.All, func(key statetree.Key, had statetree.Value) error {
		if now := want[key]; now != had {
			part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
		}
		delete(want, key)
		return nil
	})
	for key, now := range want {
		part.changes = append(part.changes, statetree.Change{Key: key, Value: now})
	}
	return part, err
}

// AddAt stores an event that is in no timeline, with the state before it, for others to follow it.
func (st *Step) AddAt(ctx context.Context, ev *event.Event, state StatePart) error {
	found, err := st.Find(ctx, ev.ID)
	if err != nil {
		return err
	}
	lost, err := st.isLost(ctx, found[0])
	switch {
	case err != nil:
		return err
	case lost:
		return st.regain(ctx, found[0], state)
	}
	in, err := st.begin(ctx, ev)
	if err != nil || in.event == nil || in.stored != nil && !in.stored.StateUnknown {
		return ignoreLacking(err)
	}
	if in.stored == nil || in.stored.Kind == rooms.Aside {
		in.kind = rooms.Outlier
	} else {
		in.kind = in.stored.Kind
	}
	if in.before, err = st.set(ctx, state.base, state.changes...); err != nil {
		return err
	}
	if _, err = st.judge(ctx, &in); err != nil {
		return err
	}
	return st.storeOutlier(ctx, in)
}

// ignoreLacking: what cannot be judged is not stored, and that is all.
func ignoreLacking(err error) error {
	if errors.Is(err, errLacking) {
		return nil
	}
	return err
}
