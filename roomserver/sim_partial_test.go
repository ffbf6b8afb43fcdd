package roomserver

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/roomserver/receive"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// In a sparing simulation hosts do without the members when they join a room, which is then partial until somebody has
// them fetch these: package roomserver does that by the clock, which stands still here.

// spare has a simulation be sparing, or not. It has randomness of its own, so that those that are not are as they would be.
func (sim *simulation) spare() {
	if r := rand.New(rand.NewPCG(sim.seed, 2)); r.IntN(100) < 60 {
		sim.sparing = r
	}
}

// spares is true so many times in a hundred, in a sparing simulation.
func (sim *simulation) spares(percent int) bool {
	return sim.sparing != nil && sim.sparing.IntN(100) < percent
}

// simMembers marks requests for members in a context.
type simMembers struct{}

// completeSome lets a host begin to fetch the members of a partial room, now and then.
func (sim *simulation) completeSome(h *simHost) {
	if h.life != nil && h.life.sparing && sim.spares(2) {
		h.complete()
	}
}

// completeAny lets a host begin to fetch the members of a partial room. It says whether one has.
func (sim *simulation) completeAny() bool {
	return slices.ContainsFunc(sim.hosts, (*simHost).complete)
}

// maxSimMemberTries bounds how often a host tries to have the members of one room, while all that it asks is answered: the
// server that let it in tells them, if it tells the truth.
const maxSimMemberTries = 40

// complete begins to fetch the members of a partial room, if there is one for which nobody does. It says whether it has.
func (h *simHost) complete() bool {
	l := h.life
	if l == nil || !l.sparing {
		return false
	}
	l.torn = 0
	joins, err := rooms.OpenPartials(context.Background(), l.db)
	h.sim.must(err)
	l.sparing = len(joins) > 0
	for _, join := range joins {
		num := join.RoomNum
		if l.members[num] || h.sim.closing && l.tries[num] > maxSimMemberTries {
			continue
		}
		l.members[num] = true
		try := l.tries[num]
		l.tries[num]++
		var err error
		l.do(func(ctx context.Context) {
			err = l.server.CompletePartial(context.WithValue(ctx, simMembers{}, true), num, try)
		}, func() {
			delete(l.members, num)
			h.sim.tracef("%s fetches members, try %d: %v", h, try, err)
			if err != nil && !errors.Is(err, receive.ErrNoMembers) && !errors.Is(err, owner.ErrMovesStill) {
				h.sim.failf("%s fetches members: %v", h, err)
			}
		})
		return true
	}
	return false
}

// waiters counts the requests that wait for members.
func (l *simLife) waiters() int {
	_, requests := l.server.Awaited()
	return requests
}

func (h *simHost) isPartial(room rooms.Room) bool {
	if h.sim.sparing == nil {
		return false
	}
	h.life.torn = 0
	partial, err := h.life.server.IsPartial(context.Background(), room)
	h.sim.must(err)
	return partial
}

// isWaitedFor says whether somebody waits for the members of a room. No second is made to wait: who of them comes first, when
// both may go on, no seed repeats.
func (h *simHost) isWaitedFor(id matrix.RoomID) bool {
	room, ok := h.room(id)
	return ok && h.life.server.IsAwaited(room)
}

// mayTell says whether it is known whether a user is in a room, so that who speaks need not wait.
func (h *simHost) mayTell(id matrix.RoomID, user matrix.UserID) bool {
	room, ok := h.room(id)
	return !ok || !h.isPartial(room) || h.member(id, user) != ""
}

// lacksMembers says whether members of a state are unknown, or will be looked at only when all is checked again.
func (h *simHost) lacksMembers(room rooms.Room, root statetree.NodeID) bool {
	if h.isPartial(room) {
		return true
	}
	return h.hole(root)
}

