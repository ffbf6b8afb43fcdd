package roomserver

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// In a sparing simulation hosts look for state nodes that nothing needs, each time when it is time to: what they noted the
// last time they delete, if it is so.

// simCollects is when they do.
type simCollects struct {
	rand  *rand.Rand    // which is its own, as that of sparing
	ahead time.Duration // by which their clocks for this are ahead
}

// collectSome lets a host look, now and then, when it has nothing else to do.
func (sim *simulation) collectSome(h *simHost) {
	if sim.collects.rand == nil {
		sim.collects.rand = rand.New(rand.NewPCG(sim.seed, 3))
	}
	if h.life != nil && !h.life.busy() && sim.sparing != nil && sim.collects.rand.IntN(100) < 4 {
		h.collect()
	}
}

// collect has a host look once.
func (h *simHost) collect() {
	l, logged := h.life, new(bytes.Buffer)
	l.torn = 0
	h.sim.collects.ahead += collect.Wait
	ahead, c := h.sim.collects.ahead, l.server.collector
	c.Now = func() time.Time { return l.now().Add(ahead) }
	c.Rest = func(context.Context, time.Duration) {}
	c.Log = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	l.do(func(ctx context.Context) { err = l.server.Collect(ctx) }, func() {
		if err != nil || logged.Len() > 0 {
			h.sim.failf("%s collects state nodes: %v %s", h, err, logged)
		}
	})
	l.flush()
}

// checkCollected has a host collect what is left, and then holds what it stores against what is needed: nothing that is
// needed is missing, and nothing is left of rooms but those that are partial, or were when they were given up.
func (h *simHost) checkCollected() {
	ctx, sim := context.Background(), h.sim
	before := h.nodesNeeded()
	h.collect()
	h.collect()
	needed := h.nodesNeeded()
	if !slices.Equal(before, needed) {
		sim.failf("%s needed %d state nodes before it collected them, and %d after that", h, len(before), len(needed))
	}
	for _, id := range sim.rooms {
		room, ok := h.room(id)
		if !ok || h.isPartial(room) {
			continue
		}
		given, err := rooms.HasHoles(ctx, h.life.db, room.Num)
		if sim.must(err); given {
			continue
		}
		stored, err := rooms.NodeNumbersIn(ctx, h.life.db, room.Num, rooms.Numbers{UpTo: h.life.db.NextNumber()})
		sim.must(err)
		for _, node := range stored {
			if _, is := slices.BinarySearch(needed, node); !is {
				sim.failf("%s keeps state node %d, which nothing needs, of %s", h, node, id)
			}
		}
	}
}

// nodesNeeded are all nodes of the states that the rows of the rooms name, which must be there.
func (h *simHost) nodesNeeded() []statetree.NodeID {
	ctx, sim := context.Background(), h.sim
	met := make(map[statetree.NodeID]bool)
	var all, todo []statetree.NodeID
	meet := func(ids []statetree.NodeID) error {
		for _, id := range ids {
			if id != 0 && !met[id] {
				met[id] = true
				all, todo = append(all, id), append(todo, id)
			}
		}
		return nil
	}
	for _, id := range sim.rooms {
		if room, ok := h.room(id); ok {
			sim.must(rooms.EachRoots(ctx, h.life.db, room.Num, meet))
		}
	}
	for len(todo) > 0 {
		some := todo
		todo = nil
		found := 0
		sim.must(rooms.StateNodes(ctx, h.life.db, some, func(id statetree.NodeID, data []byte) error {
			found++
			children, err := h.life.server.owners.Hasher().Children(id, data)
			sim.must(err)
			return meet(children)
		}))
		if found != len(some) {
			sim.failf("%s lacks %d of %d state nodes", h, len(some)-found, len(some))
		}
	}
	slices.Sort(all)
	return all
}
