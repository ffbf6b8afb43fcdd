package rooms

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
)

// rootColumns are all columns of the database that name the root of a state. Who looks for the states of a room looks here;
// a test fails when the schema gains a column of numbers that nobody has thought about.
var rootColumns = []struct{ table, column string }{
	{"events", "state_before"},
	{"events", "state_with"},
	{"room_states", "root"},
	{"room_heads", "root"},
	{"partial_joins", "root"},
}

// rootsPerRead bounds the rows of one read of roots.
const rootsPerRead = 2000

// EachRoots calls yield with the roots of all states of a room, some at a time and some more than once. It finds them by the
// indexes of the room.
func EachRoots(ctx context.Context, q storage.Querier, roomNum int64, yield func([]statetree.NodeID) error) error {
	sources := []func(context.Context, storage.Querier, int64, func([]statetree.NodeID) error) error{
		fewRoots, strayRoots, movedRoots, placedRoots,
	}
	for _, each := range sources {
		if err := each(ctx, q, roomNum, yield); err != nil {
			return fmt.Errorf("read the roots of room %d: %w", roomNum, err)
		}
	}
	return nil
}

// fewRoots are those of which a room has few.
func fewRoots(ctx context.Context, q storage.Querier, roomNum int64, yield func([]statetree.NodeID) error) error {
	roots, err := storage.Collect[statetree.NodeID](ctx, q, `
		SELECT root FROM room_heads WHERE room_num = $1
		UNION SELECT root FROM partial_joins WHERE room_num = $1 AND root IS NOT NULL`, roomNum)
	if err != nil {
		return err
	}
	return yield(roots)
}

// strayRoots are those of events that are in no timeline.
func strayRoots(ctx context.Context, q storage.Querier, roomNum int64, yield func([]statetree.NodeID) error) error {
	return pages(yield, func(after rootRow) ([]rootRow, error) {
		return rootRows(ctx, q, `
			SELECT event_num, 0, state_before, state_with FROM events
			WHERE room_num = $1 AND anchor IS NULL AND state_before IS NOT NULL AND event_num > $2
			ORDER BY event_num LIMIT $3`, roomNum, after.at, int64(rootsPerRead))
	})
}

// movedRoots are those of the moves of the room.
func movedRoots(ctx context.Context, q storage.Querier, roomNum int64, yield func([]statetree.NodeID) error) error {
	return pages(yield, func(after rootRow) ([]rootRow, error) {
		return rootRows(ctx, q, `
			SELECT position, 0, root, NULL FROM room_states WHERE room_num = $1 AND position > $2
			ORDER BY position LIMIT $3`, roomNum, after.at, int64(rootsPerRead))
	})
}

// placedRoots are those of events that are in the timeline.
func placedRoots(ctx context.Context, q storage.Querier, roomNum int64, yield func([]statetree.NodeID) error) error {
	return pages(yield, func(after rootRow) ([]rootRow, error) {
		return rootRows(ctx, q, `
			SELECT anchor, sub, state_before, state_with FROM events
			WHERE room_num = $1 AND anchor IS NOT NULL AND (anchor, sub) > ($2, $3)
			ORDER BY anchor, sub LIMIT $4`, roomNum, after.at, after.sub, int64(rootsPerRead))
	})
}

// A rootRow is a row that names roots, and its place in the order of its source.
type rootRow struct {
	at, sub int64
	roots   [2]*int64
}

func rootRows(ctx context.Context, q storage.Querier, text string, args ...any) ([]rootRow, error) {
	var page []rootRow
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var r rootRow
		if err := rows.Scan(&r.at, &r.sub, &r.roots[0], &r.roots[1]); err != nil {
			return err
		}
		page = append(page, r)
		return nil
	}, text, args...)
	return page, err
}

// pages yields the roots of all pages of a source, the first of which follows the zero row.
func pages(yield func([]statetree.NodeID) error, read func(after rootRow) ([]rootRow, error)) error {
	var after rootRow
	for {
		page, err := read(after)
		if err != nil || len(page) == 0 {
			return err
		}
		if err := yield(rootsOf(page)); err != nil || len(page) < rootsPerRead {
			return err
		}
		after = page[len(page)-1]
	}
}

