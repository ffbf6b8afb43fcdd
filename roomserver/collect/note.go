package collect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// errOrder says that a node names one with a higher number, which the first look takes for impossible.
var errOrder = errors.New("collect: a state node names a later one")

// note is the first look.
func (l *look) note(ctx context.Context, first int64) error {
	if err := l.dropNotes(ctx); err != nil {
		return err
	}
	noted := false
	for after := first - 1; after < l.upTo; {
		doubted, upTo, err := l.doubted(ctx, after)
		if err != nil {
			return err
		}
		after = upTo
		if len(doubted) == 0 {
			continue
		}
		w := &walk{look: l, doubted: newNodeSet(doubted), seen: make(map[statetree.NodeID]struct{})}
		if err := rooms.EachRoots(ctx, l.DB, l.room.Num, func(roots []statetree.NodeID) error { return w.down(ctx, roots) }); err != nil {
			return err
		}
		_, unmet := w.doubted.split()
		noted = noted || len(unmet) > 0
		for some := range slices.Chunk(unmet, l.writes) {
			if err := l.commit(ctx, rooms.NoteNodes{RoomNum: l.room.Num, Nodes: some}); err != nil {
				return err
			}
		}
	}
	if !noted {
		return l.commit(ctx, rooms.EndDoubts{RoomNum: l.room.Num, UpTo: l.upTo})
	}
	return l.commit(ctx, rooms.EndNotes{RoomNum: l.room.Num, UpTo: l.upTo, AtMS: l.Now().UnixMilli()})
}

// dropNotes drops what a look that was broken off has noted.
func (l *look) dropNotes(ctx context.Context) error {
	for {
		old, err := rooms.Notes(ctx, l.DB, l.room.Num, math.MaxInt64, l.writes)
		if err != nil {
			return fmt.Errorf("read the notes on %s: %w", l.room.ID, err)
		}
		if len(old) == 0 {
			return nil
		}
		if err := l.commit(ctx, rooms.DropNotes{RoomNum: l.room.Num, Nodes: old}); err != nil {
			return err
		}
	}
}

// doubted returns nodes with numbers above one, as many as are looked at together, and the number up to which these are all.
func (l *look) doubted(ctx context.Context, after int64) (nodes []statetree.NodeID, upTo int64, err error) {
	for after < l.upTo && len(nodes)+int(l.numbers) <= l.nodes {
		slice := rooms.Numbers{After: after, UpTo: min(after+l.numbers, l.upTo)}
		some, err := rooms.NodeNumbersIn(ctx, l.DB, l.room.Num, slice)
		if err != nil {
			return nil, 0, fmt.Errorf("read the state nodes of %s: %w", l.room.ID, err)
		}
		nodes, after = append(nodes, some...), slice.UpTo
		if err := l.rest(ctx); err != nil {
			return nil, 0, err
		}
	}
	return nodes, after, nil
}

// A walk goes down from the roots of a room and marks the nodes in doubt that it meets. Nodes name earlier ones only, so it
// need not go below the first of those in doubt.
type walk struct {
	*look
	doubted *nodeSet
	seen    map[statetree.NodeID]struct{} // of the others; begun anew when it is full, which costs time alone
}

// down walks down from some roots.
func (w *walk) down(ctx context.Context, roots []statetree.NodeID) error {
	var todo []statetree.NodeID
	for _, root := range roots {
		if w.isNew(root) {
			todo = append(todo, root)
		}
	}
	for {
		if err := w.rest(ctx); err != nil || len(todo) == 0 {
			return err
		}
		rest := len(todo) - min(len(todo), statetree.MaxLoad)
		some := slices.Clone(todo[rest:])
		slices.Sort(some)
		children, err := w.children(ctx, slices.Compact(some)) // what was forgotten may have been met twice
		if err != nil {
			return err
		}
		todo = append(todo[:rest], children...)
	}
}

// isNew says whether a node has not been met before, and meets it.
func (w *walk) isNew(id statetree.NodeID) bool {
	if id < w.doubted.lowest() {
		return false
	}
	if in, met := w.doubted.has(id); in {
		w.doubted.mark(id)
		return !met
	}
	if _, met := w.seen[id]; met {
		return false
	}
	if len(w.seen) >= w.limits.seen {
		clear(w.seen)
	}
	w.seen[id] = struct{}{}
	return true
}

// children returns the nodes below some that have not been met before.
func (w *walk) children(ctx context.Context, nodes []statetree.NodeID) ([]statetree.NodeID, error) {
	var below []statetree.NodeID
	found := 0
	err := rooms.StateNodes(ctx, w.DB, nodes, func(id statetree.NodeID, data []byte) error {
		found++
		children, err := w.Owners.Hasher().Children(id, data)
		if err != nil {
			return err
		}
		for _, child := range children {
			if child >= id {
				return fmt.Errorf("%w: %d names %d", errOrder, id, child)
			}
			if w.isNew(child) {
				below = append(below, child)
			}
		}
		return nil
	})
	if err == nil && found != len(nodes) {
		err = fmt.Errorf("%w: %d of %d", statetree.ErrMissing, len(nodes)-found, len(nodes))
	}
	if err != nil {
		return nil, fmt.Errorf("walk through the states of %s: %w", w.room.ID, err)
	}
	return below, nil
}
