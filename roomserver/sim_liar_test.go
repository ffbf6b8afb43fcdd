package roomserver

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// What liars do. Unless the simulation is naive, all of it is either allowed, or such that who looks finds out. Nobody can
// agree with others who was told a state that might be so: who was fooled is not held against the others in the end.

// lies says whether a host does not tell the truth now.
func (h *simHost) lies(percent int) bool {
	return h.liar && !h.sim.closing && h.sim.chance(percent)
}

// lieEvents answers with events that were not asked for, or with nothing.
func (h *simHost) lieEvents(id matrix.RoomID) (events []*event.Event, err error) {
	if h.sim.chance(30) {
		return nil, errLost
	}
	if h.sim.chance(50) {
		id = pick(h.sim, h.sim.rooms)
	}
	room, ok := h.room(id)
	if !ok {
		return nil, nil
	}
	all := h.all(room)
	for range h.sim.rand.IntN(4) {
		ev := h.sim.sent(pick(h.sim, all))
		events = append(events, ev, ev)
	}
	return events, nil
}

func (h *simHost) lieEvent(id matrix.RoomID) (*event.Event, error) {
	events, err := h.lieEvents(id)
	if err != nil || len(events) == 0 {
		return nil, errLost
	}
	return events[0], nil
}

// lieState answers with a state that cannot be: without a create event, with what is no state in it, with two events
// for one place, or not at all. A naive simulation has states that could be.
func (h *simHost) lieState(to *simHost, room rooms.Room, answer StateEvents, err error) (StateEvents, error) {
	if err != nil || len(answer.State) == 0 || h.sim.chance(20) {
		return StateEvents{}, errLost
	}
	if h.sim.naive && h.sim.chance(50) {
		i := h.sim.rand.IntN(len(answer.State))
		answer.State = slices.Delete(slices.Clone(answer.State), i, i+1)
		h.sim.fooled[simPlace{room.ID, to}] = true
		return answer, nil
	}
	here, ok := h.room(room.ID)
	if !ok {
		return StateEvents{}, errLost
	}
	all := h.all(here)
	other := h.sim.sent(pick(h.sim, all))
	isTwo := slices.ContainsFunc(answer.State, func(ev *event.Event) bool {
		return ev.ID != other.ID && other.IsState() && ev.StateID() == other.StateID()
	})
	if !other.IsState() || isTwo {
		answer.State = append(slices.Clone(answer.State), other)
		return answer, nil
	}
	answer.State = slices.DeleteFunc(slices.Clone(answer.State), func(ev *event.Event) bool { return ev.Type == event.TypeCreate })
	return answer, nil
}

// fool notes that a host was told a state of a room by another, which may itself have been fooled.
func (sim *simulation) fool(to, by *simHost, room matrix.RoomID) {
	if sim.fooled[simPlace{room, by}] {
		sim.fooled[simPlace{room, to}] = true
	}
}

// A simLie is what a liar begins with: a place in the graph, and somebody who is to say something there.
type simLie struct {
	sim  *simulation
	host *simHost
	room rooms.Room
	base *rooms.Event
	by   matrix.UserID
}

// lie makes an event, or some, as no honest host would, and sends them.
func (sim *simulation) lie(h *simHost, id matrix.RoomID) {
	room, ok := h.room(id)
	if !ok {
		return
	}
	places := slices.DeleteFunc(h.all(room), func(ev *rooms.Event) bool {
		return ev.StateUnknown || h.lacksMembers(room, ev.StateBefore)
	})
	if len(places) == 0 {
		return
	}
	base := pick(sim, places)
	if sim.chance(60) {
		base = places[len(places)-1]
	}
	l := simLie{sim: sim, host: h, room: room, base: base, by: pick(sim, h.users())}
	what := pick(sim, simLies)
	if sim.spares(30) {
		what, l.by = simOldMembership, h.users()[1]
	}
	sim.tracef("%s lies: %s", h, what.name)
	what.tell(l)
}

// A simDeceit is something that liars do.
type simDeceit struct {
	name string
	tell func(simLie)
}

