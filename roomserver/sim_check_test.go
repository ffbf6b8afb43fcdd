package roomserver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simSeen is what does not change of an event that is stored.
type simSeen struct {
	kind     rooms.Kind
	position storage.Position
	unknown  bool
	before   statetree.NodeID
	listed   bool // to be checked again when the room is whole
}

// Limits of work and memory. They are some times what is usual.
const (
	maxRequestsAnEvent = 20 // to other hosts
	maxNodesAnEvent    = 4  // of state trees, stored
)

// check holds what all hosts have in the end against what it must be.
func (sim *simulation) check() {
	if len(sim.failures) > 0 {
		return
	}
	all := sim.everything()
	truths := make(map[matrix.RoomID]*simTruth)
	for _, id := range sim.rooms {
		t := sim.truth(id, all)
		truths[id] = t
		for _, h := range sim.hosts {
			room, ok := h.room(id)
			if !ok || !h.checkWhole(room) {
				continue
			}
			h.checkRoom(room)
			if !sim.fooled[simPlace{id, h}] {
				h.checkTruth(room, t)
			}
		}
		sim.checkAgreement(id, t)
	}
	for _, h := range sim.hosts {
		h.checkCollected()
		h.look()
		h.checkAcked(truths)
		h.checkRest()
	}
	sim.tracef("done: %s", sim.states())
}

// traceGraph writes all events, and as what each host has them.
func (sim *simulation) traceGraph() {
	all := slices.Collect(maps.Values(sim.everything()))
	slices.SortFunc(all, func(a, b *event.Event) int {
		return cmp.Or(cmp.Compare(a.RoomID, b.RoomID), cmp.Compare(a.OriginServerTS, b.OriginServerTS), cmp.Compare(a.ID, b.ID))
	})
	for _, ev := range all {
		line := fmt.Sprintf("room %d: %s %s %s by %s behind", slices.Index(sim.rooms, ev.RoomID), sim.short(ev.ID), ev.Type, ev.Content, ev.Sender)
		for _, id := range ev.PrevEvents {
			line += " " + sim.short(id)
		}
		for _, h := range sim.hosts {
			kind := "-"
			if room, ok := h.room(ev.RoomID); ok {
				if has := h.stored(room, ev.ID); has != nil {
					kind = fmt.Sprint(has.Kind, "@", has.Position)
				}
			}
			line += " " + kind
		}
		sim.tracef("%s", line)
	}
}

