package storage

import "time"

// Limits of the committer.
const (
	maxQueue      = 4096 // items that wait for the committer; then Submit and Commit wait
	maxGroupItems = 1024
	maxGroupSize  = 8192 // statements and rows of a group; a larger item makes a group of its own
	maxBroken     = 1 << 16
	maxLosses     = 2 // times a group may lose its connection without being stored before it is split

	firstDelay = 5 * time.Millisecond
	lastDelay  = time.Second
	maxTries   = 17 // with the delays above: 10 seconds
)

// logRow is the row of the table log, as far as it moves.
type logRow struct {
	position Position
	group    int64
	next     int64 // row numbers below may have been given out
}

// attempt is one group on its way to the database.
type attempt struct {
	items  []*Item
	first  []Position // of the positions of each item
	before logRow
	after  logRow
}

// verdict says how an attempt ended.
type verdict uint8

const (
	committed   verdict = iota
	refused             // nothing stored; the items of outcome.culprits are at fault
	failed              // nothing stored; some item is at fault, or the database
	blocked             // nothing stored, and no item is at fault: the disk is full
	unreachable         // nothing stored; worth trying again
	unknown             // perhaps stored: the log row must be read
)

// outcome is what became of an attempt, as far as the engine can tell.
type outcome struct {
	verdict  verdict
	err      error
	culprits map[int]error // by index into the items, for refused
}

// answer is what the caller of an item is told.
type answer struct {
	item  *Item
	first Position
	err   error
}

// effects are what a step wants done, in the order of the fields.
type effects struct {
	news    []News // committed, in order
	answers []answer
	delay   time.Duration // before what follows
	try     *attempt
	settle  bool  // read the log row and call settled
	fatal   error // give up: somebody else writes to this database
}

// committer is the group committer without its clock, its database and its goroutine: each step takes
// what happened and returns what to do next. At most one attempt is under way.
type committer struct {
	log     logRow
	reserve func() int64 // the row number up to which the next group shall reserve

	waiting [][]*Item // parts of groups that are still to be tried, in order
	trying  *attempt
	tries   int  // how often in vain
	losses  int  // how often the attempt lost its connection and was not stored
	down    bool // the database was unreachable for longer than we wait

	undecided bool // the attempt may be stored: the log row was not read yet

	broken chains
}

// arrive takes new items, when nothing is under way; no items at all only reserve row numbers.
func (c *committer) arrive(items []*Item) effects {
	c.waiting = append(c.waiting, items)
	return c.next(effects{})
}

// next starts the attempt of the part that waits first.
func (c *committer) next(e effects) effects {
	c.trying, c.tries, c.losses = nil, 0, 0
	for len(c.waiting) > 0 {
		part := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		alive := part[:0:0]
		for _, it := range part {
			if err := c.dead(it); err != nil {
				e.answers = append(e.answers, answer{item: it, err: err})
				continue
			}
			alive = append(alive, it)
		}
		if len(alive) > 0 || len(part) == 0 {
			c.start(alive)
			e.try = c.trying
			return e
		}
	}
	c.waiting = nil
	return e
}

// dead tells why an item need not be tried.
func (c *committer) dead(it *Item) error {
	if it.chained && c.broken.has(it.chain) {
		return ErrChain
	}
	if it.err != nil {
		c.broken.add(it)
	}
	return it.err
}

// start numbers the items of a new attempt.
func (c *committer) start(items []*Item) {
	a := &attempt{items: items, first: make([]Position, len(items)), before: c.log, after: c.log}
	for i, it := range items {
		a.first[i] = a.after.position + 1
		a.after.position += Position(len(it.news))
	}
	a.after.group++
	a.after.next = max(c.log.next, c.reserve())
	c.trying = a
}

// tried takes the outcome of the attempt.
func (c *committer) tried(o outcome) effects {
	switch o.verdict {
	case committed:
		return c.commit()
	case refused:
		return c.setAside(o.culprits)
	case failed:
		return c.split(o.err)
	case unreachable:
		return c.again(o.err)
	case unknown:
		c.undecided = true
		return effects{settle: true}
	}
	return c.refuse(o.err)
}

// commit numbers the news of the attempt and answers its callers.
func (c *committer) commit() effects {
	a := c.trying
	c.log, c.down = a.after, false
	var e effects
	for i, it := range a.items {
		for j := range it.news {
			it.news[j].Position = a.first[i] + Position(j)
		}
		e.news = append(e.news, it.news...)
		ans := answer{item: it}
		if len(it.news) > 0 {
			ans.first = a.first[i]
		}
		e.answers = append(e.answers, ans)
	}
	return c.next(e)
}