var simLies = []simDeceit{
	{"fork", simLie.fork},
	{"fork again", simLie.fork},
	{"power", simLie.power},
	{"ban", simLie.ban},
	{"depth", simLie.depth},
	{"wrong auth events", simLie.wrongAuth},
	{"auth event of another room", simLie.foreignAuth},
	{"rejected auth event", simLie.rejectedAuth},
	{"two faces", simLie.equivocate},
	{"withheld", simLie.withhold},
	{"another room's event", simLie.foreignEvent},
	{"orphan", simLie.orphan},
	{"flood", simLie.flood},
	{"behind a rejected event", simLie.behindRejected},
	{"second create", simLie.secondCreate},
	{"banned user", simLie.evade},
	{"twins", simLie.twins},
	simOldMembership,
}

// make makes an event behind the base, and has the liar receive it itself.
func (l simLie) make(typ string, stateKey *string, content string, change func(*event.Proto)) *event.Event {
	state := l.host.life.server.StateAt(l.room, l.base.StateWith)
	t := l.host.on(l.room, event.Proto{Type: typ, StateKey: stateKey, Sender: l.by, Content: []byte(content)}, []*rooms.Event{l.base}, state)
	t.proto.OriginServerTS = l.host.now().UnixMilli()
	if change != nil {
		change(&t.proto)
	}
	if l.room.Version.References == event.HashedReferences {
		for _, id := range slices.Concat(t.proto.PrevEvents, t.proto.AuthEvents) {
			if ev := l.sim.crafted[id]; ev != nil {
				t.cited = append(t.cited, ev)
			} else if ev := l.host.stored(l.room, id); ev != nil {
				t.cited = append(t.cited, ev.Event)
			}
		}
	}
	ev, err := build(l.room.Version, t, l.host)
	if err != nil {
		return nil // old versions need hashes of what is cited
	}
	if ev, err = event.Parse(l.room.Version, ev.JSON); err != nil {
		l.sim.tracef("no event: %v", err)
		return nil
	}
	l.sim.crafted[ev.ID] = ev
	return ev
}

// tell sends events to some hosts, and receives them itself.
func (l simLie) tell(to []*simHost, events ...*event.Event) {
	events = slices.DeleteFunc(events, func(ev *event.Event) bool { return ev == nil })
	for _, h := range append(slices.Clone(to), l.host) {
		for _, ev := range events {
			sent := simSent{event: ev, room: l.room.ID}
			if h == l.host {
				h.inbox = append(h.inbox, simArrived{from: h.name, simSent: sent})
			} else {
				q := l.host.queue(h)
				q.events = append(q.events, sent)
			}
		}
	}
}

func (l simLie) others() []*simHost {
	return slices.DeleteFunc(slices.Clone(l.sim.hosts), func(h *simHost) bool { return h == l.host })
}

func (l simLie) text() string { return fmt.Sprintf(`{"body":"lie %d"}`, l.sim.rand.IntN(1000)) }

var emptyKey = ""

// fork sets something where others have long gone on.
func (l simLie) fork() {
	l.tell(l.others(), l.make(pick(l.sim, []string{"m.room.topic", "m.room.name"}), &emptyKey, fmt.Sprintf(`{"topic":"fork %d"}`, l.sim.rand.IntN(9)), nil))
}

// power takes all power, if that is allowed.
func (l simLie) power() {
	l.tell(l.others(), l.make(event.TypePowerLevels, &emptyKey, fmt.Sprintf(`{"users":{%q:100}}`, l.by), nil))
}

func (l simLie) ban() {
	target := string(pick(l.sim, pick(l.sim, l.sim.hosts).users()))
	l.tell(l.others(), l.make(event.TypeMember, &target, `{"membership":"ban"}`, nil))
}

func (l simLie) depth() {
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) { p.Depth = l.room.Version.MaxDepth }))
}

// wrongAuth names too few auth events, too many, or old ones.
func (l simLie) wrongAuth() {
	l.tell(l.others(), l.make("m.room.topic", &emptyKey, `{"topic":"wrong"}`, func(p *event.Proto) {
		if n := len(p.AuthEvents); n > 0 && l.sim.chance(50) {
			i := l.sim.rand.IntN(n)
			p.AuthEvents = slices.Delete(p.AuthEvents, i, i+1)
		}
		states := slices.DeleteFunc(l.host.all(l.room), func(ev *rooms.Event) bool { return !ev.IsState() || ev.Kind == rooms.Rejected })
		if len(states) > 0 && l.sim.chance(60) {
			p.AuthEvents = append(p.AuthEvents, pick(l.sim, states).ID)
		}
	}))
}

