package rooms

import (
	"cmp"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
)

// Kind says how an event stands to its room. The numbers are stored.
type Kind int64

// The kinds of events.
const (
	Live       Kind = 0 // came while we were in the room: has a position and is in the timeline
	Outlier    Kind = 1 // known without its place in the timeline
	Rejected   Kind = 2 // failed the rules at its own place
	SoftFailed Kind = 3 // allowed at its own place, not by the current state: not shown
	Backfilled Kind = 4 // history, filled in later: in the timeline, without a position
	Aside      Kind = 5 // a membership of a room that this server is not in: nobody could judge it
)

// Order is the place of an event in its room's timeline. A live event has (its position, 0);
// history filled in before a live event at P has (P, -1), (P, -2), ...
type Order struct {
	Anchor storage.Position
	Sub    int64
}

// Compare orders two places.
func (o Order) Compare(p Order) int {
	return cmp.Or(cmp.Compare(o.Anchor, p.Anchor), cmp.Compare(o.Sub, p.Sub))
}

// An Event is an event with its place in our database. It is never changed; who needs it different
// copies it.
type Event struct {
	*event.Event // the redacted form, if RedactedBy is set
	Num          int64
	RoomNum      int64
	Kind         Kind
	Position     storage.Position // 0 unless live
	Order        Order            // zero if in no timeline
	StateBefore  statetree.NodeID
	StateUnknown bool             // StateBefore is not known, and 0: nobody is shown the event
	StateWith    statetree.NodeID // after it, with it if it is accepted state: what the events that follow it stand on
	RedactedBy   int64            // number of the redaction; 0 if there is none
	Relayed      bool             // another server sent it into the room through us: we pass it on
	AfterGap     bool             // live, and events before it were missing when it came
	TxnDevice    matrix.DeviceID  // the device that sent it with TxnID; empty if none
	TxnID        string

	// Of events fresh from the committer only (storage.News); zero in what is read later.

	StateAfter statetree.NodeID // current state from this event on
	StateMoved bool             // that is another than before it
	Redacted   []int64          // numbers of the events that this one redacts: what is kept of them is out of date
}

// At returns the event as the committer placed it.
func (e *Event) At(p storage.Position) *Event {
	placed := *e
	placed.Position, placed.Order = p, Order{Anchor: p}
	return &placed
}

// Plain is the event without its place; nil for nil.
func (e *Event) Plain() *event.Event {
	if e == nil {
		return nil
	}
	return e.Event
}

// Text is a text in the content, under a path of names; empty if there is no text, or for nil.
func (e *Event) Text(path ...string) string {
	if e == nil {
		return ""
	}
	text, _ := canonical.String(canonical.Get(e.Content, path...))
	return text
}

// HasNoPlace says whether the event is stored, but still wants its place in the room.
func (e *Event) HasNoPlace() bool {
	return e.Kind == Outlier || e.Kind == Aside || e.StateUnknown
}

// Texts returns the JSON of events, as they were signed.
func Texts(events []*Event) [][]byte {
	list := make([][]byte, len(events))
	for i, e := range events {
		list[i] = e.JSON
	}
	return list
}
