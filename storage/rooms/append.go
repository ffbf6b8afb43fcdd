package rooms

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// Append stores events of one room, in their order, with all that follows from them: states,
// memberships, redactions, the room's head. It is all or nothing.
type Append struct {
	Room       Room
	NewRoom    bool  // the room itself is stored with its first events
	Generation int64 // of the owner: what builds on a failed Append fails too
	Events     []NewEvent
	Asides     []Membership        // of users of whom one was set aside, after the events; their Position is filled in at the commit
	Nodes      []statetree.NewNode // of the states of the events, and of the current state
	Head       *Head               // after the last event; nil if none is live. Its Position is filled in at the commit
	Directory  *Published
	Aliases    []Alias       // made with the room
	Partial    *PartialJoin  // that begins with the events
	Whole      *EndOfPartial // after the events; a Head then stands at the position of its Move
	Doubt      *Doubt        // about the Nodes, which nothing names yet, or about nodes that the Events have had until now
	Named      *Doubt        // about nodes that something names now; it stays if the room is partial from now on
}

// A NewEvent is an event to be stored. Of a live one, Position and Order are filled in at the commit.
type NewEvent struct {
	*Event
	Known      bool             // it is stored already, without its place: that is added
	Accepted   bool             // state that may be in states and authorise others
	Auth       []int64          // of accepted state: its auth events
	TxnKey     int64            // 0: sent without a transaction ID
	Members    []Membership     // that it changes; their Position is filled in at the commit
	Redactions []Redaction      // of earlier events by this one, or of this one by an earlier one
	Waiting    matrix.EventID   // of a redaction: its target, if that has not come yet
	Lacks      []matrix.EventID // what is missing before it, with nothing of the timeline between
	Fills      bool             // earlier ones lack this event
	Late       bool             // and one of these is in the timeline
	Then       *Move            // of the current state, after a live event
	Untimely   bool             // of a live event: its time is before that of an earlier timely one, or not to be believed
	Arrived    []matrix.EventID // targets that waiting redactions need no longer wait for
	Listed     int64            // of one to be checked again when the room is whole: its place in that order; 0 of others
	Again      bool             // it was: if it is live it keeps its place, else it loses it. It is no news
}

// A Move is a move of a room's current state that the states of different branches have come to when they were
// resolved. It is the Value of storage.NewsState.
type Move struct {
	RoomNum int64
	Room    matrix.RoomID
	Root    statetree.NodeID
	Members []Membership // that changed; their Position is that of the news
	Again   bool         // events before it were checked again: what is kept of them may be out of date
}

// A Redaction is an event to be redacted.
type Redaction struct {
	Target int64 // event number
	By     int64 // event number
	JSON   []byte
}

var (
	roomsTable = storage.NewTable("rooms", storage.Fail, "room_num BIGINT KEY, room_id TEXT, version TEXT")
	headsTable = storage.NewTable("room_heads", storage.Replace, `
		room_num BIGINT KEY, position BIGINT, root BIGINT, depth BIGINT, extremities TEXT, joined BIGINT,
		invited BIGINT`)
	eventsTable = storage.NewTable("events", storage.Fail, `
		event_num BIGINT KEY, room_num BIGINT, event_id TEXT, kind BIGINT, position BIGINT, anchor BIGINT,
		sub BIGINT, type TEXT, state_key TEXT, sender TEXT, state_before BIGINT, state_with BIGINT, auth TEXT,
		relayed BOOLEAN, after_gap BOOLEAN, txn_key BIGINT, txn_device TEXT, txn_id TEXT, json TEXT, ts BIGINT`)
	statesTable      = storage.NewTable("room_states", storage.Fail, "room_num BIGINT KEY, position BIGINT KEY, root BIGINT")
	nodesTable       = storage.NewTable("state_nodes", storage.Fail, "node_num BIGINT KEY, room_num BIGINT, data BYTEA")
	membershipsTable = storage.NewTable("memberships", storage.Replace, `
		room_num BIGINT KEY, user_id TEXT KEY, membership TEXT, event_num BIGINT, position BIGINT, stripped TEXT,
		forgotten BOOLEAN, server TEXT`)
	historyTable = storage.NewTable("membership_history", storage.Fail, `
		room_num BIGINT KEY, user_id TEXT KEY, position BIGINT KEY, membership TEXT, event_num BIGINT`)
	importedTable = historyTable.On(storage.Replace)
	lateTable     = membershipsTable.On(storage.Ignore)
	gapsTable     = storage.NewTable("gaps", storage.Ignore, "room_num BIGINT KEY, prev_id TEXT KEY, event_num BIGINT KEY")
	pendingTable  = storage.NewTable("pending_redactions", storage.Ignore, `
		room_num BIGINT KEY, redacts TEXT KEY, event_num BIGINT KEY`)
)

