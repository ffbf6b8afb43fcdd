package roomserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simVisit is a user who comes into a room, knocks on it, or is rid of an invite to it, by another host that is in
// it: as package federation does it, of which there is none here.
type simVisit struct {
	sim  *simulation
	host *simHost
	room matrix.RoomID
	user matrix.UserID
	want event.Membership

	sparing bool // it does without the members
}

func (v simVisit) number() int { return slices.Index(v.sim.rooms, v.room) }

// outside lets a user who is not in a room do something about that.
func (sim *simulation) outside(h *simHost, room matrix.RoomID, user matrix.UserID) {
	v := simVisit{sim: sim, host: h, room: room, user: user, want: event.Join}
	standing, err := h.life.server.Standing(context.Background(), user, room)
	sim.must(err)
	waits := standing.Membership == event.Invite || standing.Membership == event.Knock
	switch n := sim.rand.IntN(100); {
	case waits && n < 20:
		v.want = event.Leave
	case n < 35 && sim.version[room].Knock:
		v.want = event.Knock
	}
	sim.tracef("%s: %s in room %d", user, v.want, v.number())
	if standing.Resident {
		v.here()
		return
	}
	v.elsewhere()
}

// join lets a user come into a room.
func (sim *simulation) join(h *simHost, room matrix.RoomID, user matrix.UserID) {
	v := simVisit{sim: sim, host: h, room: room, user: user, want: event.Join}
	sim.tracef("%s joins room %d", user, v.number())
	if len(h.joined(room)) > 0 {
		v.here()
		return
	}
	v.elsewhere()
}

// here is a visit to a room that the host is in. Who cannot be let in here may be elsewhere.
func (v simVisit) here() {
	do := map[event.Membership]func(*Server, context.Context, matrix.Requester, matrix.RoomID, string) error{
		event.Join: (*Server).Join, event.Knock: (*Server).Knock, event.Leave: (*Server).Leave,
	}[v.want]
	var told error
	v.sim.try(v.host, func(ctx context.Context, s *Server) (matrix.EventID, error) {
		told = do(s, ctx, requester(v.user), v.room, "")
		return "", told
	}, func(matrix.EventID, error) {
		if code := matrix.CodeOf(told); code == matrix.UnableToAuthoriseJoin || code == matrix.UnableToGrantJoin {
			v.elsewhere()
		}
	})
}

// elsewhere is a visit by another host.
func (v simVisit) elsewhere() {
	inside := slices.DeleteFunc(slices.Clone(v.sim.hosts), func(by *simHost) bool { return by == v.host || len(by.joined(v.room)) == 0 })
	if len(inside) == 0 {
		return
	}
	by := pick(v.sim, inside)
	v.sparing = v.want == event.Join && v.sim.spares(60) && !v.hasLived()
	var answer simWelcome
	var err error
	v.host.life.do(func(ctx context.Context) { answer, err = v.through(ctx, by) }, func() {
		v.sim.tracef("%s of %s in room %d by %s: %v", v.want, v.user, v.number(), by, err)
		if err == nil && answer.event != nil || v.want == event.Leave {
			v.host.later = append(v.host.later, v.takes(answer, err))
		}
	})
}

// A simWelcome is what came of a visit.
type simWelcome struct {
	event   *event.Event
	state   StateEvents // all of it after a join, or all but members, and what tells of the room after a knock
	omitted bool        // members
	servers []matrix.ServerName
}

// through makes the two requests of a visit.
func (v simVisit) through(ctx context.Context, by *simHost) (answer simWelcome, err error) {
	l := v.host.life
	made, err := l.call(ctx, by.name, "make "+string(v.want), func(to *simHost, reply func(any, error)) {
		to.serve(func(ctx context.Context, s *Server) (any, error) { return v.template(ctx, s) }, reply)
	})
	if err != nil {
		return answer, err
	}
	ev, err := v.fill(made.(Template))
	if err != nil {
		return answer, err
	}
	switch host := v.vouchedBy(ctx, l, ev); host {
	case "":
	case by.name:
		return answer, l.server.JoinWith(ctx, requester(v.user), JoinRoom{Room: v.room, Vouched: true})
	default:
		return answer, errLost // nobody else is believed
	}
	let, err := l.call(ctx, by.name, "send "+string(v.want), func(to *simHost, reply func(any, error)) {
		to.serve(func(ctx context.Context, s *Server) (any, error) { return v.send(ctx, s, ev) }, func(let any, err error) {
			v.answer(to, let, err, reply)
		})
	})
	if err != nil {
		return answer, err
	}
	return let.(simWelcome), nil
}