func (h *simHost) head(room rooms.Room) rooms.Head {
	head, _, err := rooms.HeadOf(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	return head
}

// stateIDs is a stored state, by the IDs of its events.
func (h *simHost) stateIDs(root statetree.NodeID, byNum map[int64]*rooms.Event) map[event.Key]matrix.EventID {
	ids := make(map[event.Key]matrix.EventID)
	nums, err := h.life.server.StateAt(rooms.Room{}, root).KnownNumbers(context.Background())
	if err != nil {
		h.sim.failf("%s cannot read a state: %v", h, err)
	}
	for _, num := range nums {
		if ev := byNum[num]; ev != nil {
			ids[ev.StateID()] = ev.ID
		}
	}
	return ids
}

// checkRoom holds what is stored of a room against itself.
func (h *simHost) checkRoom(room rooms.Room) {
	ctx, sim := context.Background(), h.sim
	head, lives, err := rooms.HeadOf(ctx, h.life.db, room.Num)
	if sim.must(err); !lives {
		return
	}
	events := h.all(room)
	byNum := make(map[int64]*rooms.Event, len(events))
	for _, ev := range events {
		byNum[ev.Num] = ev
	}
	members := make(map[matrix.UserID]event.Membership)
	count := make(map[event.Membership]int64)
	for _, id := range h.stateNow(room.ID) {
		ev := h.stored(room, id)
		if ev.Kind == rooms.Rejected {
			sim.failf("%s has a rejected event in the state: %s", h, h.describe(ev))
		}
		if ev.Type == event.TypeMember {
			members[ev.Target()] = ev.Membership()
			count[ev.Membership()]++
		}
	}
	rows, err := rooms.MembersOf(ctx, h.life.db, room.Num)
	sim.must(err)
	listed := make(map[matrix.UserID]event.Membership)
	for _, m := range rows {
		if listed[m.User] = m.Membership; members[m.User] == "" && m.Membership == event.Leave {
			delete(listed, m.User) // gone with its event
		}
		if ev := byNum[m.EventNum]; ev != nil && ev.Kind == rooms.Aside {
			// An invite or a knock of a user of this host, of which the room knows nothing, or otherwise.
			delete(listed, m.User)
			delete(members, m.User)
		}
	}
	if !maps.Equal(listed, members) {
		sim.failf("%s: members by the table %v, by the state %v", h, listed, members)
	}
	if head.Joined != count[event.Join] || head.Invited != count[event.Invite] {
		sim.failf("%s: the head counts %d joined and %d invited, the state %v", h, head.Joined, head.Invited, count)
	}
	last, err := rooms.RootAt(ctx, h.life.db, room.Num, h.life.db.Position())
	if sim.must(err); last != head.Root {
		sim.failf("%s: the state moved to %d last, the head has %d", h, last, head.Root)
	}
	for _, num := range head.Extremities {
		if ev := byNum[num]; ev == nil || ev.Kind != rooms.Live {
			sim.failf("%s: extremity %d is no event of the timeline", h, num)
		}
	}
	h.checkSize(room, len(events), len(head.Extremities))
}

func (h *simHost) checkSize(room rooms.Room, events, extremities int) {
	nodes, _, err := storage.One[int64](context.Background(), h.life.db, `SELECT COUNT(*) FROM state_nodes WHERE room_num = $1`, room.Num)
	if h.sim.must(err); nodes > int64(maxNodesAnEvent*events+50) {
		h.sim.failf("%s stores %d nodes of states for %d events", h, nodes, events)
	}
	if extremities > owner.MaxExtremities {
		h.sim.failf("%s has %d forward extremities", h, extremities)
	}
}

// checkAgreement holds the sound hosts that are in a room against each other.
func (sim *simulation) checkAgreement(id matrix.RoomID, t *simTruth) {
	var first *simHost
	for _, h := range sim.sound(id) {
		if len(h.joined(id)) == 0 {
			continue
		}
		if first == nil {
			first = h
			continue
		}
		if !h.sees(first, id) || !first.sees(h, id) {
			continue // each goes on without the other
		}
		if got, want := h.stateNow(id), first.stateNow(id); !maps.Equal(got, want) {
			sim.failf("%s and %s differ: %s", h, first, sim.difference(got, want))
		}
		if got, want := h.tips(id), first.tips(id); !slices.Equal(got, want) {
			sim.failf("%s has extremities %s, %s has %s", h, sim.shorts(got), first, sim.shorts(want))
		}
	}
	if first == nil {
		return
	}
	history := t.historyOf(first.tips(id))
	for _, h := range sim.sound(id) {
		if len(h.joined(id)) > 0 && h.sees(first, id) && first.sees(h, id) {
			h.checkHistory(id, t, history)
		}
	}
}

// sees says whether a host has users of another in a room.
func (h *simHost) sees(other *simHost, id matrix.RoomID) bool {
	return slices.ContainsFunc(other.users(), func(user matrix.UserID) bool { return h.member(id, user) == event.Join })
}

// tips are the forward extremities of a room.
func (h *simHost) tips(id matrix.RoomID) []matrix.EventID {
	room, _ := h.room(id)
	events, err := rooms.EventsByNumber(context.Background(), h.life.db, room, h.head(room).Extremities)
	h.sim.must(err)
	var ids []matrix.EventID
	for _, ev := range events {
		ids = append(ids, ev.ID)
	}
	slices.Sort(ids)
	return ids
}

func (sim *simulation) shorts(ids []matrix.EventID) (names []string) {
	for _, id := range ids {
		names = append(names, sim.short(id))
	}
	return names
}

// historyOf is all that some events follow, and they themselves.
func (t *simTruth) historyOf(tips []matrix.EventID) map[matrix.EventID]bool {
	seen := make(map[matrix.EventID]bool)
	for todo := slices.Clone(tips); len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if ev := t.all[id]; ev != nil && !seen[id] {
			seen[id] = true
			todo = append(todo, ev.PrevEvents...)
		}
	}
	return seen
}

// checkHistory: who is in a room has all of its history, but what came before it was there, or is known to be missing.
func (h *simHost) checkHistory(id matrix.RoomID, t *simTruth, history map[matrix.EventID]bool) {
	room, _ := h.room(id)
	gaps, err := rooms.GapsNear(context.Background(), h.life.db, room.Num, rooms.Order{Anchor: 1 << 60}, 1000)
	h.sim.must(err)
	var edges []matrix.EventID
	for _, gap := range gaps {
		edges = append(edges, gap.Lacks)
	}
	behind := t.historyOf(edges)
	for missing := range history {
		if behind[missing] || t.rejected[missing] != nil {
			continue
		}
		ev := h.stored(room, missing)
		if ev == nil || ev.Kind == rooms.Outlier || ev.Kind == rooms.Rejected {
			h.sim.failf("%s lacks %s, and no gap is noted", h, h.describe(&rooms.Event{Event: t.all[missing]}))
		}
	}
}