// serversAtJoin are those that were in a room when the host came in without its members.
func (h *simHost) serversAtJoin(room rooms.Room) []matrix.ServerName {
	join, _, err := rooms.LatestPartial(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	return join.Servers
}

// hasLived says whether the host is or was in the room: it then needs all members.
func (v simVisit) hasLived() bool {
	_, lived := v.host.state(v.room)
	return lived
}

// serversBy are the servers in a room as a host tells them, the first itself. Liars leave out some, and name one that does not
// exist.
func (v simVisit) serversBy(by *simHost, told []matrix.ServerName) []matrix.ServerName {
	servers := []matrix.ServerName{by.name}
	lies := v.sparing && by.liar && !v.sim.closing && v.sim.spares(50)
	for _, server := range told {
		if server != by.name && server != v.host.name && !(lies && v.sim.spares(70)) {
			servers = append(servers, server)
		}
	}
	if lies {
		servers = append(servers, "nowhere.org")
	}
	return servers
}

// vouchedBy returns the server that has to let a user into a partial room for the host, which does not know whether the user is
// banned: the one through which it came, whose word is enough. It is empty if the join goes by another server as any other.
func (v simVisit) vouchedBy(ctx context.Context, l *simLife, join *event.Event) matrix.ServerName {
	if v.want != event.Join || v.sim.sparing == nil {
		return ""
	}
	standing, err := l.server.Standing(ctx, v.user, v.room)
	if _, authorised := join.JoinAuthoriser(); err != nil || authorised && standing.Restricted {
		return ""
	}
	return standing.Host
}

// listed are the events of a room, by number, that are to be checked again.
func (h *simHost) listed(room rooms.Room) map[int64]bool {
	if h.sim.sparing == nil {
		return nil
	}
	nums, err := rooms.PartialEvents(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	listed := make(map[int64]bool, len(nums))
	for _, num := range nums {
		listed[num] = true
	}
	if len(nums) > 0 && !h.isPartial(room) {
		h.sim.failf("%s has %d events to check again of a room that is whole", h, len(nums))
	}
	_, some, err := rooms.LatestPartial(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	for _, ev := range h.all(room) {
		if some && !ev.StateUnknown && h.hole(ev.StateBefore) {
			listed[ev.Num] = true // when others tell the state before it
		}
	}
	return listed
}

// hole says whether a state lacks members.
func (h *simHost) hole(root statetree.NodeID) bool {
	if h.sim.sparing == nil {
		return false
	}
	lacks, err := h.life.server.StateAt(rooms.Room{}, root).LacksMembers(context.Background())
	h.sim.must(err)
	return lacks
}

// checkedAgain holds an event that was checked again against what it was. What was shown is shown in the same place, or not at
// all.
func (h *simHost) checkedAgain(ev *rooms.Event, had simSeen) {
	if ev.Kind != rooms.Live && ev.Kind != rooms.SoftFailed && ev.Kind != rooms.Rejected || ev.StateUnknown {
		h.sim.failf("%s: %s was of kind %d, and is of kind %d after it was checked again", h, h.describe(ev), had.kind, ev.Kind)
	}
	if ev.Kind != had.kind {
		h.sim.tracef("%s checked %s again: %d, now %d", h, h.sim.short(ev.ID), had.kind, ev.Kind)
	}
	switch {
	case ev.Kind == rooms.Live && had.kind == rooms.Live && ev.Position != had.position:
		h.sim.failf("%s: %s was at %d, and is at %d after it was checked again", h, h.describe(ev), had.position, ev.Position)
	case ev.Kind != rooms.Live && ev.Position != 0:
		h.sim.failf("%s: %s is of kind %d, and in the timeline at %d", h, h.describe(ev), ev.Kind, ev.Position)
	case ev.Kind != rooms.Live && had.kind == rooms.Live:
		h.recanted[ev.ID] = true
	}
}

// checkWhole: in the end all members are known of a room that a host is in. It says whether they are.
func (h *simHost) checkWhole(room rooms.Room) bool {
	head, lives, err := rooms.HeadOf(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	if !lives || h.sim.sparing == nil {
		return true
	}
	if h.hasGivenUp(room.ID) {
		return false
	}
	lacks := h.lacksMembers(room, head.Root)
	if lacks && len(h.joined(room.ID)) > 0 {
		h.sim.failf("%s does not know the members of room %d", h, slices.Index(h.sim.rooms, room.ID))
	}
	return !lacks
}

// comers are the hosts that come into rooms first, in their order: liars before others where these do without the members, of
// whom some then have left.
func (sim *simulation) comers() []*simHost {
	comers := slices.Clone(sim.hosts[1:])
	if sim.sparing != nil {
		slices.SortStableFunc(comers, func(a, b *simHost) int {
			switch {
			case a.liar == b.liar:
				return 0
			case a.liar:
				return -1
			}
			return 1
		})
	}
	return comers
}

// comeAndGo has a second user of a liar in a room for a while.
func (sim *simulation) comeAndGo(h *simHost, room matrix.RoomID) {
	user := h.users()[1]
	if sim.sparing == nil || !h.liar || len(h.joined(room)) == 0 {
		return
	}
	sim.join(h, room, user)
	sim.settleDown()
	sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
		return "", s.Leave(ctx, requester(user), room, "")
	}, nil)
	sim.settleDown()
}

var simOldMembership = simDeceit{"old membership", simLie.outOfDate}

// hasGivenUp says whether a host has given up a room that it had left before it knew its members, and nobody has come back. That
// somebody is in it whom it has not heard of since makes no difference.
func (h *simHost) hasGivenUp(id matrix.RoomID) bool {
	room, ok := h.room(id)
	if !ok || h.sim.sparing == nil {
		return false
	}
	gone, err := rooms.HasHoles(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	present, err := rooms.JoinedOf(context.Background(), h.life.db, room.Num, h.name, 1)
	h.sim.must(err)
	return gone && len(present) == 0
}

// outOfDate cites, for something that a user does who has left or is banned, that the user is in the room: who does not know
// its members believes it.
func (l simLie) outOfDate() {
	var joins []*rooms.Event
	for _, ev := range l.host.all(l.room) {
		if ev.Type == event.TypeMember && ev.Target() == l.by && ev.Membership() == event.Join && ev.Kind != rooms.Rejected && !ev.StateUnknown {
			joins = append(joins, ev)
		}
	}
	state := l.host.life.server.StateAt(l.room, l.base.StateWith)
	now, err := state.Known(context.Background(), event.MemberKey(l.by))
	l.sim.must(err)
	if len(joins) == 0 || membershipIn(now[0]) == event.Join {
		return
	}
	was := joins[len(joins)-1].ID
	cite := func(p *event.Proto) {
		if now[0] != nil {
			p.AuthEvents = slices.DeleteFunc(p.AuthEvents, func(id matrix.EventID) bool { return id == now[0].ID })
		}
		p.AuthEvents = append(p.AuthEvents, was)
	}
	said := l.make("m.room.message", nil, l.text(), cite)
	topic := l.make("m.room.topic", &emptyKey, `{"topic":"out of date"}`, cite)
	l.tell(l.others(), said, topic)
}
