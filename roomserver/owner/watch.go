package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

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

// Unnamed says whether there are stored nodes of a room which something that is under way is yet to name.
func (s *Owners) Unnamed(roomNum int64) bool {
	s.unnamed.mu.Lock()
	defer s.unnamed.mu.Unlock()
	return s.unnamed.trees[roomNum] > 0
}

// A NodeWatch is kept by an owner while noted nodes of its room are looked at and deleted, and after that until it is
// unloaded, or for watchAfter. Its fields are bound by the lock of the owner.
type NodeWatch struct {
	closed    atomic.Bool // nothing more will be deleted
	owners    *Owners
	room      rooms.Room
	noted     []statetree.NodeID // ascending
	deleted   []uint64           // bits, by index in noted
	disturbed bool               // a step has named one that is noted and not deleted
	used      time.Time
}

// see takes note of nodes that a step names. The error is that one of them was deleted: the step must not be stored.
func (w *NodeWatch) see(named []statetree.NodeID) error {
	for _, id := range named {
		i, noted := slices.BinarySearch(w.noted, id)
		if !noted {
			continue
		}
		if w.deleted[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("state node %d of %s was deleted: %w", id, w.room.ID, storage.ErrChain)
		}
		w.disturbed = true
	}
	return nil
}

// pass looks at a step that is about to be stored. It begins anew if it stands on what was deleted.
func (w *NodeWatch) pass(ctx context.Context, st *Step) error {
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
		w.owners.log.ErrorContext(ctx, "a step stood on a deleted state", "room", w.room.ID, "error", err)
	}
	return err
}

// isOpen says whether something may still be deleted. A look takes longer than a quiet room is kept, in a large database.
func (w *NodeWatch) isOpen() bool { return w != nil && !w.closed.Load() }

// over says whether a watch is not needed any more.
func (w *NodeWatch) over(now time.Time) bool {
	return w != nil && !w.isOpen() && now.Sub(w.used) >= watchAfter
}

// Close tells that nothing more will be deleted. Steps are watched for what was.
func (w *NodeWatch) Close() { w.closed.Store(true) }

// Watch has the owner of a room watch for noted nodes, which ascend, and returns the roots that it stands on. When it
// returns, all that was built before is committed or has failed. The owner stays loaded until the watch is closed.
func (s *Owners) Watch(ctx context.Context, room rooms.Room, noted []statetree.NodeID) (w *NodeWatch, held []statetree.NodeID, err error) {
	w = &NodeWatch{owners: s, room: room, noted: noted, deleted: make([]uint64, len(noted)/64+1), used: s.now()}
	o, err := s.acquire(room)
	if err != nil {
		return nil, nil, err
	}
	o.watch = w
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
		w.Close()
		return nil, nil, ctx.Err()
	}
}

// ErrDisturbed says that the owner of a room has named a noted node, or that it is not the same owner any more. What is
// noted is looked at again another time.
var ErrDisturbed = errors.New("owner: the room has moved on under the look")

// Hasher is that of the state trees.
func (s *Owners) Hasher() statetree.Hasher { return s.cache.Hasher }

// watchAfter is how long a watch is kept after its last use. Nothing that is under way takes so long.
const watchAfter = time.Hour

// Delete deletes some of the noted nodes, with their notes. It returns ErrDisturbed, and deletes nothing, if the room has
// named a noted one since the watch began.
func (w *NodeWatch) Delete(ctx context.Context, nodes []statetree.NodeID) error {
	o, err := w.owners.acquire(w.room)
	if err != nil {
		return err
	}
	if o.watch != w || w.disturbed || o.fenced {
		o.release()
		return ErrDisturbed
	}
	for _, id := range nodes {
		if i, noted := slices.BinarySearch(w.noted, id); noted {
			w.deleted[i/64] |= 1 << (i % 64)
		}
	}
	w.used = w.owners.now()
	stored := make(chan error, 1)
	w.owners.db.Submit(rooms.DropNodes{RoomNum: w.room.Num, Nodes: nodes}, func(_ storage.Position, err error) { stored <- err })
	o.release()
	select {
	case err = <-stored:
	case <-ctx.Done():
		return ctx.Err() // the commit goes on
	}
	if err != nil {
		return fmt.Errorf("delete state nodes of %s: %w", w.room.ID, err)
	}
	w.owners.cache.Trees.Forget(nodes)
	return nil
}