// Rows implements storage.Write.
func (a Append) Rows(it *storage.Item) {
	it.Chain(a.Room.Num, a.Generation)
	if a.NewRoom {
		it.Insert(roomsTable, a.Room.Num, string(a.Room.ID), string(a.Room.Version.ID))
	}
	for _, n := range a.Nodes {
		it.Insert(nodesTable, int64(n.ID), a.Room.Num, n.Data)
	}
	var last storage.Ref
	for i := range a.Events {
		switch e := &a.Events[i]; {
		case e.Again:
			e.againRows(it)
		case e.Kind == Live:
			last = e.liveRows(it)
		default:
			e.rows(it, nil, orNil(int64(e.Order.Anchor)))
		}
	}
	for i := range a.Asides {
		a.Asides[i].aloneRows(it)
	}
	if a.Partial != nil {
		a.Partial.rows(it)
	}
	if a.Whole != nil {
		if at, moved := a.Whole.rows(it, a.Room.Num).(storage.Ref); moved {
			last = at
		}
	}
	if a.Head != nil {
		it.Insert(headsTable, a.Room.Num, last, int64(a.Head.Root), a.Head.Depth,
			numberList(a.Head.Extremities), a.Head.Joined, a.Head.Invited)
	}
	if a.Doubt != nil {
		a.Doubt.rows(it)
	}
	if a.Named != nil {
		a.Named.namedRows(it, a.Partial != nil)
	}
	if a.Directory != nil {
		a.Directory.rows(it)
	}
	for _, alias := range a.Aliases {
		alias.Rows(it)
	}
}

// liveRows stores an event that is news.
func (e *NewEvent) liveRows(it *storage.Item) storage.Ref {
	at := it.News(storage.News{Kind: storage.NewsEvent, Room: e.RoomID, User: e.Target(), Value: e.Event})
	e.rows(it, at, at)
	if e.StateMoved {
		it.Insert(statesTable, e.RoomNum, at, int64(e.StateAfter))
	}
	for i := range e.Members {
		e.Members[i].rows(it, at)
	}
	if e.Then != nil {
		return e.Then.rows(it)
	}
	return at
}

// againRows stores what an event has become that was checked again.
func (e *NewEvent) againRows(it *storage.Item) {
	before, with, auth := e.found()
	it.Exec(`UPDATE events SET kind = $1, state_before = $2, state_with = $3, auth = $4 WHERE event_num = $5`,
		int64(e.Kind), before, with, auth, e.Num)
	if e.Kind != Live {
		it.Exec(`UPDATE events SET position = NULL, anchor = NULL WHERE event_num = $1`, e.Num)
	}
	for _, id := range e.Lacks {
		it.Insert(gapsTable, e.RoomNum, string(id), e.Num)
	}
	e.redactionRows(it)
}

// found is what was found out about an event, as it is stored.
func (e *NewEvent) found() (before, with, auth any) {
	if !e.StateUnknown {
		before = int64(e.StateBefore)
		if e.StateWith != e.StateBefore {
			with = int64(e.StateWith)
		}
	}
	if e.Accepted {
		auth = numberList(e.Auth)
	}
	return before, with, auth
}

func (e *NewEvent) rows(it *storage.Item, position, anchor any) {
	before, with, auth := e.found()
	var ts any
	if anchor != nil && e.isTimed() {
		ts = e.OriginServerTS
	}
	if e.Known {
		it.Exec(`
			UPDATE events SET kind = $1, position = $2, anchor = $3, sub = $4, state_before = $5, state_with = $6, auth = $7,
				relayed = $8 OR COALESCE(relayed, FALSE), after_gap = $9, ts = $10
			WHERE event_num = $11`, int64(e.Kind), position, anchor, e.Order.Sub, before, with, auth, e.Relayed, orNil(e.AfterGap), ts, e.Num)
	} else {
		it.Insert(eventsTable, e.Num, e.RoomNum, string(e.ID), int64(e.Kind), position, anchor, e.Order.Sub, e.Type, e.StateKey,
			string(e.Sender), before, with, auth, orNil(e.Relayed), orNil(e.AfterGap), orNil(e.TxnKey), orNil(string(e.TxnDevice)),
			orNil(e.TxnID), string(e.JSON), ts)
	}
	for _, id := range e.Lacks {
		it.Insert(gapsTable, e.RoomNum, string(id), e.Num)
	}
	if e.Fills {
		e.fillRows(it)
	}
	if e.Listed != 0 {
		it.Insert(partialEventsTable, e.RoomNum, e.Num, e.Listed)
	}
	e.redactionRows(it)
}

