package roomserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/auth"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// join lets a user come into a room: here, if somebody of the host is in it, and else by another host.
func (sim *simulation) join(h *simHost, room matrix.RoomID, user matrix.UserID) {
	if len(h.joined(room)) > 0 {
		sim.tracef("%s joins room %d", user, slices.Index(sim.rooms, room))
		sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
			return "", s.Join(ctx, requester(user), room, "")
		}, nil)
		return
	}
	inside := slices.DeleteFunc(slices.Clone(sim.hosts), func(by *simHost) bool { return by == h || len(by.joined(room)) == 0 })
	if len(inside) == 0 {
		return
	}
	by := pick(sim, inside)
	sim.tracef("%s joins room %d by %s", user, slices.Index(sim.rooms, room), by)
	sim.joinBy(h, by, room, user)
}

// joinBy asks another host to let a user in. What it answers is adopted when the room is free for that.
func (sim *simulation) joinBy(h, by *simHost, room matrix.RoomID, user matrix.UserID) {
	l := h.life
	var answer JoinAnswer
	var err error
	l.do(func(ctx context.Context) { answer, err = l.remoteJoin(ctx, by, room, user) }, func() {
		if err == nil {
			h.adopting = append(h.adopting, answer)
		}
	})
}

// A simTemplate is what a join is made of.
type simTemplate struct {
	proto event.Proto
	cited []*event.Event
}

// remoteJoin is the two requests of a join.
func (l *simLife) remoteJoin(ctx context.Context, by *simHost, room matrix.RoomID, user matrix.UserID) (answer JoinAnswer, err error) {
	h := l.host
	made, err := l.call(ctx, by.name, "make join", func(to *simHost, reply func(any, error)) {
		t, ok := to.template(room, user)
		if !ok {
			reply(nil, errLost)
			return
		}
		reply(t, nil)
	})
	if err != nil {
		return answer, err
	}
	t := made.(simTemplate)
	t.proto.OriginServerTS = l.now().UnixMilli()
	version := h.sim.version[room]
	join, err := build(version, t, h)
	if err != nil {
		return answer, err
	}
	let, err := l.call(ctx, by.name, "send join", func(to *simHost, reply func(any, error)) { to.letIn(h, join, reply) })
	if err != nil {
		return answer, err
	}
	state := let.(StateEvents)
	return JoinAnswer{Room: room, Version: version, Join: join, State: state.State, AuthChain: state.Auth}, nil
}

// build makes an event of a host.
func build(v *event.Version, t simTemplate, h *simHost) (*event.Event, error) {
	if v.References == event.HashedReferences {
		t.proto.ReferenceHashes = make(map[matrix.EventID][32]byte)
		for _, ev := range t.cited {
			t.proto.ReferenceHashes[ev.ID] = ev.ReferenceHash()
		}
	}
	return event.Build(v, t.proto, h.name, h.key)
}

// template is what a host offers to a user who would join.
func (h *simHost) template(id matrix.RoomID, user matrix.UserID) (t simTemplate, ok bool) {
	if len(h.joined(id)) == 0 {
		return t, false
	}
	room, _ := h.room(id)
	head, _, err := rooms.HeadOf(context.Background(), h.life.db, room.Num)
	h.sim.must(err)
	tips, err := rooms.EventsByNumber(context.Background(), h.life.db, room, head.Extremities)
	h.sim.must(err)
	tips = tips[max(0, len(tips)-event.MaxPrevEvents):]
	key := string(user)
	p := event.Proto{Type: event.TypeMember, StateKey: &key, Sender: user, Content: []byte(`{"membership":"join"}`)}
	return h.on(room, p, tips, h.life.server.StateAt(room, head.Root)), true
}

// on puts an event behind others, authorised by a state.
func (h *simHost) on(room rooms.Room, p event.Proto, prevs []*rooms.Event, state State) simTemplate {
	t := simTemplate{proto: p}
	t.proto.RoomID = room.ID
	for _, prev := range prevs {
		t.proto.PrevEvents = append(t.proto.PrevEvents, prev.ID)
		t.proto.Depth = max(t.proto.Depth, min(prev.Depth+1, room.Version.MaxDepth))
		t.cited = append(t.cited, prev.Event)
	}
	stateKey := ""
	if p.StateKey != nil {
		stateKey = *p.StateKey
	}
	found, err := state.Events(context.Background(), auth.Needed(room.Version, p.Type, stateKey, p.Sender, p.Content)...)
	h.sim.must(err)
	for _, ev := range found {
		if ev != nil {
			t.proto.AuthEvents = append(t.proto.AuthEvents, ev.ID)
			t.cited = append(t.cited, ev.Event)
		}
	}
	return t
}

// letIn is the resident side of a join: the event is received, passed on, and answered with the state before it.
func (h *simHost) letIn(from *simHost, join *event.Event, reply func(any, error)) {
	room, ok := h.room(join.RoomID)
	if !ok || h.life.fetching[join.RoomID] || len(h.joined(join.RoomID)) == 0 {
		reply(nil, errLost)
		return
	}
	l := h.life
	h.passOn[join.ID] = true
	l.fetching[room.ID] = true
	var results []Result
	l.do(func(ctx context.Context) {
		results = l.server.Receive(ctx, from.name, room.ID, []*event.Event{join})
	}, func() {
		delete(l.fetching, room.ID)
		h.sim.tracef("%s lets in %s as %s: %d", h, join.Sender, h.sim.short(join.ID), results[0].Outcome)
		stored := h.stored(room, join.ID)
		if stored == nil || stored.Kind != rooms.Live {
			reply(nil, errLost)
			return
		}
		answer := h.wholeState(room, stored)
		if h.lies(50) {
			var err error
			if answer, err = h.lieState(room, answer, nil); err != nil {
				reply(nil, err)
				return
			}
		}
		reply(answer, nil)
	})
}

// adopt takes up the room of a join that was answered.
func (sim *simulation) adopt(h *simHost) bool {
	if h.life == nil || len(h.adopting) == 0 || h.life.fetching[h.adopting[0].Room] {
		return false
	}
	l, answer := h.life, h.adopting[0]
	h.adopting = h.adopting[1:]
	l.fetching[answer.Room] = true
	_, lived := h.state(answer.Room)
	h.returned[answer.Room] = h.returned[answer.Room] || lived
	var err error
	l.do(func(ctx context.Context) { err = l.server.Adopt(ctx, answer) }, func() {
		delete(l.fetching, answer.Room)
		sim.tracef("%s adopts room %d: %v", h, slices.Index(sim.rooms, answer.Room), err)
	})
	return true
}

// withLevel is the content of power levels with that of one user changed.
func withLevel(now *rooms.Event, user matrix.UserID, level int) []byte {
	content := make(map[string]json.RawMessage)
	for key, value := range canonical.Fields(now.Content) {
		content[key] = value
	}
	users := make(map[string]json.RawMessage)
	for key, value := range canonical.Fields(canonical.Get(now.Content, "users")) {
		users[key] = value
	}
	users[string(user)] = fmt.Append(nil, level)
	text, err := canonical.Marshal(users)
	if err == nil {
		content["users"] = text
		text, err = canonical.Marshal(content)
	}
	if err != nil {
		panic(err)
	}
	return text
}
