package roomserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simSent is an event that is sent to another host.
type simSent struct {
	event *event.Event
	room  matrix.RoomID // under which it is sent
	at    storage.Position
}

// A simArrived is an event that is staged with its receiver.
type simArrived struct {
	simSent
	from  matrix.ServerName
	taken bool // it is being received
	tries int
}

// A simQueue is what one host is to send to another.
type simQueue struct {
	events []simSent
	flying bool
}

// answered takes the answer of the other host to what was sent first.
func (q *simQueue) answered(ok bool, events int) {
	if q == nil {
		return // of a life before
	}
	q.flying = false
	if ok {
		q.events = q.events[min(events, len(q.events)):]
	}
}

func (h *simHost) queue(to *simHost) *simQueue {
	if h.out[to] == nil {
		h.out[to] = &simQueue{}
	}
	return h.out[to]
}

// readLog puts what is new in the log into the queues of those to whom it is owed.
func (h *simHost) readLog() {
	const page = 50
	h.life.torn = 0
	end := h.life.db.Position()
	events, err := rooms.LogAfter(context.Background(), h.life.db, h.sentUpTo, page)
	if h.sim.must(err); len(events) < page {
		h.sentUpTo = end // what else is there are no events
	}
	for _, ev := range events {
		h.sentUpTo = max(h.sentUpTo, ev.Position)
		if ev.Sender.Server() != h.name && !ev.Relayed {
			continue
		}
		sent := simSent{event: h.sim.sent(ev), room: ev.RoomID, at: ev.Position}
		for _, to := range h.sim.hosts {
			if to != h && to.name != ev.Sender.Server() && h.owes(ev, to) {
				q := h.queue(to)
				q.events = append(q.events, sent)
			}
		}
	}
	if h.sim.chance(30) {
		h.save()
	}
}

// save keeps how far all is delivered.
func (h *simHost) save() {
	h.saved = h.sentUpTo
	for _, q := range h.out {
		for _, sent := range q.events {
			if sent.at > 0 {
				h.saved = min(h.saved, sent.at-1)
			}
		}
	}
}

// owes says whether a host is to be told of an event: who was in the room before it, or is named by it, and when
// the simulation comes to its end, everybody, since a ban that another server resolved is told to nobody.
func (h *simHost) owes(ev *rooms.Event, to *simHost) bool {
	if h.sim.closing || ev.IsState() && ev.Type == event.TypeMember && ev.Target().Server() == to.name {
		return true
	}
	key := fmt.Sprint(ev.RoomID, ev.StateBefore, h.disks)
	servers, ok := h.roots[key]
	if !ok {
		room, _ := h.room(ev.RoomID)
		members, err := h.life.server.StateAt(room, ev.StateBefore).AllKnown(context.Background())
		h.sim.must(err)
		for _, m := range members {
			if m.Membership() == event.Join && !slices.Contains(servers, m.Target().Server()) {
				servers = append(servers, m.Target().Server())
			}
		}
		if h.lacksMembers(room, ev.StateBefore) {
			return slices.Contains(append(servers, h.serversAtJoin(room)...), to.name)
		}
		h.roots[key] = servers
	}
	return slices.Contains(servers, to.name)
}

// post sends the first of what waits for some host; it says whether there was anything.
func (h *simHost) post() bool {
	if h.life == nil {
		return false
	}
	if h.sentUpTo < h.life.db.Position() {
		h.readLog()
		return true
	}
	for _, to := range h.sim.hosts {
		q := h.out[to]
		if q == nil || q.flying || len(q.events) == 0 {
			continue
		}
		n := min(len(q.events), 1+h.sim.rand.IntN(10))
		q.flying = true
		h.sim.net.mail = append(h.sim.net.mail, &simMail{from: h.life, to: to, events: slices.Clone(q.events[:n])})
		return true
	}
	return false
}

// mayTake returns a room for which events are staged and nobody fetches.
func (h *simHost) mayTake() (matrix.RoomID, bool) {
	if h.life == nil {
		return "", false
	}
	for i := range h.inbox {
		if a := &h.inbox[i]; !a.taken && !h.life.fetching[a.room] {
			return a.room, true
		}
	}
	return "", false
}

// maxSimTries bounds how often a host receives an event that lacks something.
const maxSimTries = 4