// refuse answers every item of the attempt with err.
func (c *committer) refuse(err error) effects {
	var e effects
	for _, it := range c.trying.items {
		c.broken.add(it)
		e.answers = append(e.answers, answer{item: it, err: err})
	}
	return c.next(e)
}

// setAside tries the group again without the culprits, and then each of them alone: what failed in
// the group may have failed for the sake of another item. Later items of a culprit's chain, of any generation, stay behind it.
func (c *committer) setAside(culprits map[int]error) effects {
	items := c.trying.items
	if len(items) == 1 {
		return c.refuse(culprits[0])
	}
	var good []*Item
	var alone [][]*Item
	behind := map[int64]bool{} // by key
	for i, it := range items {
		_, bad := culprits[i]
		if !bad && !(it.chained && behind[it.chain.key]) {
			good = append(good, it)
			continue
		}
		if it.chained {
			behind[it.chain.key] = true
		}
		alone = append(alone, []*Item{it})
	}
	parts := alone
	if len(good) > 0 {
		parts = append([][]*Item{good}, alone...)
	}
	c.waiting = append(parts, c.waiting...)
	return c.next(effects{})
}

// split tries each half of the group by itself; an item that fails alone is at fault.
func (c *committer) split(err error) effects {
	items := c.trying.items
	if len(items) <= 1 {
		return c.refuse(err)
	}
	half := len(items) / 2
	c.waiting = append([][]*Item{items[:half], items[half:]}, c.waiting...)
	return c.next(effects{})
}

// again tries the same attempt after a while, or gives it up.
func (c *committer) again(err error) effects {
	if c.tries++; c.tries > maxTries || c.down {
		c.down = true
		return c.refuse(err)
	}
	return effects{delay: c.delay(), try: c.trying}
}

// delay doubles from try to try: short enough for a failover within a pool, long enough not to hammer a server that
// starts.
func (c *committer) delay() time.Duration {
	return min(firstDelay<<min(c.tries, 16), lastDelay)
}

// settled takes the log row as it is after an attempt of unknown outcome.
func (c *committer) settled(row logRow, cause error) effects {
	c.undecided = false
	switch row.group {
	case c.trying.after.group:
		return c.commit()
	case c.trying.before.group:
		if c.losses++; c.losses > maxLosses {
			return c.split(cause)
		}
		return effects{delay: c.delay(), try: c.trying}
	}
	return effects{fatal: errFenced}
}

// unsettled says that the log row cannot be read yet. After the usual time, new items that
// depend on nothing are refused; the attempt itself waits until its outcome is known, and so do chains.
func (c *committer) unsettled(items []*Item) effects {
	if c.tries++; c.tries > maxTries {
		c.down = true
	}
	e := effects{settle: true, delay: c.delay()}
	if len(items) > 0 {
		c.waiting = append(c.waiting, items)
	}
	if !c.down {
		return e
	}
	var held [][]*Item
	for _, part := range c.waiting {
		var keep []*Item
		for _, it := range part {
			if it.chained {
				keep = append(keep, it)
				continue
			}
			e.answers = append(e.answers, answer{item: it, err: ErrUnavailable})
		}
		if len(keep) > 0 {
			held = append(held, keep)
		}
	}
	c.waiting = held
	return e
}

// held is the number of items that wait in the committer itself.
func (c *committer) held() (n int) {
	for _, part := range c.waiting {
		n += len(part)
	}
	return n
}

// abandon answers everything that is left when the process stops.
func (c *committer) abandon() (answers []answer) {
	err := ErrClosed
	if c.undecided {
		err = errUndecided
	}
	if c.trying != nil {
		for _, it := range c.trying.items {
			answers = append(answers, answer{item: it, err: err})
		}
	}
	for _, part := range c.waiting {
		for _, it := range part {
			answers = append(answers, answer{item: it, err: ErrClosed})
		}
	}
	c.trying, c.waiting = nil, nil
	return answers
}

// chains remembers which chains are broken. Of the oldest, which nobody builds on any more, it forgets.
type chains struct {
	generation map[int64]int64 // by key: the highest that failed
	order      []int64
}

// has says whether the chain is broken. A generation higher than the one that failed stands on what is committed.
func (b *chains) has(c chain) bool {
	g, ok := b.generation[c.key]
	return ok && c.generation <= g
}

// add breaks the chain of an item, and forgets the oldest if there are too many.
func (b *chains) add(it *Item) {
	if !it.chained || b.has(it.chain) {
		return
	}
	if b.generation == nil {
		b.generation = map[int64]int64{}
	}
	if _, known := b.generation[it.chain.key]; !known {
		b.order = append(b.order, it.chain.key)
	}
	b.generation[it.chain.key] = it.chain.generation
	if len(b.order) > maxBroken {
		delete(b.generation, b.order[0])
		b.order = b.order[1:]
	}
}
