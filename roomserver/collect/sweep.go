package collect

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// sweep is the second look. It takes the highest notes first, as nodes name lower ones.
func (l *look) sweep(ctx context.Context) error {
	deleted, kept := 0, 0
	for below := statetree.NodeID(math.MaxInt64); ; {
		noted, err := rooms.Notes(ctx, l.DB, l.room.Num, below, l.nodes)
		if err != nil {
			return fmt.Errorf("read the notes on %s: %w", l.room.ID, err)
		}
		if len(noted) == 0 {
			break
		}
		slices.Reverse(noted)
		needed, unneeded, err := l.sweepSome(ctx, newNodeSet(noted))
		deleted, kept, below = deleted+unneeded, kept+needed, noted[0]
		collected.Add(float64(unneeded))
		if err != nil {
			return err
		}
	}
	if kept > 0 {
		l.Log.WarnContext(ctx, "state nodes were noted though they are needed", "room", l.room.ID, "nodes", kept)
	}
	l.Log.InfoContext(ctx, "state nodes collected", "room", l.room.ID, "nodes", deleted)
	return l.commit(ctx, rooms.EndDoubts{RoomNum: l.room.Num})
}

// sweepSome looks at some of the notes, and takes them back or deletes the nodes. It returns how many, also with an error.
func (l *look) sweepSome(ctx context.Context, noted *nodeSet) (kept, deleted int, err error) {
	watch, held, err := l.Owners.Watch(ctx, l.room, noted.ids)
	if err != nil {
		return 0, 0, err
	}
	defer watch.Close()
	for _, root := range held {
		noted.mark(root)
	}
	l.upTo = l.DB.NextNumber() // what is stored from now on is watched
	if err := l.markRoots(ctx, noted); err != nil {
		return 0, 0, err
	}
	if err := l.markNamed(ctx, noted); err != nil {
		return 0, 0, err
	}
	needed, unneeded := noted.split()
	for some := range slices.Chunk(needed, l.writes) {
		if err := l.commit(ctx, rooms.DropNotes{RoomNum: l.room.Num, Nodes: some}); err != nil {
			return len(needed), 0, err
		}
	}
	slices.Reverse(unneeded) // whoever stops in between leaves none that names one that is gone
	for some := range slices.Chunk(unneeded, l.writes) {
		if err := watch.Delete(ctx, some); err != nil {
			return len(needed), deleted, err
		}
		deleted += len(some)
		if err := l.rest(ctx); err != nil {
			return len(needed), deleted, err
		}
	}
	return len(needed), deleted, nil
}

// markRoots marks the noted nodes that a row names as a root, of whatever room. The numbers of all events of a room are
// above the room's own.
func (l *look) markRoots(ctx context.Context, noted *nodeSet) error {
	mark := func(roots []statetree.NodeID, err error) error {
		if err != nil {
			return err
		}
		for _, root := range roots {
			noted.mark(root)
		}
		return l.rest(ctx)
	}
	for after := l.room.Num; after < l.upTo; after += l.numbers {
		slice := rooms.Numbers{After: after, UpTo: min(after+l.numbers, l.upTo)}
		if err := mark(rooms.NamedIn(ctx, l.DB, slice, noted.lowest(), noted.highest())); err != nil {
			return err
		}
	}
	for last := (rooms.MovePlace{}); ; {
		roots, at, err := rooms.MovesAfter(ctx, l.DB, last, int(l.numbers))
		if err := mark(roots, err); err != nil {
			return err
		}
		if last = at; len(roots) < int(l.numbers) {
			break
		}
	}
	return mark(rooms.NamedElsewhere(ctx, l.DB, noted.lowest(), noted.highest()))
}

// markNamed marks the noted nodes that a node of the room names which is not noted, or is marked itself. It goes from the
// last node to the first, so that who names a node comes before it.
func (l *look) markNamed(ctx context.Context, noted *nodeSet) error {
	take := func(id statetree.NodeID, data []byte) error {
		if in, marked := noted.has(id); in && !marked {
			return nil
		}
		children, err := l.Owners.Hasher().Children(id, data)
		for _, child := range children {
			if noted.mark(child) && child > id {
				return fmt.Errorf("%w: %d names %d", errOrder, id, child)
			}
		}
		return err
	}
	for upTo := l.upTo; upTo > l.room.Num; upTo -= l.numbers {
		slice := rooms.Numbers{After: max(upTo-l.numbers, l.room.Num), UpTo: upTo}
		if err := rooms.NodesIn(ctx, l.DB, l.room.Num, slice, take); err != nil {
			return fmt.Errorf("read the state nodes of %s: %w", l.room.ID, err)
		}
		if err := l.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}
