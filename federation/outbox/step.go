package outbox

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
)

// maxReads is how many lags one transaction is filled from, so that many rooms catch up side by side.
const maxReads = 5

// An order says what to read for a transaction.
type order struct {
	server   matrix.ServerName
	number   uint64
	repeat   bool     // the exact items were sent before, and nothing may be added
	exact    []item   // to be sent
	reads    []read   // in which to look for more
	volatile [][]byte // EDUs; then there is nothing else
}

// A read is a stretch of a lag that is looked through.
type read struct {
	place
	after, upTo storage.Position
	guessed     bool // as of the lag
	trimmed     bool
	limit       int // of items
}

// A cargo is what was read for an order.
type cargo struct {
	items    []item             // in the order of sending
	left     []item             // of the exact ones, what had no room
	void     []storage.Position // EDUs that make no sense
	reads    []read             // those of the order; after and upTo have moved closer
	contents contents
}

// start begins transactions with those that are ready, as far as the budgets go, and says when to call it again if
// nothing happens before; never, if the time is zero.
func (s *state) start(now time.Time) (orders []order, next time.Time) {
	s.slowDown(now)
	for len(s.waiting) > 0 && !s.waiting[0].at.After(now) {
		s.arrange(s.waiting[0], now)
	}
	if len(s.waiting) > 0 {
		next = s.waiting[0].at
	}
	for in := range s.lines {
		orders = append(orders, s.startLine(slot(in), now)...)
		if f := s.flights[in]; len(s.lines[in]) > 0 && len(f) > 0 {
			next = earlier(next, f[0].slowAt)
		}
	}
	return orders, next
}

// startLine begins transactions with those who stand in a line.
func (s *state) startLine(in slot, now time.Time) (orders []order) {
	for len(s.lines[in]) > 0 && s.flying[in] < budgets[in].transactions && s.flown() < maxFlying {
		orders = append(orders, s.begin(take(&s.lines[in]), in, now))
	}
	return orders
}

// earlier is the earlier of two times, of which the first may be never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (s *state) flown() (n int) {
	for _, in := range s.flying {
		n += in
	}
	return n
}

func take(list *[]*destination) *destination {
	d := (*list)[0]
	(*list)[0] = nil
	if *list = (*list)[1:]; len(*list) == 0 {
		*list = nil
	}
	return d
}

// slowDown takes the slots from the transactions that have had them for long.
func (s *state) slowDown(now time.Time) {
	for in := range s.flights {
		for len(s.flights[in]) > 0 {
			f := s.flights[in][0]
			d := f.destination
			underWay := d.phase == busy && d.number == f.number
			if underWay && f.slowAt.After(now) {
				break
			}
			if underWay {
				s.flying[d.slot]--
				d.slot = slowSlot
				s.flying[slowSlot]++
			}
			if s.flights[in] = s.flights[in][1:]; len(s.flights[in]) == 0 {
				s.flights[in] = nil
			}
		}
	}
}

// begin decides what the next transaction of a destination is made of.
func (s *state) begin(d *destination, in slot, now time.Time) order {
	s.numbers++
	d.phase, d.number, d.slot, d.triedAt, d.heard = busy, s.numbers, in, now, false
	s.flying[in]++
	s.flights[in] = append(s.flights[in], flight{d, d.number, now.Add(budgets[in].slowAfter)})
	o := order{server: d.server, number: d.number}
	if len(d.plan) > 0 {
		o.exact, o.repeat = d.plan, true
		return o
	}
	d.plan = d.pick()
	o.exact = d.plan
	o.reads = d.look(o.exact)
	if len(o.exact) == 0 && len(o.reads) == 0 {
		o.volatile = d.speak(now)
	}
	s.touch(d, now)
	return o
}

