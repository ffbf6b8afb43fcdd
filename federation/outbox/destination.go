package outbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

// An item is one thing that is owed, for certain.
type item struct {
	servers.Debt
	refused uint8  // how often the destination refused it alone, having taken something else before
	taken   uint64 // destination.taken at the last of these
}

// A place is what a lag is in.
type place struct {
	kind servers.DebtKind
	room int64
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.kind, q.kind), cmp.Compare(p.room, q.room))
}

// A lag says that a destination may be owed what came in (after, upTo].
type lag struct {
	place
	after, upTo storage.Position
	guessed     bool             // upTo is where the log ended at the start; the last that is owed may be earlier
	trimmed     bool             // begins with the newest events that are sent
	stored      bool             // has a row
	acked       storage.Position // as it stands in the row
}

// phase says what a destination does.
type phase uint8

const (
	idle    phase = iota
	waiting       // in the heap, for its time
	ready         // in line
	busy          // a transaction is being read or sent
)

// A destination is a server that is owed something, or cannot be reached.
type destination struct {
	server matrix.ServerName

	// What is owed, in the order in which it is sent: the items one by one, then what is found in the lags.
	plan  []item // the transaction under way, or to be repeated; never changed in place
	head  []item // what a transaction held that was taken apart
	aside []item // refused; tried again when something else was not
	queue []item // of events, in the order of the log
	edus  *lag
	rooms []*lag // of events and receipts, by place
	turn  int    // the lag whose turn it is

	typing   map[typist]bool
	presence map[matrix.UserID]*Presence

	receiptsAt, presenceAt time.Time // when they are sent, if nothing is that is more urgent

	limit int    // of the items of a transaction: less than maxItems while something was refused
	taken uint64 // transactions delivered

	failures int // in a row
	failing  time.Time
	retryAt  time.Time
	triedAt  time.Time
	heard    bool // since the last try began

	phase  phase
	number uint64 // of the transaction
	slot   slot
	at     time.Time // in the heap
	index  int

	stored bool // has a row
	gone   []place
	done   []storage.Position // EDUs delivered, whose rows are still there
}

// owes says whether anything durable is owed.
func (d *destination) owes() bool {
	return len(d.plan) > 0 || len(d.head) > 0 || len(d.aside) > 0 || len(d.queue) > 0 || d.edus != nil || len(d.rooms) > 0
}

// urgent says whether anything is owed that is sent at once.
func (d *destination) urgent() bool {
	if len(d.plan) > 0 || len(d.head) > 0 || len(d.aside) > 0 || len(d.queue) > 0 || d.edus != nil || len(d.typing) > 0 {
		return true
	}
	return len(d.rooms) > 0 && d.rooms[0].kind == servers.DebtEvents // events come first
}

// due says when the destination wants to send next, if at all.
func (d *destination) due() (at time.Time, ok bool) {
	switch {
	case d.failures > 0 && d.owes():
		return d.retryAt, true
	case d.failures > 0:
		return time.Time{}, false
	case d.urgent():
		return time.Time{}, true
	}
	at, ok = d.presenceAt, len(d.presence) > 0
	if len(d.rooms) > 0 && (!ok || d.receiptsAt.Before(at)) {
		at, ok = d.receiptsAt, true
	}
	return at, ok
}

// lag returns the lag at a place, if there is one.
func (d *destination) lag(p place) *lag {
	if p.kind == servers.DebtEDUs {
		return d.edus
	}
	if i, found := d.find(p); found {
		return d.rooms[i]
	}
	return nil
}

func (d *destination) find(p place) (int, bool) {
	return slices.BinarySearchFunc(d.rooms, p, func(l *lag, p place) int { return l.place.compare(p) })
}

// fallBehind makes a lag, or makes one reach further. It says which: of the latter there is nothing to store.
func (d *destination) fallBehind(p place, after, upTo storage.Position) (made bool) {
	if l := d.lag(p); l != nil {
		l.upTo, l.guessed = max(l.upTo, upTo), false
		return false
	}
	l := &lag{place: p, after: after, upTo: upTo}
	if p.kind == servers.DebtEDUs {
		d.edus = l
		return true
	}
	if i := slices.Index(d.gone, p); i >= 0 {
		d.gone = slices.Delete(d.gone, i, i+1)
		l.stored, l.acked = true, -1 // the row is still there, with what does not hold any more
	}
	i, _ := d.find(p)
	d.rooms = slices.Insert(d.rooms, i, l)
	return true
}

// catchUp ends a lag.
func (d *destination) catchUp(l *lag) {
	if l.kind == servers.DebtEDUs {
		d.edus = nil
		return
	}
	i, _ := d.find(l.place)
	d.rooms = slices.Delete(d.rooms, i, i+1)
	if i < d.turn {
		d.turn--
	}
	if len(d.rooms) == 0 {
		d.rooms = nil
	}
	if l.stored {
		d.gone = append(d.gone, l.place)
	}
}

// fold turns the queue into lags.
func (d *destination) fold() {
	for _, it := range d.queue {
		d.fallBehind(place{it.Kind, it.Room}, it.At-1, it.At)
	}
	d.queue = nil
}

// silence drops what is not kept for a server that cannot be reached.
func (d *destination) silence() { d.typing, d.presence = nil, nil }

// putBack puts items before all that is owed besides.
func (d *destination) putBack(items []item) {
	if len(items) > 0 {
		d.head = append(slices.Clone(items), d.head...)
	}
}

// items returns what is owed for certain, but for the plan, in the order of sending.
func (d *destination) items() []servers.Debt {
	var all []servers.Debt
	for _, list := range [][]item{d.head, d.aside, d.queue} {
		all = append(all, debts(list)...)
	}
	return all
}

func debts(items []item) []servers.Debt {
	all := make([]servers.Debt, len(items))
	for i, it := range items {
		all[i] = it.Debt
	}
	return all
}

func itemsOf(debts []servers.Debt) []item {
	if len(debts) == 0 {
		return nil
	}
	all := make([]item, len(debts))
	for i, d := range debts {
		all[i].Debt = d
	}
	return all
}
