package outbox

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

// Limits.
const (
	maxPDUs = 50 // https://spec.matrix.org/v1.19/server-server-api/#transactions
	maxEDUs = 100

	maxReceiptEDUs = 20
	maxStoredEDUs  = maxEDUs - maxReceiptEDUs

	maxItems = maxPDUs + maxEDUs
	maxQueue = 256 // positions kept of a destination before it is said to lag

	maxFlying = 1024             // transactions under way
	patience  = 60 * time.Second // for an answer; that nobody is there shows earlier

	firstDelay = time.Second
	lastDelay  = time.Hour
	splitDelay = time.Second // between the parts of what was refused
	readDelay  = time.Second // after what is to be sent could not be read
	forgetting = time.Hour   // of the failures of a destination to which nothing is owed

	receiptDelay  = 100 * time.Millisecond // several are sent together
	presenceDelay = 2 * time.Second
)

// state is the outbox without its clock, its database, its network and its goroutines. It is a function of the steps
// taken and of its source of randomness.
type state struct {
	rand         *rand.Rand
	position     storage.Position // up to here the log was read
	destinations map[matrix.ServerName]*destination
	recent       recent

	waiting destinationHeap
	lines   [slowSlot][]*destination // that are ready, by the slot they stand in line for
	flights [slowSlot][]flight       // by the slot they had at first, oldest first; some have ended
	flying  [slowSlot + 1]int        // transactions under way
	numbers uint64

	dirty    map[*destination]struct{} // those of which something stored may be out of date
	dirtyAt  time.Time                 // since when
	storedAt storage.Position          // the position that is stored
	restAt   time.Time                 // when that of now is; zero: not for itself
}

// slot says on which budget a transaction is under way.
type slot uint8

const (
	liveSlot  slot = iota // to destinations that answered last, or have spoken since
	againSlot             // to those that failed once
	probeSlot             // to those that failed again and again
	slowSlot              // any that takes its time
)

// budgets says how many transactions may be under way, and after which time one of them makes room for another: a
// hundred servers that fall silent at once must not hold up the others.
var budgets = [slowSlot]struct {
	transactions int
	slowAfter    time.Duration
}{
	liveSlot:  {512, time.Second / 2},
	againSlot: {64, time.Second},
	probeSlot: {32, 15 * time.Second},
}

// A flight is a transaction under way, if that is the number of its destination still.
type flight struct {
	destination *destination
	number      uint64
	slowAt      time.Time
}

func newState(r *rand.Rand) *state {
	return &state{
		rand: r, destinations: map[matrix.ServerName]*destination{}, recent: newRecent(),
		dirty: map[*destination]struct{}{},
	}
}

// An owedEvent is an event with the servers to which it is owed.
type owedEvent struct {
	event   *rooms.Event
	servers []matrix.ServerName
}

// An owedReceipt says that the receipts of a room moved.
type owedReceipt struct {
	room      int64
	after, at storage.Position
	servers   []matrix.ServerName
}

// A page is what a stretch of the log has for others.
type page struct {
	upTo     storage.Position
	events   []owedEvent // in order
	receipts []owedReceipt
	edus     map[matrix.ServerName]storage.Span // in which there are some for a server
}

// read takes note of what is owed because of a stretch of the log, and that it was read.
func (s *state) read(p page, now time.Time) {
	changed := map[*destination]struct{}{}
	note := func(d *destination, news bool) {
		if news {
			changed[d] = struct{}{}
		}
	}
	for _, e := range p.events {
		s.recent.add(e.event, len(e.servers) > 0)
		for _, server := range e.servers {
			d := s.destination(server)
			note(d, d.oweEvent(e.event))
		}
	}
	for _, r := range p.receipts {
		for _, server := range r.servers {
			d := s.destination(server)
			if len(d.rooms) == 0 {
				d.receiptsAt = now.Add(receiptDelay)
			}
			note(d, d.fallBehind(place{servers.DebtReceipts, r.room}, r.after, r.at))
		}
	}
	for server, span := range p.edus {
		d := s.destination(server)
		note(d, d.fallBehind(place{kind: servers.DebtEDUs}, span.After, span.UpTo))
	}
	for _, d := range inOrder(changed) {
		s.touch(d, now)
		s.arrange(d, now)
	}
	s.position = max(s.position, p.upTo)
}

