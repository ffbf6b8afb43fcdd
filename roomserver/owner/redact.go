package owner

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// EventByID returns an event of the room, nil if there is none, also if it is not committed yet.
func (st *Step) EventByID(ctx context.Context, id matrix.EventID) (*rooms.Event, error) {
	for _, ev := range st.fresh {
		if ev.ID == id {
			return ev.Event, nil
		}
	}
	if ev := st.source.flights.byID(id); ev != nil {
		return ev, nil
	}
	ev, _, err := rooms.EventByID(ctx, st.owners.db, st.room, id)
	if err != nil {
		return nil, fmt.Errorf("find event %s of %s: %w", id, st.room.ID, err)
	}
	return ev, nil
}

// redact applies a redaction to its target, or to its own event the redactions that waited for it. Those that are not shown
// have no effect, be it since the state before them is unknown, by which they would be judged.
func (st *Step) redact(ctx context.Context, added *rooms.NewEvent, in arrival) error {
	if err := st.redactArrived(ctx, added); err != nil {
		return err
	}
	shown := in.kind == rooms.Live || in.kind == rooms.Backfilled && !in.unknown
	if added.Type != event.TypeRedaction || added.Redacts == "" || added.Redacts == added.ID || !shown {
		return nil
	}
	target, err := st.EventByID(ctx, added.Redacts)
	switch {
	case err != nil:
		return err
	case target == nil:
		added.Waiting = added.Redacts
		st.tip.await(added.Redacts, added.Num)
		return nil
	case st.leaves(added.Event, target):
		return nil
	}
	levels, err := st.levelsIn(ctx, in.before)
	if err != nil || !redactionApplies(added.Event, target, levels) {
		return err
	}
	redacted, err := redactedForm(target, added.Num)
	if err != nil {
		return err
	}
	added.Redactions = append(added.Redactions, rooms.Redaction{Target: target.Num, By: added.Num, JSON: redacted.JSON})
	added.Redacted = append(added.Redacted, target.Num)
	st.redacted = append(st.redacted, redacted)
	st.fresh[redacted.Num] = st.place(redacted)
	st.tip.keepRedacted(redacted)
	return nil
}

// leaves says whether a redaction leaves its target as it is: redacted already, or in a partial room, where who takes away
// what users of another server said may be banned, and what is taken away does not come back. That waits for the members.
func (st *Step) leaves(redaction, target *rooms.Event) bool {
	return target.RedactedBy != 0 || st.tip.partial != nil && redaction.Kind == rooms.Live && !st.owners.IsLocal(redaction.Sender) &&
		redaction.Sender.Server() != target.Sender.Server()
}

// hasWaited says whether a redaction may have waited for members, and has a target.
func (st *Step) hasWaited(ctx context.Context, redaction *rooms.Event) (bool, error) {
	if redaction.Type != event.TypeRedaction || redaction.Redacts == "" {
		return false, nil
	}
	target, err := st.EventByID(ctx, redaction.Redacts)
	return target != nil && target.RedactedBy == 0, err
}

// redactArrived puts the redacted form in the place of an event for which a redaction was waiting. Each
// is judged by the state before it.
func (st *Step) redactArrived(ctx context.Context, added *rooms.NewEvent) error {
	nums, err := st.waitingFor(ctx, added.ID)
	if err != nil || len(nums) == 0 {
		return err
	}
	waiting, err := st.eventsOf(ctx, nums)
	if err != nil {
		return err
	}
	st.tip.arrived(added.ID)
	added.Arrived = append(added.Arrived, added.ID)
	for _, redaction := range waiting {
		shown := redaction.Kind == rooms.Live || redaction.Kind == rooms.Backfilled // it may have been taken back
		if !shown || st.leaves(redaction, added.Event) {
			continue
		}
		levels, err := st.levelsIn(ctx, st.place(redaction).before)
		if err != nil {
			return err
		}
		if !redactionApplies(redaction, added.Event, levels) {
			continue
		}
		redacted, err := redactedForm(added.Event, redaction.Num)
		if err != nil {
			return err
		}
		added.Event = redacted
		added.Redactions = append(added.Redactions, rooms.Redaction{Target: added.Num, By: redaction.Num, JSON: redacted.JSON})
		st.tip.keepRedacted(redacted)
		return nil
	}
	return nil
}

// waitingFor returns the redactions that came before their target.
func (st *Step) waitingFor(ctx context.Context, target matrix.EventID) ([]int64, error) {
	if !st.tip.crowded {
		return st.tip.pending[target], nil
	}
	nums, err := rooms.WaitingFor(ctx, st.owners.db, st.room.Num, target)
	if err != nil {
		return nil, fmt.Errorf("find the redactions that wait for %s: %w", target, err)
	}
	for _, ev := range slices.Concat(st.source.flights.all(), slices.Collect(maps.Values(st.fresh))) {
		if ev.Redacts == target && !slices.Contains(nums, ev.Num) {
			nums = append(nums, ev.Num)
		}
	}
	slices.Sort(nums)
	return nums, nil
}

// levelsIn returns the power levels of a state.
func (st *Step) levelsIn(ctx context.Context, tree statetree.Tree) (*auth.PowerLevels, error) {
	if tree.Root() == st.tip.state.Root() {
		return st.tip.levels, nil
	}
	found, err := st.stateEvents(ctx, tree, []event.Key{event.PowerLevelsKey})
	if err != nil {
		return nil, err
	}
	levels := auth.Levels(st.room.Version, st.tip.create.Plain(), found[0].Plain())
	return &levels, nil
}

// redactionApplies says whether an accepted redaction has an effect on its target.
// https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions
func redactionApplies(redaction, target *rooms.Event, levels *auth.PowerLevels) bool {
	return redaction.Sender.Server() == target.Sender.Server() || levels.User(redaction.Sender) >= levels.Redact()
}

func redactedForm(target *rooms.Event, by int64) (*rooms.Event, error) {
	ev, err := event.Load(target.Version, target.ID, target.RedactedJSON())
	if err != nil {
		return nil, fmt.Errorf("redact %s: %w", target.ID, err)
	}
	redacted := *target
	redacted.Event, redacted.RedactedBy = ev, by
	return &redacted, nil
}
