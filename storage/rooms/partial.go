package rooms

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A PartialJoin is a join of this server to a room of which it did not learn the members at once. Its states from then
// on have a hole.
type PartialJoin struct {
	RoomNum int64
	Hole    statetree.Hole
	Join    int64               // event number
	Servers []matrix.ServerName // in the room before the join, the one through which we came first
	Members statetree.NodeID    // root of the members before the join; 0: not known yet
	Joined  int64               // of these members, by membership
	Invited int64
	Until   storage.Position // from which on the room is whole, or left; 0: it is partial
}

var (
	partialJoinsTable = storage.NewTable("partial_joins", storage.Fail, `
		hole BIGINT KEY, room_num BIGINT, join_num BIGINT, servers TEXT, joined BIGINT, invited BIGINT`)
	partialEventsTable = storage.NewTable("partial_events", storage.Ignore, `
		room_num BIGINT KEY, event_num BIGINT KEY, ord BIGINT`)
)

const selectPartials = `
	SELECT room_num, hole, join_num, servers, root, joined, invited, until FROM partial_joins `

// PartialOf returns the join by which a room is partial, if it is.
func PartialOf(ctx context.Context, q storage.Querier, roomNum int64) (PartialJoin, bool, error) {
	return storage.First(ctx, q, (*PartialJoin).scan, selectPartials+`WHERE room_num = $1 AND until IS NULL`, roomNum)
}

// LatestPartial returns the latest join by which a room is, or was, partial.
func LatestPartial(ctx context.Context, q storage.Querier, roomNum int64) (PartialJoin, bool, error) {
	return storage.First(ctx, q, (*PartialJoin).scan, selectPartials+`WHERE room_num = $1 ORDER BY hole DESC LIMIT 1`, roomNum)
}

// HasHoles says whether a room was left before its members were known: some of its states will lack them for good.
func HasHoles(ctx context.Context, q storage.Querier, roomNum int64) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `
		SELECT hole FROM partial_joins WHERE room_num = $1 AND root IS NULL AND until IS NOT NULL LIMIT 1`, roomNum)
	return found, err
}

// OpenPartials returns the joins of all rooms that are partial, oldest first.
func OpenPartials(ctx context.Context, q storage.Querier) ([]PartialJoin, error) {
	return storage.List(ctx, q, (*PartialJoin).scan, selectPartials+`WHERE until IS NULL ORDER BY hole`)
}

// PartialSince returns the joins of the rooms that are partial, or were at some time after a position.
func PartialSince(ctx context.Context, q storage.Querier, after storage.Position) ([]PartialJoin, error) {
	open, err := OpenPartials(ctx, q)
	if err != nil {
		return nil, err
	}
	over, err := storage.List(ctx, q, (*PartialJoin).scan, selectPartials+`WHERE until > $1`, int64(after))
	return append(open, over...), err
}

func (p *PartialJoin) scan(rows storage.Rows) error {
	var servers []byte
	var root, until *int64
	if err := rows.Scan(&p.RoomNum, &p.Hole, &p.Join, &servers, &root, &p.Joined, &p.Invited, &until); err != nil {
		return err
	}
	p.Members, p.Until = statetree.NodeID(orZero(root)), storage.Position(orZero(until))
	return json.Unmarshal(servers, &p.Servers)
}

// MembersOfHole returns the root of the members that belong in a hole, if they are known.
func MembersOfHole(ctx context.Context, q storage.Querier, hole statetree.Hole) (statetree.NodeID, bool, error) {
	root, found, err := storage.One[int64](ctx, q, `
		SELECT root FROM partial_joins WHERE hole = $1 AND root IS NOT NULL`, int64(hole))
	return statetree.NodeID(root), found, err
}

// PartialEvents returns the numbers of the events of a room that are to be checked again, in the order in which they came.
func PartialEvents(ctx context.Context, q storage.Querier, roomNum int64) ([]int64, error) {
	return storage.Collect[int64](ctx, q, `
		SELECT event_num FROM partial_events WHERE room_num = $1 ORDER BY ord`, roomNum)
}

func (p *PartialJoin) rows(it *storage.Item) {
	servers, _ := json.Marshal(p.Servers) // names cannot fail
	it.Insert(partialJoinsTable, int64(p.Hole), p.RoomNum, p.Join, string(servers), p.Joined, p.Invited)
}

// FillHole stores what the members are that a join did not tell. Their nodes are stored. It may be repeated.
type FillHole struct {
	Join PartialJoin // Members, Joined and Invited are set
}

// Rows implements storage.Write.
func (w FillHole) Rows(it *storage.Item) {
	it.Exec(`UPDATE partial_joins SET root = $1, joined = $2, invited = $3 WHERE hole = $4 AND root IS NULL`,
		int64(w.Join.Members), w.Join.Joined, w.Join.Invited, int64(w.Join.Hole))
}

// An EndOfPartial ends the time in which a room is partial.
type EndOfPartial struct {
	Hole  statetree.Hole
	Move  *Move            // to the whole state; nil if this server has left
	At    storage.Position // if there is no Move
	Join  int64            // number of the join that it began with
	Lacks []matrix.EventID // what is missing before the join, besides what was
}

// rows ends it, and returns the position of the news, nil if there are none.
func (e *EndOfPartial) rows(it *storage.Item, roomNum int64) (at any) {
	if at = any(int64(e.At)); e.Move != nil {
		at = e.Move.rows(it)
	}
	it.Exec(`UPDATE partial_joins SET until = $1 WHERE hole = $2`, at, int64(e.Hole))
	it.Exec(`DELETE FROM partial_events WHERE room_num = $1`, roomNum)
	for _, id := range e.Lacks {
		it.Insert(gapsTable, roomNum, string(id), e.Join)
	}
	return at
}