// maxMovedGaps bounds the gaps that go on behind one event.
const maxMovedGaps = 20

// fillRows ends the gaps that were of this event. If it is not in the timeline, they go on behind it.
func (e *NewEvent) fillRows(it *storage.Item) {
	if e.Kind == Rejected || e.Kind == SoftFailed {
		for _, id := range e.Lacks {
			it.Exec(`
				INSERT INTO gaps (room_num, prev_id, event_num)
				SELECT g.room_num, $3, g.event_num FROM gaps g JOIN events e ON e.event_num = g.event_num
				WHERE g.room_num = $1 AND g.prev_id = $2 ORDER BY e.anchor IS NULL, g.event_num LIMIT $4
				ON CONFLICT DO NOTHING`, e.RoomNum, string(e.ID), string(id), int64(maxMovedGaps))
		}
	}
	it.Exec(`DELETE FROM gaps WHERE room_num = $1 AND prev_id = $2`, e.RoomNum, string(e.ID))
}

func (e *NewEvent) redactionRows(it *storage.Item) {
	for _, r := range e.Redactions {
		it.Exec(`UPDATE events SET redacted_by = $1, json = $2 WHERE event_num = $3 AND redacted_by IS NULL`,
			r.By, string(r.JSON), r.Target)
	}
	if e.Waiting != "" {
		it.Insert(pendingTable, e.RoomNum, string(e.Waiting), e.Num)
	}
	for _, id := range e.Arrived {
		it.Exec(`DELETE FROM pending_redactions WHERE room_num = $1 AND redacts = $2`, e.RoomNum, string(id))
	}
}

// rows stores a membership that holds from a position on.
func (m *Membership) rows(it *storage.Item, at any) {
	it.Insert(membershipsTable, m.RoomNum, string(m.User), string(m.Membership), m.EventNum, at, orNil(string(m.Stripped)), false,
		string(m.User.Server()))
	it.Insert(historyTable, m.RoomNum, string(m.User), at, string(m.Membership), m.EventNum)
}

// aloneRows stores a membership that no event of the room brings. The news is of kind NewsInvite, as for every change of a
// user's rooms that is no event of the room.
func (m *Membership) aloneRows(it *storage.Item) {
	m.rows(it, it.News(storage.News{Kind: storage.NewsInvite, Room: m.Room, User: m.User, Value: *m}))
}

func (m *Move) rows(it *storage.Item) storage.Ref {
	at := it.News(storage.News{Kind: storage.NewsState, Room: m.Room, Value: m})
	it.Insert(statesTable, m.RoomNum, at, int64(m.Root))
	for i := range m.Members {
		m.Members[i].rows(it, at)
	}
	return at
}

// ImportMembers stores the members of a room as they were before this server knew the room. It may be stored again, with
// other members.
type ImportMembers struct {
	Members []Membership
	Late    bool // the present membership of who has one stands
}

// Rows implements storage.Write.
func (w ImportMembers) Rows(it *storage.Item) {
	present := membershipsTable
	if w.Late {
		present = lateTable
	}
	for _, m := range w.Members {
		it.Insert(present, m.RoomNum, string(m.User), string(m.Membership), m.EventNum, int64(m.Position), nil, false,
			string(m.User.Server()))
		it.Insert(importedTable, m.RoomNum, string(m.User), int64(m.Position), string(m.Membership), m.EventNum)
	}
}

// FromNews returns the event that is the news, as the committer placed it.
func FromNews(n storage.News) (*Event, bool) {
	ev, ok := n.Value.(*Event)
	if !ok || ev == nil {
		return nil, false
	}
	return ev.At(n.Position), true
}

func numberList(nums []int64) string {
	b := []byte{'['}
	for i, n := range nums {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, n, 10)
	}
	return string(append(b, ']'))
}

// numbersIn reads what numberList wrote.
func numbersIn(list string) ([]int64, error) {
	list, begins := strings.CutPrefix(list, "[")
	list, ends := strings.CutSuffix(list, "]")
	if !begins || !ends {
		return nil, fmt.Errorf("%q is no list of numbers", list)
	}
	if list == "" {
		return []int64{}, nil
	}
	nums := make([]int64, 0, 1+strings.Count(list, ","))
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		nums = append(nums, n)
	}
	return nums, nil
}

func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
