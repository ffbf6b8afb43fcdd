package roomserver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxSimRounds bounds the closing rounds.
const maxSimRounds = 12

// close brings a simulation to its end: the network is whole, all hosts are up, nobody lies, and on each host
// somebody speaks until nothing changes.
func (sim *simulation) close() {
	sim.tracef("closing")
	sim.closing, sim.net.lossPercent, sim.net.parted = true, 0, nil
	for _, h := range sim.hosts {
		if h.life == nil {
			sim.startOrCrash(h)
		}
	}
	sim.drain()
	if sim.chance(30) {
		for _, h := range sim.hosts {
			h.crash()
			sim.startOrCrash(h)
		}
		sim.drain()
	}
	before := ""
	for round := 0; len(sim.failures) == 0; round++ {
		for _, h := range sim.honest() {
			for _, room := range sim.rooms {
				sim.speak(h, room)
			}
		}
		now := sim.states()
		if now == before {
			break
		}
		if round == maxSimRounds {
			sim.failf("the rooms do not come to rest in %d rounds: %s, then %s", round, before, now)
		}
		before = now
	}
	if sim.chance(40) {
		sim.fillHistory()
	}
}

func (sim *simulation) honest() []*simHost {
	return slices.DeleteFunc(slices.Clone(sim.hosts), func(h *simHost) bool { return h.liar })
}

// sound are the honest hosts that were not fooled about a room.
func (sim *simulation) sound(room matrix.RoomID) []*simHost {
	return slices.DeleteFunc(sim.honest(), func(h *simHost) bool { return sim.fooled[simPlace{room, h}] })
}

// speak lets somebody of a host say something, and everybody hear it.
func (sim *simulation) speak(h *simHost, room matrix.RoomID) {
	for _, user := range h.joined(room) {
		sim.say(h, room, user, 0)
		sim.drain()
		if len(sim.failures) > 0 || h.said[len(h.said)-1].id != "" {
			return
		}
	}
}

// states is what the states of all rooms are on the sound hosts that are in them.
func (sim *simulation) states() string {
	var b strings.Builder
	for i, room := range sim.rooms {
		for _, h := range sim.sound(room) {
			if len(h.joined(room)) > 0 {
				fmt.Fprintf(&b, "%d@%s %s ", i, h, sim.digest(h.stateNow(room)))
			}
		}
	}
	return b.String()
}

// stateNow is the current state of a room, by the IDs of its events.
func (h *simHost) stateNow(id matrix.RoomID) map[event.Key]matrix.EventID {
	state, ok := h.state(id)
	if !ok {
		return nil
	}
	all, err := state.All(context.Background())
	h.sim.must(err)
	ids := make(map[event.Key]matrix.EventID, len(all))
	for _, ev := range all {
		ids[ev.StateID()] = ev.ID
	}
	return ids
}

// digest is a short text that two states have in common if they are the same.
func (sim *simulation) digest(state map[event.Key]matrix.EventID) string {
	names := make([]string, 0, len(state))
	for key, id := range state {
		names = append(names, fmt.Sprint(key.Type, key.StateKey, id))
	}
	slices.Sort(names)
	return sim.short(matrix.EventID(strings.Join(names, " ")))
}

// backfill lets a host ask for history.
func (sim *simulation) backfill(h *simHost) {
	id := pick(sim, sim.rooms)
	room, ok := h.room(id)
	if !ok || h.life.fetching[id] {
		return
	}
	if h.isPartial(room) {
		return // it would wait
	}
	l := h.life
	before := rooms.Order{Anchor: 1 << 60}
	if page, err := rooms.Page(context.Background(), l.db, room, rooms.PageQuery{Limit: 1}); err == nil && len(page) > 0 && sim.chance(50) {
		before = page[0].Order
	}
	sim.fill(h, id, before)
}

// fill asks once. It returns how many events that has brought when that is known.
func (sim *simulation) fill(h *simHost, id matrix.RoomID, before rooms.Order) *int {
	l, gained := h.life, new(int)
	var err error
	l.fetching[id] = true
	limit := 1 + sim.rand.IntN(30)
	l.do(func(ctx context.Context) { *gained, err = l.server.Backfill(ctx, id, before, limit) }, func() {
		delete(l.fetching, id)
		sim.tracef("%s fills room %d with %d: %v", h, slices.Index(sim.rooms, id), *gained, err)
		if err != nil && matrix.CodeOf(err) != matrix.NotFound {
			sim.failf("%s backfills: %v", h, err)
		}
	})
	return gained
}

// fillHistory fetches all of the history of all rooms.
func (sim *simulation) fillHistory() {
	for _, h := range sim.honest() {
		for _, id := range sim.rooms {
			for range 60 {
				room, ok := h.room(id)
				if !ok || len(h.joined(id)) == 0 || len(sim.failures) > 0 {
					break
				}
				gaps, err := rooms.GapsNear(context.Background(), h.life.db, room.Num, rooms.Order{Anchor: 1 << 60}, 1)
				sim.must(err)
				if len(gaps) == 0 {
					break
				}
				gained := sim.fill(h, id, rooms.Order{Anchor: 1 << 60})
				sim.drain()
				if *gained == 0 {
					break
				}
			}
		}
	}
}
