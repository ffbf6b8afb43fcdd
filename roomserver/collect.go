package roomserver

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// collectEvery is how often Run looks for state nodes that are not needed.
const collectEvery = 10 * time.Minute

// collectNodes collects state nodes until ctx ends.
func (s *Server) collectNodes(ctx context.Context) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.Collect(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "state nodes cannot be collected", "error", err)
		}
	}
}

// Collect looks once at the rooms that may have state nodes which no state needs. Those that it notes it deletes when it is
// called again after collect.Wait, if nothing needs them then. Run does so from time to time.
func (s *Server) Collect(ctx context.Context) error { return s.collector.Look(ctx) }

// unnamed counts, by room number, the trees that are being stored and that nothing names yet.
type unnamed struct {
	mu    sync.Mutex
	trees map[int64]int
}

// begin tells that a tree is about to be made, and done that something names it, or that it was given up.
func (u *unnamed) begin(roomNum int64) (done func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trees == nil {
		u.trees = make(map[int64]int)
	}
	u.trees[roomNum]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.trees[roomNum]--; u.trees[roomNum] == 0 {
			delete(u.trees, roomNum)
		}
	}
}

// collectOwners is the owners of a Server as a collector sees them.
type collectOwners struct{ *Server }

// Unnamed implements collect.Owners.
func (s collectOwners) Unnamed(roomNum int64) bool {
	s.unnamed.mu.Lock()
	defer s.unnamed.mu.Unlock()
	return s.unnamed.trees[roomNum] > 0
}

// Watch implements collect.Owners.
func (s collectOwners) Watch(ctx context.Context, room rooms.Room, noted []statetree.NodeID) (collect.Watch, []statetree.NodeID, error) {
	w := &nodeWatch{server: s.Server, room: room, noted: noted, deleted: make(map[statetree.NodeID]bool)}
	o, err := s.acquire(room)
	if err != nil {
		return nil, nil, err
	}
	o.watch = w
	var held []statetree.NodeID
	if o.tip != nil {
		held = o.tip.roots()
	}
	last := o.last
	o.release()
	if last == nil {
		return w, held, nil
	}
	select {
	case <-last.done: // and all before it: they land in their order
		return w, held, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// A nodeWatch is kept by an owner while noted nodes of its room are looked at and deleted, and after that until it is
// unloaded. Its fields are bound by the lock of the owner.
type nodeWatch struct {
	server    *Server
	room      rooms.Room
	noted     []statetree.NodeID // ascending
	deleted   map[statetree.NodeID]bool
	disturbed bool // a step has named a noted one
}

// see takes note of nodes that a step names. The error is that one of them was deleted: the step must not be stored.
func (w *nodeWatch) see(named []statetree.NodeID) error {
	for _, id := range named {
		if _, noted := slices.BinarySearch(w.noted, id); !noted {
			continue
		}
		if w.deleted[id] {
			return fmt.Errorf("state node %d of %s was deleted: %w", id, w.room.ID, storage.ErrChain)
		}
		w.disturbed = true
	}
	return nil
}

// pass looks at a step that is about to be stored. It begins anew if it stands on what was deleted.
func (w *nodeWatch) pass(st *step) error {
	if w == nil {
		return nil
	}
	named := st.tip.roots()
	for _, ev := range st.events {
		named = append(named, ev.StateBefore, ev.StateWith, ev.StateAfter)
		if ev.Then != nil {
			named = append(named, ev.Then.Root)
		}
	}
	for _, node := range st.nodes {
		named = append(named, node.Children()...)
	}
	err := w.see(named)
	if err != nil {
		w.server.log.ErrorContext(context.Background(), "a step stood on a deleted state", "room", w.room.ID, "error", err)
	}
	return err
}

// roots are the roots of all states of a tip.
func (t *tip) roots() []statetree.NodeID {
	named := []statetree.NodeID{t.state.Root()}
	for _, ev := range t.extremities {
		named = append(named, ev.before.Root(), ev.with.Root())
	}
	return named
}

// Delete implements collect.Watch.
func (w *nodeWatch) Delete(ctx context.Context, nodes []statetree.NodeID) error {
	o, err := w.server.acquire(w.room)
	if err != nil {
		return err
	}
	if o.watch != w || w.disturbed || o.fenced {
		o.release()
		return collect.ErrDisturbed
	}
	for _, id := range nodes {
		w.deleted[id] = true
	}
	stored := make(chan error, 1)
	w.server.db.Submit(rooms.DropNodes{RoomNum: w.room.Num, Nodes: nodes}, func(_ storage.Position, err error) { stored <- err })
	o.release()
	select {
	case err = <-stored:
	case <-ctx.Done():
		return ctx.Err() // the commit goes on
	}
	if err != nil {
		return fmt.Errorf("delete state nodes of %s: %w", w.room.ID, err)
	}
	w.server.trees.Forget(nodes)
	return nil
}