// oweEvent adds an event to what is owed, and says whether that is more than the reach of a lag.
func (d *destination) oweEvent(ev *rooms.Event) bool {
	p := place{servers.DebtEvents, ev.RoomNum}
	if len(d.queue) >= maxQueue {
		d.fold()
	}
	if d.failures > 0 || d.lag(p) != nil {
		return d.fallBehind(p, ev.Position-1, ev.Position)
	}
	d.queue = append(d.queue, item{Debt: servers.Debt{Kind: p.kind, Room: p.room, At: ev.Position}})
	return true
}

// destination returns the destination of a server; a new one, if it is not known.
func (s *state) destination(server matrix.ServerName) *destination {
	d := s.destinations[server]
	if d == nil {
		d = &destination{server: server, limit: maxItems}
		s.destinations[server] = d
	}
	return d
}

// touch says that what is stored of a destination may be out of date.
func (s *state) touch(d *destination, now time.Time) {
	if len(s.dirty) == 0 {
		s.dirtyAt = now
	}
	s.dirty[d] = struct{}{}
}

// arrange puts a destination where it belongs: among those that are ready or wait, or nowhere.
func (s *state) arrange(d *destination, now time.Time) {
	if d.phase == busy || d.phase == ready {
		return
	}
	if d.phase == waiting {
		heap.Remove(&s.waiting, d.index)
		d.phase = idle
	}
	at, ok := d.due()
	switch {
	case ok && !at.After(now):
		s.makeReady(d)
		return
	case !ok && d.failures > 0:
		at, ok = d.retryAt.Add(forgetting), true
		if !at.After(now) {
			d.failures, ok = 0, false
		}
	}
	if ok {
		d.at, d.phase = at, waiting
		heap.Push(&s.waiting, d)
		return
	}
	s.forget(d)
}

// makeReady lets a destination stand in line. One that was heard of since it failed need not stand with those that are
// most likely down.
func (s *state) makeReady(d *destination) {
	d.phase, d.slot = ready, probeSlot
	switch {
	case d.failures == 0 || d.heard:
		d.slot = liveSlot
	case d.failures == 1:
		d.slot = againSlot
	}
	s.lines[d.slot] = append(s.lines[d.slot], d)
}

// leaveLine takes a destination out of the line in which it stands.
func (s *state) leaveLine(d *destination) {
	if d.phase != ready {
		return
	}
	line := s.lines[d.slot]
	i := slices.Index(line, d)
	s.lines[d.slot] = slices.Delete(line, i, i+1)
	d.phase = idle
}

// forget drops a destination of which there is nothing left to say, not even to the database.
func (s *state) forget(d *destination) {
	_, dirty := s.dirty[d]
	if !dirty && d.phase == idle && d.failures == 0 && !d.owes() && !d.stored {
		delete(s.destinations, d.server)
	}
}

// heard takes note that a server has spoken, and says whether that changes anything. Its next try is now, but not
// sooner than it would have been after the first failure.
func (s *state) heard(server matrix.ServerName, now time.Time) bool {
	d := s.destinations[server]
	if d == nil || d.failures == 0 && d.phase != busy {
		return false
	}
	d.heard = true
	if at := d.triedAt.Add(firstDelay); at.Before(d.retryAt) {
		d.retryAt = latest(at, now)
	}
	s.leaveLine(d)
	s.arrange(d, now)
	return true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// delay is how long to wait after a number of failures, give or take a fifth, so that those that failed together do not
// come back together.
func (s *state) delay(failures int) time.Duration {
	d := lastDelay
	if failures < 13 {
		d = min(firstDelay<<(failures-1), lastDelay)
	}
	return d*4/5 + time.Duration(s.rand.Int64N(int64(d)*2/5+1))
}

// destinationHeap is a heap of destinations by the time they wait for.
type destinationHeap []*destination

// Len implements heap.Interface.
func (h destinationHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h destinationHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

// Swap implements heap.Interface.
func (h destinationHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *destinationHeap) Push(x any) {
	d := x.(*destination)
	d.index = len(*h)
	*h = append(*h, d)
}

// Pop implements heap.Interface.
func (h *destinationHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return d
}