// rootsOf returns the roots that rows name, without those that are named twice in a row.
func rootsOf(page []rootRow) []statetree.NodeID {
	roots := make([]statetree.NodeID, 0, 2*len(page))
	for _, r := range page {
		for _, root := range r.roots {
			if root != nil {
				roots = append(roots, statetree.NodeID(*root))
			}
		}
	}
	return slices.Compact(roots)
}

// Numbers are the row numbers after After, up to and with UpTo.
type Numbers struct{ After, UpTo int64 }

// NamedIn returns what events with such numbers name as roots, of all rooms, between two nodes. It reads the table of
// events itself.
func NamedIn(ctx context.Context, q storage.Querier, events Numbers, from, to statetree.NodeID) ([]statetree.NodeID, error) {
	page, err := rootRows(ctx, q, `
		SELECT event_num, 0, state_before, state_with FROM events
		WHERE event_num > $1 AND event_num <= $2
			AND (state_before BETWEEN $3 AND $4 OR state_with BETWEEN $3 AND $4)`,
		events.After, events.UpTo, int64(from), int64(to))
	if err != nil {
		return nil, fmt.Errorf("read the roots that events name: %w", err)
	}
	return rootsOf(page), nil
}

// NamedElsewhere returns what all tables but those of events and moves name as roots, of all rooms, between two nodes. These
// have a row or a few for each room.
func NamedElsewhere(ctx context.Context, q storage.Querier, from, to statetree.NodeID) ([]statetree.NodeID, error) {
	var all []statetree.NodeID
	for _, c := range rootColumns {
		if c.table == "events" || c.table == "room_states" {
			continue
		}
		roots, err := storage.Collect[statetree.NodeID](ctx, q, `
			SELECT DISTINCT `+c.column+` FROM `+c.table+` WHERE `+c.column+` BETWEEN $1 AND $2`, int64(from), int64(to))
		if err != nil {
			return nil, fmt.Errorf("read the roots in %s: %w", c.table, err)
		}
		all = append(all, roots...)
	}
	return all, nil
}

// A MovePlace is the place of a move in the order of their table.
type MovePlace struct{ RoomNum, Position int64 }

// MovesAfter returns what the next moves after a place name as roots, of all rooms, and the place of the last of them. There
// are no more if there are fewer than limit.
func MovesAfter(ctx context.Context, q storage.Querier, after MovePlace, limit int) (roots []statetree.NodeID, last MovePlace, err error) {
	last = after
	err = storage.Each(ctx, q, func(rows storage.Rows) error {
		var root int64
		if err := rows.Scan(&last.RoomNum, &last.Position, &root); err != nil {
			return err
		}
		roots = append(roots, statetree.NodeID(root))
		return nil
	}, `
		SELECT room_num, position, root FROM room_states WHERE (room_num, position) > ($1, $2)
		ORDER BY room_num, position LIMIT $3`, after.RoomNum, after.Position, int64(limit))
	if err != nil {
		err = fmt.Errorf("read the roots of moves: %w", err)
	}
	return roots, last, err
}

// NodesIn calls yield with the nodes of a room with such numbers, highest first.
func NodesIn(ctx context.Context, q storage.Querier, roomNum int64, nodes Numbers, yield func(statetree.NodeID, []byte) error) error {
	return storage.Each(ctx, q, func(rows storage.Rows) error {
		var id int64
		var data []byte
		if err := rows.Scan(&id, &data); err != nil {
			return err
		}
		return yield(statetree.NodeID(id), data)
	}, `
		SELECT node_num, data FROM state_nodes
		WHERE node_num > $1 AND node_num <= $2 AND room_num = $3 ORDER BY node_num DESC`, nodes.After, nodes.UpTo, roomNum)
}

// NodeNumbersIn returns the numbers of the nodes of a room among these, lowest first.
func NodeNumbersIn(ctx context.Context, q storage.Querier, roomNum int64, nodes Numbers) ([]statetree.NodeID, error) {
	return storage.Collect[statetree.NodeID](ctx, q, `
		SELECT node_num FROM state_nodes
		WHERE node_num > $1 AND node_num <= $2 AND room_num = $3 ORDER BY node_num`, nodes.After, nodes.UpTo, roomNum)
}
