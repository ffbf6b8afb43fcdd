package roomserver_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Whatever comes into a room, merged, rejected, late: each state node that is stored is part of a state that an event or
// the room has had. There is nothing to collect.
func TestEveryNodeIsNeeded(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		w.receive(w.powerFork(3, 4)...)
		w.tie(w.room.ID)
		w.receive(w.fork(4, 5)...)
		w.tie(w.room.ID)
		ban := w.member("alice", carolThere, "ban", w.base)
		w.receive(ban, w.topic(carolThere, "rejected", ban), w.topic(bobThere, "rejected", w.base), w.say(carolThere, "soft-failed", w.base))
		w.receive(w.topic("alice", "late", w.base))
		var open []*event.Event
		for i := range 30 { // more than an event of our own can join
			open = append(open, w.topic("alice", fmt.Sprint(i), w.base))
		}
		w.receive(open...)
		if _, err := w.s.Send(context.Background(), as("alice"), send(w.room.ID, "ours")); err != nil {
			t.Fatal(err)
		}
		stored, needed := w.storedNodes(), w.neededNodes()
		if len(stored) < 20 || !slices.Equal(stored, needed) {
			t.Errorf("%d nodes are stored, %d of them are needed:\n%v\n%v", len(stored), len(needed), stored, needed)
		}
		w.doubt(0)
		w.collect()
		if left := w.storedNodes(); !slices.Equal(left, stored) {
			t.Errorf("%d nodes are left of %d", len(left), len(stored))
		}
	})
}

// All row numbers of a room are above its own: the second look begins there.
func TestNumbersOfARoom(t *testing.T) {
	onWire(t, func(t *testing.T, w *wire) {
		w.must(roomserver.Accepted, w.topic("alice", "new", w.base))
		for _, table := range []string{"events.event_num", "state_nodes.node_num"} {
			name, column, _ := strings.Cut(table, ".")
			lowest, _, err := storage.One[int64](t.Context(), w.db, `SELECT MIN(`+column+`) FROM `+name+` WHERE room_num = $1`, w.room.Num)
			if err != nil || lowest <= w.room.Num {
				t.Errorf("%s: got %d, %v, not above %d", table, lowest, err, w.room.Num)
			}
		}
	})
}

// storedNodes are the numbers of all nodes of the room.
func (w *wire) storedNodes() []statetree.NodeID {
	w.t.Helper()
	all, err := storage.Collect[statetree.NodeID](context.Background(), w.db, `
		SELECT node_num FROM state_nodes WHERE room_num = $1 ORDER BY node_num`, w.room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// rootsNamed are the roots of all states that the room and its events name.
func (w *wire) rootsNamed() []statetree.NodeID {
	w.t.Helper()
	roots, err := storage.Collect[statetree.NodeID](context.Background(), w.db, `
		SELECT state_before FROM events WHERE room_num = $1 AND state_before IS NOT NULL
		UNION SELECT state_with FROM events WHERE room_num = $1 AND state_with IS NOT NULL
		UNION SELECT root FROM room_states WHERE room_num = $1
		UNION SELECT root FROM room_heads WHERE room_num = $1
		UNION SELECT root FROM partial_joins WHERE room_num = $1 AND root IS NOT NULL`, w.room.Num)
	if err != nil {
		w.t.Fatal(err)
	}
	return roots
}

// neededNodes are the numbers of the nodes of all these states.
func (w *wire) neededNodes() []statetree.NodeID {
	w.t.Helper()
	seen := make(map[statetree.NodeID]bool)
	trees := statetree.New(statetree.Settings{Hasher: statetree.NewHasher(w.db.Secret()), Loader: nodesSeen{w, seen}})
	for _, root := range w.rootsNamed() {
		err := trees.WalkKnown(context.Background(), statetree.At(root), statetree.All, func(statetree.Key, statetree.Value) error { return nil })
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// nodesSeen notes which nodes are read.
type nodesSeen struct {
	w    *wire
	seen map[statetree.NodeID]bool
}

// Nodes implements statetree.Loader.
func (n nodesSeen) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return rooms.StateNodes(ctx, n.w.db, ids, func(id statetree.NodeID, data []byte) error {
		n.seen[id] = true
		return found(id, data)
	})
}