// look notes how events are stored, and holds that against what was noted before.
func (h *simHost) look() {
	for _, id := range h.sim.rooms {
		room, ok := h.room(id)
		if !ok {
			continue
		}
		all, listed := h.all(room), h.listed(room)
		h.checkExtremities(room, all)
		for _, ev := range all {
			now := simSeen{ev.Kind, ev.Position, ev.StateUnknown, ev.StateBefore, listed[ev.Num]}
			had, known := h.seen[ev.ID]
			if h.seen[ev.ID] = now; !known {
				continue
			}
			if had.listed && !now.listed {
				h.checkedAgain(ev, had)
				continue
			}
			if !had.unknown && (now.unknown || now.before != had.before) {
				h.sim.failf("%s: the state before %s changed", h, h.describe(ev))
			}
			if had.kind != now.kind && had.kind != rooms.Outlier && had.kind != rooms.Aside {
				h.sim.failf("%s: %s was of kind %d, and is of kind %d", h, h.describe(ev), had.kind, now.kind)
			}
			if had.position != 0 && had.position != now.position {
				h.sim.failf("%s: %s was at %d, and is at %d", h, h.describe(ev), had.position, now.position)
			}
		}
	}
}

// checkExtremities: what is in the timeline and has no follower there is a forward extremity. Who came back to a room
// goes on from its join alone.
func (h *simHost) checkExtremities(room rooms.Room, all []*rooms.Event) {
	if h.returned[room.ID] {
		return
	}
	followed, perhaps := make(map[matrix.EventID]bool), make(map[matrix.EventID]bool)
	for _, ev := range all {
		for _, id := range ev.PrevEvents {
			switch ev.Kind {
			case rooms.Live, rooms.Backfilled:
				followed[id] = true
			case rooms.Rejected, rooms.SoftFailed:
				perhaps[id] = true // by what follows those
			}
		}
	}
	tips := h.head(room).Extremities
	for _, ev := range all {
		isTip := slices.Contains(tips, ev.Num)
		if ev.Kind == rooms.Live && len(tips) < owner.MaxExtremities && isTip == followed[ev.ID] && (isTip || !perhaps[ev.ID]) {
			h.sim.failf("%s has %s as a forward extremity: %v; it is followed: %v", h, h.describe(ev), isTip, followed[ev.ID])
		}
	}
}

// checkAcked: what a user was told to be in the room is there, once.
func (h *simHost) checkAcked(truths map[matrix.RoomID]*simTruth) {
	for _, ack := range h.acked {
		room, ok := h.room(ack.room)
		if !ok {
			h.sim.failf("%s lost room %s", h, ack.room)
			continue
		}
		if h.recanted[ack.id] && (truths[ack.room].rejected[ack.id] != nil || h.sim.fooled[simPlace{ack.room, h}]) {
			continue
		}
		if ev := h.stored(room, ack.id); ev == nil || ev.Kind != rooms.Live {
			h.sim.failf("%s lost %s, which was acknowledged", h, h.sim.short(ack.id))
		}
	}
	said := make(map[string]int)
	for _, id := range h.sim.rooms {
		if room, ok := h.room(id); ok {
			for _, ev := range h.all(room) {
				if ev.Sender.Server() == h.name && h.sim.crafted[ev.ID] == nil {
					body, _ := canonical.String(canonical.Get(ev.Content, "body"))
					said[body]++
				}
			}
		}
	}
	for _, text := range h.doomed {
		if said[text] > 0 {
			h.sim.failf("%s has %s, which could not be stored", h, text)
		}
	}
	for text, times := range said {
		if text != "" && times > 1 {
			h.sim.failf("%s has %s %d times", h, text, times)
		}
	}
}

// checkRest: nothing is held by a host that has nothing to do.
func (h *simHost) checkRest() {
	s := h.life.server
	if waiting, bytes := s.Waiting(); waiting > 0 || bytes != 0 {
		h.sim.failf("%s still counts %d rooms and %d bytes as waiting", h, waiting, bytes)
	}
	if ofRooms, requests := s.Awaited(); ofRooms+requests > 0 {
		h.sim.failf("%s still waits for the members of %d rooms", h, ofRooms)
	}
	if n := s.InFlight(); n > 0 {
		h.sim.failf("%s has %d transactions in flight", h, n)
	}
	if id := s.owners.Unfinished(); id != "" {
		h.sim.failf("%s is not done with %s", h, id)
	}
}

// countRequests holds what a host has asked others to receive some events against the limit.
func (sim *simulation) countRequests(h *simHost, requests, events int) {
	most := maxRequestsAnEvent * (events + 1)
	if sim.sparing != nil {
		most *= 2 // states are asked for also where events are here, but the state after them is lost
	}
	if requests > most {
		sim.failf("%s made %d requests for %d events", h, requests, events)
	}
}
