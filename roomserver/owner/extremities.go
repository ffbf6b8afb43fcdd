package owner

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of forward extremities. Each of our own events takes the place of up to event.MaxPrevEvents of
// them; where nobody here speaks, an event without content does.
const (
	// dummyBeyond extremities, an event is sent that only joins them.
	dummyBeyond = 10
	// MaxExtremities bounds those that are kept. Who makes more branches than that is not followed
	// everywhere: the oldest are forgotten, and are no loss to the graph, in which they stay.
	MaxExtremities = 100
)

// TypeDummy is an event that joins forward extremities and says nothing. Servers have one name for it, and show it to
// no client.
const TypeDummy = "org.matrix.dummy_event"

// moveExtremities follows a live event with the forward extremities.
func (st *Step) moveExtremities(ctx context.Context, now placed, added *rooms.NewEvent) error {
	switch {
	case now.Kind != rooms.Live:
		return nil
	case added.Late:
		clear(st.merged)
		return st.dropFollowed(ctx, now)
	}
	clear(st.merged)
	st.tip.replaceExtremities(now)
	return nil
}

// dropFollowed takes away those of the forward extremities that a late event follows: they came before it, when
// nothing led to them from what others already follow. The current state is then resolved without them.
func (st *Step) dropFollowed(ctx context.Context, late placed) error {
	before := st.tip.extremities
	kept := slices.DeleteFunc(slices.Clone(before), func(old placed) bool { return slices.Contains(late.PrevEvents, old.ID) })
	if len(kept) == len(before) || len(kept) == 0 {
		return nil
	}
	for _, old := range before {
		if err := st.branch(ctx, old); err != nil {
			return err
		}
	}
	st.tip.extremities, st.tip.depth = kept, 0
	for _, old := range kept {
		st.tip.depth = max(st.tip.depth, old.Depth)
	}
	return nil
}

// replaceExtremities makes a live event a forward extremity in the place of those that it follows.
func (t *tip) replaceExtremities(ev placed) {
	kept := make([]placed, 0, len(t.extremities)+1)
	t.depth = ev.Depth
	for _, old := range t.extremities {
		if !slices.Contains(ev.PrevEvents, old.ID) {
			kept = append(kept, old)
			t.depth = max(t.depth, old.Depth)
		}
	}
	kept = append(kept, ev)
	t.extremities = kept[max(0, len(kept)-MaxExtremities):]
}

// isCoveredBy says whether the prev events of an event are all forward extremities, and perhaps more.
func (t *tip) isCoveredBy(prevs []matrix.EventID) bool {
	for _, ev := range t.extremities {
		if !slices.Contains(prevs, ev.ID) {
			return false
		}
	}
	return true
}

// are says whether some events are just the forward extremities.
func (t *tip) are(evs []placed) bool {
	if len(evs) != len(t.extremities) {
		return false
	}
	for _, ev := range evs {
		if !slices.ContainsFunc(t.extremities, func(x placed) bool { return x.Num == ev.Num }) {
			return false
		}
	}
	return true
}

// states returns the states after the forward extremities: of the newest, if they are more than can be
// resolved at once.
func (t *tip) states() []statetree.Tree {
	const most = stateres.MaxStates - 1 // one more may be resolved with them
	newest := t.extremities[max(0, len(t.extremities)-most):]
	states := make([]statetree.Tree, len(newest))
	for i, ev := range newest {
		states[i] = ev.with
	}
	return states
}

// follows returns the events that an event of our own follows.
func (st *Step) follows() []placed {
	tips := st.tip.extremities
	if st.footing != nil {
		tips = st.footing.follows
	}
	return tips[max(0, len(tips)-event.MaxPrevEvents):]
}

// JoinExtremities keeps them few, if a user of this server may speak in the room without being asked for more.
func (st *Step) JoinExtremities(ctx context.Context) error {
	if len(st.tip.extremities) <= dummyBeyond || st.tip.policy != nil {
		return nil
	}
	if err := st.resolveCurrent(ctx); err != nil {
		return err
	}
	by, err := st.speaker(ctx)
	if err != nil || by == "" {
		return err
	}
	for len(st.tip.extremities) > dummyBeyond {
		before := len(st.tip.extremities)
		_, err := st.Add(ctx, Draft{Type: TypeDummy, Sender: by, Content: []byte(`{}`)})
		if matrix.CodeOf(err) == matrix.Forbidden || len(st.tip.extremities) >= before {
			return nil // by the state of some branch nobody of us may
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// speaker returns a joined user of this server who may send events; empty if there is none.
func (st *Step) speaker(ctx context.Context) (matrix.UserID, error) {
	need := st.tip.levels.ForEvent(TypeDummy, false)
	for _, user := range auth.Creators(st.room.Version, st.tip.create.Plain()) {
		if ok, err := st.maySpeak(ctx, user, need); ok || err != nil {
			return user, err
		}
	}
	users, err := rooms.JoinedOf(ctx, st.owners.db, st.room.Num, st.owners.name, maxSpeakers)
	if err != nil {
		return "", err
	}
	for _, user := range users {
		if ok, err := st.maySpeak(ctx, user, need); ok || err != nil {
			return user, err
		}
	}
	return "", nil
}

// maxSpeakers bounds the users among whom one is looked for who may speak.
const maxSpeakers = 50

func (st *Step) maySpeak(ctx context.Context, user matrix.UserID, need auth.Level) (bool, error) {
	if !st.owners.IsLocal(user) || st.tip.levels.User(user) < need {
		return false, nil
	}
	m, _, err := st.Member(ctx, user)
	return m == event.Join, unlessUnknown(err)
}
