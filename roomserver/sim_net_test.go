package roomserver

import (
	"context"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simNet is the network between hosts.
type simNet struct {
	lossPercent int // of what is on its way
	parted      map[[2]*simHost]bool
	calls       []*simCall
	mail        []*simMail
}

// A simCall is a request on its way, or the answer to it.
type simCall struct {
	from    *simLife
	to      *simHost
	what    string
	serve   func(to *simHost, reply func(any, error))
	done    chan struct{}
	answer  any
	err     error
	serving bool // the other host is at work on it
	served  bool // the answer is on its way
}

// A simMail is a transaction of one host for another.
type simMail struct {
	from   *simLife
	to     *simHost
	events []simSent
	copied bool // the network has doubled it
}

var errLost = errors.New("sim: no answer")

// call sends a request and waits for the answer.
func (l *simLife) call(ctx context.Context, to matrix.ServerName, what string, serve func(*simHost, func(any, error))) (any, error) {
	if l.dead {
		return nil, errLost
	}
	sim := l.host.sim
	host := sim.hostNamed(to)
	if host == nil || host == l.host {
		return nil, errLost
	}
	c := &simCall{from: l, to: host, what: what, serve: serve, done: make(chan struct{})}
	sim.net.calls = append(sim.net.calls, c)
	l.asking++
	if ctx.Value(simMembers{}) == nil {
		l.host.requests++
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// giveUp lets a host no longer wait for an answer, while the other may well be at work on it, or has done it. What it has
// wanted to know is asked for no longer, or of others.
func (sim *simulation) giveUp(c *simCall) {
	if sim.chance(50) {
		c.from.host.nowMS += receive.FetchTimeout.Milliseconds()
	}
	if !c.from.dead {
		sim.finish(c, nil, errLost)
	}
}

// carry takes a request one way, or loses it.
func (sim *simulation) carry(c *simCall) {
	switch {
	case c.from.dead:
		sim.drop(c)
	case c.to.life == nil || sim.lost(c.from.host, c.to):
		sim.finish(c, nil, errLost)
	case c.served:
		sim.finish(c, c.answer, c.err)
	case !c.serving:
		c.serving = true
		c.serve(c.to, func(answer any, err error) { c.answer, c.err, c.served = answer, err, true })
		if c.served && sim.chance(60) {
			sim.finish(c, c.answer, c.err)
		}
	}
}

// finish hands an answer to who waits for it.
func (sim *simulation) finish(c *simCall, answer any, err error) {
	sim.drop(c)
	sim.tracef("%s -> %s: %s: %v", c.from.host, c.to, c.what, err)
	c.answer, c.err = answer, err
	c.from.asking--
	close(c.done)
	c.from.settle(true)
}

func (sim *simulation) drop(c *simCall) {
	sim.net.calls = slices.DeleteFunc(sim.net.calls, func(other *simCall) bool { return other == c })
}

// forget takes from the network what has to do with a life that is over.
func (sim *simulation) forget(l *simLife) {
	sim.net.mail = slices.DeleteFunc(sim.net.mail, func(m *simMail) bool { return m.from == l && !m.copied })
	sim.net.calls = slices.DeleteFunc(sim.net.calls, func(c *simCall) bool { return c.from == l })
	for _, c := range slices.Clone(sim.net.calls) {
		if c.to == l.host && c.serving {
			sim.finish(c, nil, errLost)
		}
	}
}

// lost says whether something between two hosts does not arrive.
func (sim *simulation) lost(a, b *simHost) bool {
	return sim.net.parted[[2]*simHost{a, b}] || sim.net.parted[[2]*simHost{b, a}] || sim.chance(sim.net.lossPercent)
}

// part cuts some hosts off from the others, or heals all cuts.
func (sim *simulation) part() {
	if len(sim.net.parted) > 0 {
		sim.net.parted = nil
		sim.tracef("the network is whole")
		return
	}
	sim.net.parted = make(map[[2]*simHost]bool)
	cut := 1 + sim.rand.IntN(len(sim.hosts)-1)
	for i, a := range sim.hosts {
		for j, b := range sim.hosts {
			if i < cut && j >= cut {
				sim.net.parted[[2]*simHost{a, b}] = true
			}
		}
	}
	sim.tracef("the network is cut after %s", sim.hosts[cut-1])
}

// deliver brings a transaction to its host, which stages it and answers.
func (sim *simulation) deliver(m *simMail) {
	if !m.copied && sim.net.lossPercent > 0 && sim.chance(10) {
		sim.net.mail = append(sim.net.mail, &simMail{from: m.from, to: m.to, events: m.events, copied: true})
	}
	sim.net.mail = slices.DeleteFunc(sim.net.mail, func(other *simMail) bool { return other == m })
	arrived := m.to.life != nil && !sim.lost(m.from.host, m.to)
	if arrived {
		sim.tracef("%s -> %s: %d events", m.from.host, m.to, len(m.events))
		for _, sent := range m.events {
			m.to.inbox = append(m.to.inbox, simArrived{from: m.from.host.name, simSent: sent})
		}
	}
	if m.copied || m.from.dead {
		return
	}
	m.from.host.out[m.to].answered(arrived && !sim.lost(m.to, m.from.host), len(m.events))
}

// simRemote is what a life sees of the others.
type simRemote struct{ life *simLife }

// ask is call with an answer of a type.
func ask[T any](ctx context.Context, r simRemote, to matrix.ServerName, what string, serve func(*simHost) (T, error)) (none T, err error) {
	answer, err := r.life.call(ctx, to, what, func(h *simHost, reply func(any, error)) {
		answer, err := serve(h)
		reply(answer, err)
	})
	if err != nil {
		return none, err
	}
	return answer.(T), nil
}

func (r simRemote) MissingEvents(ctx context.Context, from matrix.ServerName, gap Gap) (Between, error) {
	return ask(ctx, r, from, "missing events", func(h *simHost) (between Between, err error) {
		if h.lies(60) {
			between.Broken = h.sim.rand.IntN(2)
			between.Events, err = h.lieEvents(gap.Room.ID)
			return between, err
		}
		between.Events, err = h.missing(gap)
		return between, err
	})
}

func (r simRemote) StateIDs(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (StateIDs, error) {
	return ask(ctx, r, from, "state ids", func(h *simHost) (StateIDs, error) {
		answer, err := h.stateEvents(room, at)
		if h.lies(60) {
			answer, err = h.lieState(r.life.host, room, answer, err)
		}
		h.sim.fool(r.life.host, h, room.ID)
		return StateIDs{State: simIDs(answer.State), Auth: simIDs(answer.Auth)}, err
	})
}

func (r simRemote) State(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (StateEvents, error) {
	return ask(ctx, r, from, "state", func(h *simHost) (StateEvents, error) {
		answer, err := h.stateEvents(room, at)
		if h.lies(60) {
			answer, err = h.lieState(r.life.host, room, answer, err)
		}
		h.sim.fool(r.life.host, h, room.ID)
		return answer, err
	})
}

func (r simRemote) Event(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) (*event.Event, error) {
	return ask(ctx, r, from, "event", func(h *simHost) (*event.Event, error) {
		if h.lies(40) {
			return h.lieEvent(room.ID)
		}
		return h.event(room.ID, id)
	})
}

func (r simRemote) EventAuth(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) ([]*event.Event, error) {
	return ask(ctx, r, from, "event auth", func(h *simHost) ([]*event.Event, error) {
		if h.lies(60) {
			return h.lieEvents(room.ID)
		}
		return h.authChain(room.ID, id)
	})
}

func (r simRemote) Backfill(ctx context.Context, from matrix.ServerName, history History) ([]*event.Event, error) {
	return ask(ctx, r, from, "backfill", func(h *simHost) ([]*event.Event, error) {
		if h.lies(60) {
			return h.lieEvents(history.Room.ID)
		}
		return h.history(history)
	})
}

// PolicySign is not asked for: no room here names a policy server.
func (simRemote) PolicySign(ctx context.Context, p policy.Server, ev *event.Event) (*event.Event, error) {
	return receive.Alone().PolicySign(ctx, p, ev)
}

// EventAt is asked by who reads, and nobody reads by time here.
func (simRemote) EventAt(ctx context.Context, from matrix.ServerName, room rooms.Room, m rooms.Moment) (matrix.EventID, error) {
	return receive.Alone().EventAt(ctx, from, room, m)
}

func simIDs(events []*event.Event) []matrix.EventID {
	ids := make([]matrix.EventID, len(events))
	for i, ev := range events {
		ids[i] = ev.ID
	}
	return ids
}
