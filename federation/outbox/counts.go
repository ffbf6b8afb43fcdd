package outbox

// Counts are for the operator to see whether others can be reached.
type Counts struct {
	Destinations int // that are owed something, or cannot be reached
	Failing      int // of them, those that did not take the last transaction
	UnderWay     int // transactions being sent
	Unread       int // of the log: positions that were not looked at yet
}

// Counts counts. It looks at every destination: it is for who looks now and then.
func (o *Outbox) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := Counts{Destinations: len(o.state.destinations), Unread: int(max(0, o.db.Position()-o.state.position))}
	for _, d := range o.state.destinations {
		if d.failures > 0 {
			c.Failing++
		}
	}
	for _, n := range o.state.flying {
		c.UnderWay += n
	}
	return c
}
