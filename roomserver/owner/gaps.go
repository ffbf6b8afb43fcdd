package owner

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A gap is where history is missing. It is noted with the event before which it is, for those who read the timeline
// there to have it fetched. Events that were rejected or soft-failed are in no timeline, but history goes on behind
// them: what they lack is lacked by whatever follows them.

// isHidden says whether an event has its place in the graph and none in the timeline.
func isHidden(ev *rooms.Event) bool { return ev.Kind == rooms.Rejected || ev.Kind == rooms.SoftFailed }

// lacking returns what is missing before an event: its prev events that are not here, or for the sake of others only;
// for those that are hidden, what is missing before them.
func (st *Step) lacking(ctx context.Context, ev *event.Event) (lacks []matrix.EventID, err error) {
	seen := make(map[matrix.EventID]bool)
	for todo := ev.PrevEvents; len(todo) > 0; {
		found, err := st.Find(ctx, todo...)
		if err != nil {
			return nil, err
		}
		direct := len(seen) == 0
		var behind []matrix.EventID
		for i, prev := range found {
			id := todo[i]
			switch {
			case seen[id]:
			case prev == nil || prev.Kind == rooms.Outlier || prev.Kind == rooms.Aside:
				if direct && len(lacks) < maxLacks || len(lacks) < maxInherited {
					lacks = append(lacks, id)
				}
			case isHidden(prev):
				more, err := st.lackedBy(ctx, prev)
				if err != nil {
					return nil, err
				}
				behind = append(behind, more...)
			}
			seen[id] = true
		}
		todo = behind
	}
	return lacks, nil
}

// Limits of what is noted to be missing before one event.
const (
	maxLacks     = 100                 // of its prev events: very old ones have any number of them
	maxInherited = event.MaxPrevEvents // with what hidden ones lack
)

// lackedBy returns what was missing before a hidden event when it came, and may be still.
func (st *Step) lackedBy(ctx context.Context, hidden *rooms.Event) ([]matrix.EventID, error) {
	if known, ok := st.source.uncommitted(hidden.Num); ok {
		return known.lacks, nil
	}
	lacks, err := rooms.LackedBy(ctx, st.owners.db, st.room.Num, hidden.Num)
	if err != nil {
		err = fmt.Errorf("look what is missing before %s: %w", hidden.ID, err)
	}
	return lacks, err
}

// lookForGaps reads at once which of some events that are to come are missing before others.
func (st *Step) lookForGaps(ctx context.Context, ids ...matrix.EventID) error {
	st.gaps = gapsSeen{looked: make(map[matrix.EventID]bool, len(ids))}
	for _, id := range ids {
		st.gaps.looked[id] = true
	}
	if !st.tip.gaps {
		return nil // those that come with the step will be among its fresh events
	}
	st.gaps.flying = st.source.flights.all() // before what is committed is read, so that none falls in between
	var err error
	if st.gaps.stored, err = rooms.Lacked(ctx, st.owners.db, st.room.Num, ids); err != nil {
		err = fmt.Errorf("look for gaps of %s: %w", st.room.ID, err)
	}
	return err
}

// lacked says whether any gap is of an event that comes now, and whether that gap is in the timeline.
func (st *Step) lacked(ctx context.Context, id matrix.EventID) (fills, late bool, err error) {
	if !st.tip.gaps {
		return false, false, nil
	}
	if !st.gaps.looked[id] {
		if err := st.lookForGaps(ctx, id); err != nil {
			return false, false, err
		}
	}
	late, fills = st.gaps.stored[id]
	see := func(by placed) {
		if slices.Contains(by.lacks, id) {
			fills, late = true, late || by.late || !isHidden(by.Event)
		}
	}
	for _, ev := range st.fresh {
		see(ev)
	}
	for _, ev := range st.gaps.flying {
		see(ev)
	}
	return fills, late, nil
}
