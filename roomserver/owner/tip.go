package owner

import (
	"context"
	"fmt"
	"maps"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/committed"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A tip is a room at one moment, with all that its next event stands on. It is a value: a step takes
// one and makes the next, and what it points to is never changed.
type tip struct {
	state       statetree.Tree
	extremities []placed // forward extremities, oldest first
	depth       int64    // the greatest of the extremities
	joined      int64
	invited     int64
	listed      bool // in the directory

	create    *rooms.Event
	power     *rooms.Event // m.room.power_levels; nil if there is none
	joinRules *rooms.Event // nil if there is none
	policy    *rooms.Event // m.room.policy; nil if there is none
	latestMS  int64        // time of the last timely event
	levels    *auth.PowerLevels

	// pending has the redactions whose target has not come yet. A step that changes it copies it.
	pending map[matrix.EventID][]int64
	partial *partial // nil: all members are known, or never will be
	holes   bool     // some states of the past lack members for good
	gone    bool     // so does the current one: the room was given up
	gaps    bool     // history is missing somewhere
	// crowded says that there are more of them than are kept in memory.
	crowded bool
}

// A placed event has its place in the graph of the room. Its states can be read before they are stored.
type placed struct {
	*rooms.Event
	before, with statetree.Tree

	// Of one that is not stored yet.
	accepted bool // state that may be in states
	auth     []int64
	lacks    []matrix.EventID // what is missing before it
	late     bool             // an event of the timeline lacked it
}

// storedPlaced is an event whose states are stored.
func storedPlaced(ev *rooms.Event) placed {
	return placed{Event: ev, before: statetree.At(ev.StateBefore), with: statetree.At(ev.StateWith)}
}

// keptKeys are the places of the state events that a tip holds parsed.
var keptKeys = []event.Key{event.CreateKey, event.PowerLevelsKey, event.JoinRulesKey, policy.Key}

// keepAll takes up what a state has at keptKeys.
func (t *tip) keepAll(v *event.Version, kept []*rooms.Event) {
	t.create, t.power, t.joinRules, t.policy = kept[0], kept[1], kept[2], kept[3]
	t.parseLevels(v)
}

// loadTip reads a room as its last commit left it.
func (s *Owners) loadTip(ctx context.Context, room rooms.Room) (*tip, error) {
	head, found, err := rooms.HeadOf(ctx, s.db, room.Num)
	if err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if !found {
		return nil, committed.NotHere("this server is not in %s", room.ID)
	}
	t := &tip{state: statetree.At(head.Root), depth: head.Depth, joined: head.Joined, invited: head.Invited}
	extremities, err := s.cache.Events(ctx, room, head.Extremities)
	if err != nil {
		return nil, err
	}
	for _, ev := range extremities {
		t.extremities = append(t.extremities, storedPlaced(ev))
	}
	kept, err := s.cache.StateEvents(ctx, room, t.state, keptKeys)
	if err != nil {
		return nil, err
	}
	t.keepAll(room.Version, kept)
	if t.latestMS, err = rooms.LatestTimely(ctx, s.db, room); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.listed, err = rooms.IsPublished(ctx, s.db, room.Num); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.partial, err = s.loadPartial(ctx, room); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.holes, t.gone, err = s.findHoles(ctx, room, t.state); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.gaps, err = rooms.HasGaps(ctx, s.db, room.Num); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if t.pending, err = rooms.PendingRedactions(ctx, s.db, room.Num, maxPending+1); err != nil {
		return nil, fmt.Errorf("load room %s: %w", room.ID, err)
	}
	if len(t.pending) > maxPending {
		t.pending, t.crowded = nil, true
	}
	return t, nil
}

func (t *tip) parseLevels(v *event.Version) {
	levels := auth.Levels(v, t.create.Plain(), t.power.Plain())
	t.levels = &levels
}

// keep takes up a state event that the tip holds parsed. It also replaces one by its redacted form.
func (t *tip) keep(ev *rooms.Event) {
	switch ev.StateID() {
	case event.CreateKey:
		t.create = ev
	case event.PowerLevelsKey:
		t.power = ev
	case event.JoinRulesKey:
		t.joinRules = ev
		return
	case policy.Key:
		t.policy = ev
		return
	default:
		return
	}
	t.parseLevels(ev.Version)
}

// drop forgets a state event that the tip holds parsed, if it is gone from the state.
func (t *tip) drop(key event.Key) {
	switch key {
	case event.PowerLevelsKey:
		t.power = nil
		t.parseLevels(t.create.Version)
	case event.JoinRulesKey:
		t.joinRules = nil
	case policy.Key:
		t.policy = nil
	}
}

// keepRedacted puts the redacted form of an event in the place of the event.
func (t *tip) keepRedacted(ev *rooms.Event) {
	for _, kept := range []*rooms.Event{t.create, t.power, t.joinRules, t.policy} {
		if kept != nil && kept.Num == ev.Num {
			t.keep(ev)
		}
	}
}

// count follows a member event in the numbers of members.
func (t *tip) count(before, after event.Membership) {
	add := func(m event.Membership, n int64) {
		switch m {
		case event.Join:
			t.joined += n
		case event.Invite:
			t.invited += n
		}
	}
	add(before, -1)
	add(after, 1)
}

// maxPending bounds the redactions that are kept in memory until their targets come. Of a room that has more
// they are looked up.
const maxPending = 1000

// await notes a redaction whose target has not come.
func (t *tip) await(target matrix.EventID, redaction int64) {
	if t.crowded = t.crowded || len(t.pending) >= maxPending; t.crowded {
		t.pending = nil
		return
	}
	t.pending = maps.Clone(t.pending)
	if t.pending == nil {
		t.pending = make(map[matrix.EventID][]int64)
	}
	t.pending[target] = append(t.pending[target][:len(t.pending[target]):len(t.pending[target])], redaction)
}

// arrived forgets the redactions that waited for a target.
func (t *tip) arrived(target matrix.EventID) {
	if t.crowded {
		return
	}
	t.pending = maps.Clone(t.pending)
	delete(t.pending, target)
}

// head is what is stored of the tip.
func (t *tip) head(room rooms.Room) *rooms.Head {
	h := &rooms.Head{RoomNum: room.Num, Root: t.state.Root(), Depth: t.depth, Joined: t.joined, Invited: t.invited}
	for _, ev := range t.extremities {
		h.Extremities = append(h.Extremities, ev.Num)
	}
	return h
}

// maxAheadMS is how far the time that an event carries may be ahead of ours to be believed.
const maxAheadMS = 60 * 60 * 1000

// keepTime says whether a live event is timely, and then what follows has to be as late. One that claims to be of the future
// is not, or all that follows would not be.
func (st *Step) keepTime(added *rooms.NewEvent) {
	if added.Kind != rooms.Live {
		return
	}
	ms := added.OriginServerTS
	if added.Untimely = ms < st.tip.latestMS || ms > st.nowMS+maxAheadMS; !added.Untimely {
		st.tip.latestMS = ms
	}
}