// pick takes the items of the next transaction. Where there are lags, too, those get half.
func (d *destination) pick() (picked []item) {
	room := [...]int{servers.DebtEvents: maxPDUs, servers.DebtReceipts: maxReads, servers.DebtEDUs: maxStoredEDUs}
	if d.edus != nil || len(d.rooms) > 0 {
		room = [...]int{servers.DebtEvents: maxPDUs / 2, servers.DebtReceipts: maxReads, servers.DebtEDUs: maxStoredEDUs / 2}
	}
	if !d.hasOther() {
		d.head, d.aside = d.aside, nil
	}
	for _, list := range []*[]item{&d.head, &d.queue} {
		for len(*list) > 0 && len(picked) < d.limit {
			it := (*list)[0]
			if room[it.Kind] == 0 {
				return picked
			}
			room[it.Kind]--
			picked = append(picked, it)
			*list = (*list)[1:]
		}
		if len(*list) == 0 {
			*list = nil
		}
	}
	return picked
}

// look chooses the lags from which the transaction is filled up: the EDUs, and the rooms whose turn it is.
func (d *destination) look(picked []item) (reads []read) {
	left := d.limit - len(picked)
	if len(d.head) > 0 || left == 0 {
		return nil
	}
	pdus, edus := maxPDUs, maxStoredEDUs
	for _, it := range picked {
		switch it.Kind {
		case servers.DebtEvents:
			pdus--
		case servers.DebtEDUs:
			edus--
		}
	}
	if d.edus != nil {
		r := d.edus.read(min(edus, left))
		left -= r.limit
		reads = append(reads, r)
	}
	n := min(len(d.rooms), maxReads)
	for range n {
		d.turn %= len(d.rooms)
		l := d.rooms[d.turn]
		share := min(pdus/n, left)
		if l.kind == servers.DebtReceipts {
			share = min(1, left)
		}
		if share == 0 {
			break
		}
		left -= share
		d.turn++
		reads = append(reads, l.read(share))
	}
	return reads
}

func (l *lag) read(limit int) read {
	return read{place: l.place, after: l.after, upTo: l.upTo, guessed: l.guessed, trimmed: l.trimmed, limit: limit}
}

// loaded takes what was read for an order, and says whether there is anything to send.
func (s *state) loaded(o order, c cargo, now time.Time) bool {
	d := s.destinations[o.server]
	s.touch(d, now)
	d.plan = c.items
	d.putBack(c.left)
	d.done = append(d.done, c.void...)
	for i, r := range c.reads {
		s.advance(d, o.reads[i], r)
	}
	if len(c.items) > 0 || len(o.volatile) > 0 {
		return true
	}
	d.plan = nil
	s.land(d, now)
	return false
}

// advance moves a lag as far as it was read.
func (s *state) advance(d *destination, asked, r read) {
	l := d.lag(r.place)
	l.after, l.trimmed = r.after, l.trimmed || r.trimmed
	if l.guessed && l.upTo == asked.upTo && !r.guessed {
		l.upTo, l.guessed = r.upTo, false
	}
	if l.after >= l.upTo {
		d.catchUp(l)
	}
}

// unread takes note that an order could not be read.
func (s *state) unread(o order, now time.Time) {
	d := s.destinations[o.server]
	if !o.repeat {
		d.putBack(d.plan)
		d.plan = nil
	}
	s.land(d, now)
	s.touch(d, now)
	s.postpone(d, now.Add(readDelay))
}

// postpone lets a destination wait whatever it owes.
func (s *state) postpone(d *destination, until time.Time) {
	s.leaveLine(d)
	if d.phase == waiting {
		heap.Remove(&s.waiting, d.index)
	}
	d.at, d.phase = until, waiting
	heap.Push(&s.waiting, d)
}

// land frees the slot of a transaction and lets its destination go on.
func (s *state) land(d *destination, now time.Time) {
	s.flying[d.slot]--
	d.phase = idle
	s.arrange(d, now)
}

// A verdict says how a transaction ended.
type verdict uint8

const (
	delivered   verdict = iota
	unreachable         // nothing is known of what became of it
	refused             // the server answered, and does not want this
)