// take receives events that are staged for a room, of one origin.
func (h *simHost) take(room matrix.RoomID) {
	l, most := h.life, 1+h.sim.rand.IntN(12)
	var batch []*event.Event
	var from matrix.ServerName
	taken := make(map[matrix.EventID]bool)
	for i := range h.inbox {
		a := &h.inbox[i]
		if a.room != room || a.taken || from != "" && a.from != from || len(batch) == most {
			continue
		}
		from, a.taken, taken[a.event.ID] = a.from, true, true
		batch = append(batch, a.event)
	}
	if h.sim.chance(30) {
		h.sim.rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	}
	l.fetching[room] = true
	before, alone, begun, since := h.requests, l.open == 0, l.begun, l.db.Position()
	var results []Result
	h.received += len(batch)
	l.do(func(ctx context.Context) { results = l.server.Receive(ctx, from, room, batch) }, func() {
		delete(l.fetching, room)
		h.sim.countRequests(h, h.requests-before, len(batch))
		h.took(room, batch, results)
		if alone && begun+1 == l.begun && len(batch) == 1 && results[0].Outcome == Accepted {
			h.checkSender(room, batch[0], since)
		}
	})
}

// checkSender: who has brought in a new forward extremity that is no state was in the room, by the state that there was
// before, or by that state with the event's branch. With the event it may be another, since what is merged is. Of what has
// come together since a position, only so much is looked at by the state of the moment.
func (h *simHost) checkSender(id matrix.RoomID, ev *event.Event, since storage.Position) {
	isNew := !ev.IsState() && slices.Contains(h.tips(id), ev.ID)
	if !isNew || h.member(id, ev.Sender) == event.Join || h.returned[id] || h.sim.fooled[simPlace{id, h}] {
		return
	}
	room, _ := h.room(id)
	if h.isPartial(room) {
		return // nobody here can know
	}
	came := slices.DeleteFunc(h.all(room), func(other *rooms.Event) bool { return other.Position <= since })
	if len(came) > owner.MaxLooks {
		return
	}
	t := h.sim.truth(id, h.sim.everything())
	states := []oracle.State{}
	for _, tip := range h.tipsBefore(id, ev.ID) {
		states = append(states, t.after[tip])
	}
	is := func(s oracle.State) bool {
		m := s[event.MemberKey(ev.Sender)]
		return m != nil && m.Membership() == event.Join
	}
	if !is(t.merge(states)) && !is(t.merge(append(states, t.before[ev.ID]))) {
		h.sim.failf("%s took %s from %s, who was not in the room", h, h.sim.short(ev.ID), ev.Sender)
	}
}

// tipsBefore are the forward extremities that there were before the newest event came.
func (h *simHost) tipsBefore(id matrix.RoomID, newest matrix.EventID) (tips []matrix.EventID) {
	room, _ := h.room(id)
	all := h.all(room)
	followed := make(map[matrix.EventID]bool)
	for _, ev := range all {
		if (ev.Kind == rooms.Live || ev.Kind == rooms.Backfilled) && ev.ID != newest {
			for _, prev := range ev.PrevEvents {
				followed[prev] = true
			}
		}
	}
	for _, ev := range all {
		if ev.Kind == rooms.Live && ev.ID != newest && !followed[ev.ID] {
			tips = append(tips, ev.ID)
		}
	}
	return tips
}

// took clears the stage of what was received, but for what may come to be whole later.
func (h *simHost) took(room matrix.RoomID, batch []*event.Event, results []Result) {
	outcome := make(map[matrix.EventID]Outcome)
	for i, r := range results {
		h.sim.tracef("%s received %s: %d", h, h.sim.short(r.Event), r.Outcome)
		if r.Event != batch[i].ID {
			h.sim.failf("%s answers for %s with %s", h, batch[i].ID, r.Event)
		}
		if r.Outcome == Failed {
			h.sim.failf("%s failed to receive %s: %v", h, h.sim.short(r.Event), r.Err)
		}
		outcome[r.Event] = r.Outcome
	}
	h.inbox = slices.DeleteFunc(h.inbox, func(a simArrived) bool {
		return a.taken && a.room == room && (outcome[a.event.ID] != Missing && outcome[a.event.ID] != Busy || a.tries >= maxSimTries)
	})
	for i := range h.inbox {
		if a := &h.inbox[i]; a.room == room && a.taken {
			a.taken = false
			a.tries++
		}
	}
}
