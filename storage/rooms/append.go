package rooms

import (
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// Append stores live events of one room, in their order, with all that follows from them: states,
// memberships, redactions, the room's head. It is all or nothing.
type Append struct {
	Room       Room
	NewRoom    bool  // the room itself is stored with its first events
	Generation int64 // of the owner: what builds on a failed Append fails too
	Events     []NewEvent
	Nodes      []statetree.NewNode // of the states after the events
	Head       Head                // after the last event; its Position is filled in at the commit
	Directory  *Published
	Aliases    []Alias // made with the room
}

// A NewEvent is an event to be stored. Its Position and Order are filled in at the commit.
type NewEvent struct {
	*Event
	TxnKey     int64            // 0: sent without a transaction ID
	Stripped   []byte           // of an invite or a knock: what its user may know of the room
	Redactions []Redaction      // of earlier events by this one, or of this one by an earlier one
	Waiting    matrix.EventID   // of a redaction: its target, if that has not come yet
	Arrived    []matrix.EventID // targets that waiting redactions need no longer wait for
}

// A Redaction is an event to be redacted.
type Redaction struct {
	Target int64 // event number
	By     int64 // event number
	JSON   []byte
}

var (
	roomsTable = &storage.Table{
		Name:    "rooms",
		Columns: []storage.Column{{Name: "room_num", Type: storage.BigInt}, {Name: "room_id", Type: storage.Text}, {Name: "version", Type: storage.Text}},
		Key:     []string{"room_num"},
	}
	headsTable = &storage.Table{
		Name: "room_heads",
		Columns: []storage.Column{
			{Name: "room_num", Type: storage.BigInt}, {Name: "position", Type: storage.BigInt}, {Name: "root", Type: storage.BigInt},
			{Name: "depth", Type: storage.BigInt}, {Name: "extremities", Type: storage.Text},
			{Name: "joined", Type: storage.BigInt}, {Name: "invited", Type: storage.BigInt},
		},
		Key: []string{"room_num"}, OnConflict: storage.Replace,
	}
	eventsTable = &storage.Table{
		Name: "events",
		Columns: []storage.Column{
			{Name: "event_num", Type: storage.BigInt}, {Name: "room_num", Type: storage.BigInt}, {Name: "event_id", Type: storage.Text},
			{Name: "kind", Type: storage.BigInt}, {Name: "position", Type: storage.BigInt}, {Name: "anchor", Type: storage.BigInt},
			{Name: "sub", Type: storage.BigInt}, {Name: "type", Type: storage.Text}, {Name: "state_key", Type: storage.Text},
			{Name: "sender", Type: storage.Text}, {Name: "state_before", Type: storage.BigInt},
			{Name: "txn_key", Type: storage.BigInt}, {Name: "txn_device", Type: storage.Text},
			{Name: "txn_id", Type: storage.Text}, {Name: "json", Type: storage.Text},
		},
		Key: []string{"event_num"},
	}
	statesTable = &storage.Table{
		Name:    "room_states",
		Columns: []storage.Column{{Name: "room_num", Type: storage.BigInt}, {Name: "position", Type: storage.BigInt}, {Name: "root", Type: storage.BigInt}},
		Key:     []string{"room_num", "position"},
	}
	nodesTable = &storage.Table{
		Name:    "state_nodes",
		Columns: []storage.Column{{Name: "node_num", Type: storage.BigInt}, {Name: "room_num", Type: storage.BigInt}, {Name: "data", Type: storage.Bytes}},
		Key:     []string{"node_num"},
	}
	membershipsTable = &storage.Table{
		Name: "memberships",
		Columns: []storage.Column{
			{Name: "room_num", Type: storage.BigInt}, {Name: "user_id", Type: storage.Text}, {Name: "membership", Type: storage.Text},
			{Name: "event_num", Type: storage.BigInt}, {Name: "position", Type: storage.BigInt},
			{Name: "stripped", Type: storage.Text}, {Name: "forgotten", Type: storage.Boolean},
		},
		Key: []string{"room_num", "user_id"}, OnConflict: storage.Replace,
	}
	historyTable = &storage.Table{
		Name: "membership_history",
		Columns: []storage.Column{
			{Name: "room_num", Type: storage.BigInt}, {Name: "user_id", Type: storage.Text}, {Name: "position", Type: storage.BigInt},
			{Name: "membership", Type: storage.Text}, {Name: "event_num", Type: storage.BigInt},
		},
		Key: []string{"room_num", "user_id", "position"},
	}
	pendingTable = &storage.Table{
		Name:    "pending_redactions",
		Columns: []storage.Column{{Name: "room_num", Type: storage.BigInt}, {Name: "redacts", Type: storage.Text}, {Name: "event_num", Type: storage.BigInt}},
		Key:     []string{"room_num", "redacts", "event_num"}, OnConflict: storage.Ignore,
	}
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
		last = a.Events[i].rows(it)
	}
	it.Insert(headsTable, a.Room.Num, last, int64(a.Head.Root), a.Head.Depth,
		numberList(a.Head.Extremities), a.Head.Joined, a.Head.Invited)
	if a.Directory != nil {
		a.Directory.rows(it)
	}
	for _, alias := range a.Aliases {
		alias.Rows(it)
	}
}

func (e *NewEvent) rows(it *storage.Item) storage.Ref {
	at := it.News(storage.News{Kind: storage.NewsEvent, Room: e.RoomID, User: e.Target(), Value: e.Event})
	it.Insert(eventsTable, e.Num, e.RoomNum, string(e.ID), int64(e.Kind), at, at, int64(0), e.Type, e.StateKey,
		string(e.Sender), int64(e.StateBefore), orNil(e.TxnKey), orNil(string(e.TxnDevice)), orNil(e.TxnID), string(e.JSON))
	if e.StateAfter != e.StateBefore {
		it.Insert(statesTable, e.RoomNum, at, int64(e.StateAfter))
	}
	if e.Type == event.TypeMember && e.IsState() {
		e.memberRows(it, at)
	}
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
	return at
}

func (e *NewEvent) memberRows(it *storage.Item, at storage.Ref) {
	user, membership := string(e.Target()), string(e.Membership())
	it.Insert(membershipsTable, e.RoomNum, user, membership, e.Num, at, orNil(string(e.Stripped)), false)
	it.Insert(historyTable, e.RoomNum, user, at, membership, e.Num)
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

func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}