// An outcome is how a transaction ended.
type outcome struct {
	verdict verdict
	wait    time.Duration // what the server asked for; 0: nothing
}

// A consequence is what follows from an outcome, for who reads the log of the program.
type consequence struct {
	dropped []item        // given up
	away    time.Duration // how long the destination had failed, that does no more
}

// sent takes the outcome of a transaction.
func (s *state) sent(o order, out outcome, now time.Time) (c consequence) {
	d := s.destinations[o.server]
	s.touch(d, now)
	switch out.verdict {
	case delivered:
		if !d.failing.IsZero() {
			c.away = now.Sub(d.failing)
		}
		d.deliver()
	case refused:
		c.dropped = s.refuse(d, now)
	default:
		s.fail(d, out.wait, now)
	}
	s.land(d, now)
	return c
}

// deliver ends the plan well.
func (d *destination) deliver() {
	for _, it := range d.plan {
		if it.Kind == servers.DebtEDUs {
			d.done = append(d.done, it.At)
		}
	}
	d.plan, d.failures, d.failing = nil, 0, time.Time{}
	d.taken++
	d.putBack(d.aside)
	d.aside = nil
	d.limit = min(2*d.limit, maxItems)
}

// fail keeps the plan for another time. What came after it is found in the log again.
func (s *state) fail(d *destination, wait time.Duration, now time.Time) {
	d.silence()
	d.fold()
	if d.failures++; d.failures == 1 {
		d.failing = now
	}
	pause := max(s.delay(d.failures), min(wait, lastDelay))
	if d.heard {
		pause = max(firstDelay, min(wait, lastDelay))
	}
	d.retryAt = now.Add(pause)
}

// refuse looks for what the destination does not want: a transaction that was refused is taken apart until it is one
// item. That is set aside and tried again after others, and given up if it is refused while they are not; if all are
// refused, the destination fails.
func (s *state) refuse(d *destination, now time.Time) (dropped []item) {
	d.silence()
	switch n := len(d.plan); {
	case n == 0:
		s.fail(d, 0, now) // of typing or presence, which are gone
		return nil
	case n > 1:
		d.limit = max(n/2, 1)
		d.putBack(d.plan)
	default:
		dropped = d.setAside(d.plan[0])
	}
	d.plan = nil
	if len(d.aside) >= maxAside || len(d.aside) > 0 && !d.hasOther() {
		d.reunite()
		s.fail(d, 0, now)
		return dropped
	}
	if len(dropped) > 0 && len(d.aside) == 0 {
		d.failures, d.failing = 0, time.Time{} // it is well, but for that
		return dropped
	}
	d.failures = max(d.failures, 1)
	d.retryAt = now.Add(splitDelay)
	return dropped
}

const (
	maxRefusals = 3  // of an item alone, with something else accepted before each
	maxAside    = 16 // items refused one after the other, until it is not for the items
)

// setAside lets an item wait that was refused, or gives it up.
func (d *destination) setAside(it item) (dropped []item) {
	if d.taken > it.taken {
		it.refused++
		it.taken = d.taken
	}
	if it.refused >= maxRefusals {
		if it.Kind == servers.DebtEDUs {
			d.done = append(d.done, it.At)
		}
		return []item{it}
	}
	d.aside = append(d.aside, it)
	return nil
}

// hasOther says whether anything is owed but what is set aside.
func (d *destination) hasOther() bool {
	return len(d.head) > 0 || len(d.queue) > 0 || d.edus != nil || len(d.rooms) > 0
}

// reunite puts what was set aside back into its order.
func (d *destination) reunite() {
	d.putBack(d.aside)
	d.aside = nil
	slices.SortStableFunc(d.head, func(a, b item) int { return cmp.Compare(a.At, b.At) })
}

// inOrder returns destinations by name, so that the same steps have the same effects.
func inOrder(set map[*destination]struct{}) []*destination {
	list := make([]*destination, 0, len(set))
	for d := range set {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *destination) int { return cmp.Compare(a.server, b.server) })
	return list
}
