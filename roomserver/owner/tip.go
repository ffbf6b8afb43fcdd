package owner

import (
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
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
	gone    bool     // the room was given up then, and nobody of this server has come back
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

// partial is what an owner keeps of a partial room.
type partial struct {
	rooms.PartialJoin
	listed *listed
}

// listed are the numbers of events that are to be checked again, the latest first. A list goes on from another without
// changing it, as tips do.
type listed struct {
	num    int64
	before *listed
}

// inOrder returns the numbers in the order in which they were listed.
func (l *listed) inOrder() []int64 {
	var nums []int64
	for ; l != nil; l = l.before {
		nums = append(nums, l.num)
	}
	slices.Reverse(nums)
	return nums
}

// roots are the roots of all states of a tip.
func (t *tip) roots() []statetree.NodeID {
	named := []statetree.NodeID{t.state.Root()}
	for _, ev := range t.extremities {
		named = append(named, ev.before.Root(), ev.with.Root())
	}
	return named
}

// MaxExtremities bounds the forward extremities that are kept. Who makes more branches than that is not followed
// everywhere: the oldest are forgotten, and are no loss to the graph, in which they stay.
const MaxExtremities = 100
