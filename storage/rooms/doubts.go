package rooms

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
)

// A Doubt says that a room may have state nodes with this number or a higher one that no state needs. It is stored in the
// commit of the first of these nodes, so that a crash does not lose it.
type Doubt struct {
	RoomNum int64
	First   int64
}

var (
	doubtsTable = storage.NewTable("state_doubts", storage.Ignore, `room_num BIGINT KEY, first_num BIGINT KEY`)
	notesTable  = storage.NewTable("state_notes", storage.Ignore, `room_num BIGINT KEY, node_num BIGINT KEY`)
)

func (d *Doubt) rows(it *storage.Item) { it.Insert(doubtsTable, d.RoomNum, d.First) }

// errNoted says that nodes are to be named of which some may be deleted.
var errNoted = errors.New("rooms: the nodes of the state were not named in time")

// namedRows tells that all nodes that a doubt was about are named now, unless it stays.
func (d *Doubt) namedRows(it *storage.Item, stays bool) {
	it.Require(errNoted, `
		SELECT first_num FROM state_doubts WHERE room_num = $1 AND first_num = $2 AND noted_ms IS NULL`, d.RoomNum, d.First)
	if !stays {
		it.Exec(`DELETE FROM state_doubts WHERE room_num = $1 AND first_num = $2`, d.RoomNum, d.First)
	}
}

// A Doubted is a room about which there are doubts, and how far they were looked into.
type Doubted struct {
	RoomNum int64
	First   int64 // number of the first node in doubt
	Noted   bool  // all nodes that nothing seemed to need are noted,
	NotedMS int64 // since then
}

// DoubtedRooms returns the first rooms after one about which there are doubts, in the order of their numbers. While a room is partial there is no use in looking into them.
// In one that was given up while it was, events are given other states one at a time, whenever others follow them, and
// nobody who remembers the events is told: nothing of it is deleted.
func DoubtedRooms(ctx context.Context, q storage.Querier, after int64, limit int) ([]Doubted, error) {
	var all []Doubted
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var d Doubted
		if err := rows.Scan(&d.RoomNum, &d.First, &d.Noted, &d.NotedMS); err != nil {
			return err
		}
		all = append(all, d)
		return nil
	}, `
		SELECT d.room_num, MIN(d.first_num), COUNT(*) = COUNT(d.noted_ms), COALESCE(MAX(d.noted_ms), 0) FROM state_doubts d
		WHERE d.room_num > $1 AND NOT EXISTS (SELECT hole FROM partial_joins p WHERE p.room_num = d.room_num AND (p.until IS NULL OR p.root IS NULL))
		GROUP BY d.room_num ORDER BY d.room_num LIMIT $2`, after, int64(limit))
	return all, err
}

// NoteNodes notes nodes of a room that nothing seems to need.
type NoteNodes struct {
	RoomNum int64
	Nodes   []statetree.NodeID
}

// Rows implements storage.Write.
func (w NoteNodes) Rows(it *storage.Item) {
	for _, id := range w.Nodes {
		it.Insert(notesTable, w.RoomNum, int64(id))
	}
}

// EndNotes tells that all nodes of a room that nothing seemed to need are noted. Doubts that came since are left out.
type EndNotes struct {
	RoomNum int64
	UpTo    int64 // number up to which nodes were looked at
	AtMS    int64
}

// Rows implements storage.Write.
func (w EndNotes) Rows(it *storage.Item) {
	it.Exec(`UPDATE state_doubts SET noted_ms = $1 WHERE room_num = $2 AND first_num <= $3`, w.AtMS, w.RoomNum, w.UpTo)
}

// DropNotes drops notes of a room: its nodes are needed, or are to be looked at anew.
type DropNotes struct {
	RoomNum int64
	Nodes   []statetree.NodeID
}

// Rows implements storage.Write.
func (w DropNotes) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM state_notes
		WHERE room_num = $1 AND node_num IN (SELECT CAST(key AS BIGINT) FROM json_each($2))`, w.RoomNum, storage.Numbers(w.Nodes...))
}

// DropNodes deletes nodes of a room that are noted, and the notes.
type DropNodes struct {
	RoomNum int64
	Nodes   []statetree.NodeID
}

// Rows implements storage.Write.
func (w DropNodes) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM state_nodes
		WHERE room_num = $1 AND node_num IN (SELECT CAST(key AS BIGINT) FROM json_each($2))
			AND EXISTS (SELECT 1 FROM state_notes n WHERE n.room_num = $1 AND n.node_num = state_nodes.node_num)`, w.RoomNum, storage.Numbers(w.Nodes...))
	DropNotes(w).Rows(it)
}

// EndDoubts ends the doubts about a room that were looked into: those of which the notes were complete, or, if nothing had
// to be noted, those up to a number.
type EndDoubts struct {
	RoomNum int64
	UpTo    int64
}

// Rows implements storage.Write.
func (w EndDoubts) Rows(it *storage.Item) {
	it.Exec(`DELETE FROM state_doubts WHERE room_num = $1 AND (noted_ms IS NOT NULL OR first_num <= $2)`, w.RoomNum, w.UpTo)
}

// Notes returns the noted nodes of a room with a number below one, highest first.
func Notes(ctx context.Context, q storage.Querier, roomNum int64, below statetree.NodeID, limit int) ([]statetree.NodeID, error) {
	return storage.Collect[statetree.NodeID](ctx, q, `
		SELECT node_num FROM state_notes WHERE room_num = $1 AND node_num < $2
		ORDER BY node_num DESC LIMIT $3`, roomNum, int64(below), int64(limit))
}