// template is what the resident host is asked for first.
func (v simVisit) template(ctx context.Context, s *Server) (Template, error) {
	in := Visit{Origin: v.host.name, Room: v.room, User: v.user}
	for _, version := range event.Versions() {
		in.Versions = append(in.Versions, version.ID)
	}
	switch v.want {
	case event.Join:
		return s.MakeJoin(ctx, in)
	case event.Knock:
		return s.MakeKnock(ctx, in)
	}
	return s.MakeLeave(ctx, in)
}

// fill makes the event of a template.
func (v simVisit) fill(t Template) (*event.Event, error) {
	like, err := event.Load(t.Version, "", t.Event)
	if err != nil {
		return nil, err
	}
	p := event.Proto{
		Type: like.Type, StateKey: like.StateKey, Sender: v.user, RoomID: v.room, Content: like.Content, Depth: like.Depth,
		PrevEvents: like.PrevEvents, AuthEvents: like.AuthEvents, OriginServerTS: v.host.now().UnixMilli(),
		ReferenceHashes: make(map[matrix.EventID][32]byte),
	}
	if t.Version.References == event.HashedReferences {
		for _, list := range []string{"prev_events", "auth_events"} {
			for pair := range canonical.Elements(canonical.Get(t.Event, list)) {
				var named []json.RawMessage
				if err := json.Unmarshal(pair, &named); err != nil {
					return nil, err
				}
				id, _ := canonical.String(named[0])
				text, _ := canonical.String(canonical.Get(named[1], "sha256"))
				hash, err := signing.DecodeBase64(text)
				if err != nil {
					return nil, err
				}
				p.ReferenceHashes[matrix.EventID(id)] = [32]byte(hash)
			}
		}
	}
	ev, err := event.Build(t.Version, p, v.host.name, v.host.key)
	if err != nil {
		return nil, err
	}
	return event.Parse(t.Version, ev.JSON)
}

// send is what the resident host is asked for then.
func (v simVisit) send(ctx context.Context, s *Server, ev *event.Event) (any, error) {
	in := Sent{Origin: v.host.name, Room: v.room, ID: ev.ID, Event: ev}
	switch v.want {
	case event.Join:
		return s.SendJoin(ctx, in, v.sparing)
	case event.Knock:
		state, err := s.SendKnock(ctx, in)
		return knocked{ev, state}, err
	}
	return ev, s.SendLeave(ctx, in)
}

type knocked struct {
	event *event.Event
	state []*rooms.Event
}

// answer is what the resident host says, true or not.
func (v simVisit) answer(by *simHost, let any, err error, reply func(any, error)) {
	if err != nil {
		reply(nil, err)
		return
	}
	var answer simWelcome
	switch let := let.(type) {
	case *event.Event:
		answer.event = let
	case knocked:
		answer = simWelcome{event: let.event, state: StateEvents{State: v.sim.sentAll(let.state)}}
	case Welcome:
		join, err := event.Parse(let.Join.Version, let.Join.JSON)
		v.sim.must(err)
		answer = simWelcome{event: join, state: StateEvents{State: v.sim.sentAll(let.State), Auth: v.sim.sentAll(let.AuthChain)}}
		answer.omitted, answer.servers = let.MembersOmitted, v.serversBy(by, let.Servers)
		room, _ := by.room(v.room)
		if by.lies(50) {
			if answer.state, err = by.lieState(v.host, room, answer.state, nil); err != nil {
				reply(nil, err)
				return
			}
		}
		v.sim.fool(v.host, by, v.room)
	}
	reply(answer, nil)
}