// foreignAuth names as an auth event one that is of another room.
func (l simLie) foreignAuth() {
	id := pick(l.sim, l.sim.rooms)
	room, ok := l.host.room(id)
	if !ok || id == l.room.ID || room.Version.EventIDs != l.room.Version.EventIDs || room.Version.EventIDs == event.ChosenEventIDs {
		return
	}
	other := pick(l.sim, l.host.all(room)).ID
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) { p.AuthEvents = append(p.AuthEvents, other) }))
}

// rejected makes an event that its own auth events forbid.
func (l simLie) rejected() *event.Event {
	return l.make(event.TypePowerLevels, &emptyKey, fmt.Sprintf(`{"users":{%q:100}}`, l.by), func(p *event.Proto) { p.AuthEvents = p.AuthEvents[:min(1, len(p.AuthEvents))] })
}

func (l simLie) rejectedAuth() {
	bad := l.rejected()
	if bad == nil {
		return
	}
	l.tell(l.others()[:l.sim.rand.IntN(len(l.sim.hosts))], bad)
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) {
		p.AuthEvents = append(slices.Clone(p.AuthEvents), bad.ID)
	}))
}

// equivocate tells some this and others that.
func (l simLie) equivocate() {
	one, two := l.make("m.room.topic", &emptyKey, `{"topic":"one"}`, nil), l.make("m.room.topic", &emptyKey, `{"topic":"two"}`, nil)
	others := l.others()
	half := l.sim.rand.IntN(len(others))
	l.tell(others[:half], one)
	l.tell(others[half:], two)
}

// withhold sends an event without the one that it follows.
func (l simLie) withhold() {
	hidden := l.make("m.room.topic", &emptyKey, `{"topic":"hidden"}`, nil)
	if hidden == nil {
		return
	}
	var some []*simHost
	if l.sim.chance(50) {
		some = []*simHost{pick(l.sim, l.others())}
	}
	l.tell(some, hidden)
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) { p.PrevEvents = []matrix.EventID{hidden.ID} }))
}

func (l simLie) foreignEvent() {
	id := pick(l.sim, l.sim.rooms)
	room, ok := l.host.room(id)
	if !ok || id == l.room.ID {
		return
	}
	ev := l.sim.sent(pick(l.sim, l.host.all(room)))
	l.tell(l.others(), ev)
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) { p.PrevEvents = append(p.PrevEvents, ev.ID) }))
}

// orphan follows what does not exist.
func (l simLie) orphan() {
	l.tell(l.others(), l.make("m.room.message", nil, l.text(), func(p *event.Proto) {
		p.PrevEvents = []matrix.EventID{"$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	}))
}

func (l simLie) flood() {
	var all []*event.Event
	for range 14 {
		all = append(all, l.make("m.room.message", nil, l.text(), nil))
	}
	l.tell(l.others(), all...)
}

func (l simLie) behindRejected() {
	bad := l.rejected()
	if bad == nil {
		return
	}
	after := l.make("m.room.message", nil, l.text(), func(p *event.Proto) { p.PrevEvents = []matrix.EventID{bad.ID} })
	l.tell(l.others(), bad, after)
}

func (l simLie) secondCreate() {
	if l.room.Version.RoomIDs != event.ChosenRoomIDs {
		return // its ID would be that of another room
	}
	l.tell(l.others(), l.make(event.TypeCreate, &emptyKey, fmt.Sprintf(`{"creator":%q,"room_version":%q}`, l.by, l.room.Version.ID), func(p *event.Proto) {
		p.AuthEvents = nil
	}))
}

// evade lets somebody speak where they were not banned yet.
func (l simLie) evade() {
	old := l
	for _, ev := range l.host.all(l.room) {
		if ev.Type == event.TypeMember && ev.Sender == l.by && ev.Membership() == event.Join && !ev.StateUnknown {
			old.base = ev
		}
	}
	l.tell(l.others(), old.make("m.room.message", nil, l.text(), nil))
}

// twins are two messages of one ID, where those who make events choose their IDs. The second has a wrong hash.
func (l simLie) twins() {
	if l.room.Version.EventIDs != event.ChosenEventIDs {
		return
	}
	one := l.make("m.room.message", nil, `{"body":"one"}`, nil)
	if one == nil {
		return
	}
	two, err := event.Parse(l.room.Version, bytes.Replace(one.JSON, []byte(`"one"`), []byte(`"two"`), 1))
	l.sim.must(err)
	others := l.others()
	half := l.sim.rand.IntN(len(others))
	l.tell(others[:half], one, two)
	l.tell(others[half:], two, one)
}