func (sim *simulation) sentAll(events []*rooms.Event) (all []*event.Event) {
	for _, ev := range events {
		all = append(all, sim.sent(ev))
	}
	sortByID(all)
	return all
}

// takes is what the host makes of an answer. A leave is taken also if nobody has answered.
func (v simVisit) takes(answer simWelcome, failed error) simLater {
	h := v.host
	return simLater{v.room, func(ctx context.Context, s *Server) error {
		switch v.want {
		case event.Join:
			return s.Adopt(ctx, JoinAnswer{
				Room: v.room, Version: answer.event.Version, Join: answer.event, State: answer.state.State, AuthChain: answer.state.Auth,
				MembersOmitted: answer.omitted, Servers: answer.servers,
			})
		case event.Knock:
			return s.Knocked(ctx, answer.event, answer.state.State)
		}
		if failed != nil {
			answer.event = nil
		}
		return s.Left(ctx, v.user, v.room, answer.event)
	}, func(err error) {
		h.life.sparing = h.life.sparing || answer.omitted
		v.sim.tracef("%s takes up the %s of %s in room %d: %v", h, v.want, v.user, v.number(), err)
	}}
}

// A simLater is something that needs a room for itself.
type simLater struct {
	room matrix.RoomID
	do   func(context.Context, *Server) error
	then func(error)
}

// takeUp does what has waited longest, if its room is free; it says whether there was anything.
func (sim *simulation) takeUp(h *simHost) bool {
	if h.life == nil || len(h.later) == 0 || h.life.fetching[h.later[0].room] {
		return false
	}
	l, next := h.life, h.later[0]
	h.later = h.later[1:]
	l.fetching[next.room] = true
	_, lived := h.state(next.room)
	h.returned[next.room] = h.returned[next.room] || lived
	var err error
	l.do(func(ctx context.Context) { err = next.do(ctx, l.server) }, func() {
		delete(l.fetching, next.room)
		next.then(err)
	})
	return true
}

// serve does something that another host has asked for, and answers when that is done.
func (h *simHost) serve(work func(context.Context, *Server) (any, error), reply func(any, error)) {
	var answer any
	var err error
	l := h.life
	l.do(func(ctx context.Context) { answer, err = work(ctx, l.server) }, func() { reply(answer, err) })
}

// invite lets a user invite another. One of another host is asked to sign it before it is in the room.
func (sim *simulation) invite(h *simHost, room matrix.RoomID, by matrix.UserID) {
	other := pick(sim, sim.hosts)
	in := Move{Room: room, Target: pick(sim, other.users())}
	if other == h {
		sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
			return "", s.Invite(ctx, requester(by), in)
		}, nil)
		return
	}
	var err error
	l := h.life
	l.do(func(ctx context.Context) { err = l.inviteTo(ctx, other, requester(by), in) }, func() {
		sim.tracef("%s invites %s: %v", by, in.Target, err)
		if !errors.Is(err, errLost) && matrix.CodeOf(err) == matrix.Unknown {
			sim.failf("%s invites %s: %v", by, in.Target, err)
		}
	})
}

func (l *simLife) inviteTo(ctx context.Context, other *simHost, by matrix.Requester, in Move) error {
	draft, err := l.server.DraftInvite(ctx, by, in, false)
	if err != nil {
		return err
	}
	var told []json.RawMessage
	for _, ev := range draft.State {
		told = append(told, ev.AppendStripped(nil))
	}
	signed, err := l.call(ctx, other.name, "invite", func(to *simHost, reply func(any, error)) {
		if to.life.fetching[in.Room] {
			reply(nil, errLost) // it would wait until the room is free
			return
		}
		invite, err := event.Parse(draft.Event.Version, draft.Event.JSON)
		to.sim.must(err)
		to.life.fetching[in.Room] = true
		at := to.life
		to.serve(func(ctx context.Context, s *Server) (any, error) { return s.ReceiveInvite(ctx, invite, told) }, func(signed any, err error) {
			delete(at.fetching, in.Room)
			reply(signed, err)
		})
	})
	if err != nil {
		return err
	}
	return l.server.InviteSigned(ctx, signed.(*event.Event))
}
