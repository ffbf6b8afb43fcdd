package roomserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simSaid is a message that a client sends until it is told its ID.
type simSaid struct {
	room  matrix.RoomID
	by    matrix.UserID
	text  string
	id    matrix.EventID // when it is acknowledged
	tries int
}

func requester(user matrix.UserID) matrix.Requester {
	return matrix.Requester{Account: user, User: user, Device: "D"}
}

// makeRoom makes a room in which some users of other hosts have power.
func (sim *simulation) makeRoom(h *simHost) {
	by := h.users()[0]
	levels := ""
	version := matrix.RoomVersion(pick(sim, simVersions))
	v, _ := event.VersionOf(version)
	if !v.CreatorsOutOfLevels {
		levels = fmt.Sprintf(`%q:100`, by)
	}
	for _, other := range sim.hosts[1:] {
		if sim.chance(60) {
			if levels != "" {
				levels += ","
			}
			levels += fmt.Sprintf(`%q:%d`, other.users()[0], pick(sim, []int{50, 50, 99, 100}))
		}
	}
	in := CreateRoom{Preset: "public_chat", Version: version, PowerLevels: []byte(`{"users":{` + levels + `}}`)}
	var id matrix.RoomID
	var err error
	h.life.do(func(ctx context.Context) { id, err = h.life.server.Create(ctx, requester(by), in) }, func() {
		sim.must(err)
		sim.rooms = append(sim.rooms, id)
		sim.version[id] = v
	})
	h.life.flush()
	sim.tracef("room %d of version %s", len(sim.rooms), version)
}

// takenKey is a transaction that was sent: whatever uses it again fails at the commit.
const takenKey = 1

// act lets a user of a host do something, or the host lie.
func (sim *simulation) act(h *simHost) {
	if h.life == nil {
		return
	}
	room, user := pick(sim, sim.rooms), pick(sim, h.users())
	if h.liar && sim.chance(60) {
		sim.lie(h, room)
		return
	}
	if h.member(room, user) != event.Join {
		if !h.isWaitedFor(room) {
			sim.outside(h, room, user)
		}
		return
	}
	what := pick(sim, simDeeds)
	if h.isWaitedFor(room) {
		return
	}
	sim.tracef("%s %s in room %d", user, what.name, slices.Index(sim.rooms, room))
	what.do(sim, h, room, user)
	if sim.chance(15) && !h.life.dead { // somebody else at the same time
		if other := pick(sim, h.users()); h.mayTell(room, other) {
			sim.say(h, room, other, 0)
		}
	}
}

// A simDeed is something that users do.
type simDeed struct {
	name string
	do   func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID)
}

var simDeeds = deeds(map[string]int{
	"speaks": 8, "repeats": 2, "topic": 4, "name": 2, "levels": 3, "ban": 2, "kick": 2, "unban": 2, "leave": 2,
	"rules": 2, "invite": 3, "visibility": 2, "redact": 2, "profile": 1, "doomed": 1,
})

// deeds makes a list in which each stands as often as it is to be chosen.
func deeds(weights map[string]int) (list []simDeed) {
	all := []simDeed{
		{"speaks", func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID) { sim.say(h, room, by, 0) }},
		{"repeats", func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID) { sim.repeatSaid(h) }},
		{"topic", sets("m.room.topic", func(sim *simulation, _ *simHost) string { return fmt.Sprintf(`{"topic":"%d"}`, sim.rand.IntN(9)) })},
		{"name", sets("m.room.name", func(sim *simulation, _ *simHost) string { return fmt.Sprintf(`{"name":"%d"}`, sim.rand.IntN(9)) })},
		{"rules", sets("m.room.join_rules", (*simulation).joinRules)},
		{"invite", (*simulation).invite},
		{"visibility", sets("m.room.history_visibility", func(sim *simulation, _ *simHost) string {
			return fmt.Sprintf(`{"history_visibility":%q}`, pick(sim, []string{"shared", "joined", "invited", "world_readable"}))
		})},
		{"levels", (*simulation).setLevels},
		{"ban", moves((*Server).Ban)}, {"kick", moves((*Server).Kick)}, {"unban", moves((*Server).Unban)},
		{"leave", func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID) {
			sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
				return "", s.Leave(ctx, requester(by), room, "")
			}, nil)
		}},
		{"redact", (*simulation).redact},
		{"profile", func(sim *simulation, h *simHost, _ matrix.RoomID, by matrix.UserID) {
			if in := slices.DeleteFunc(slices.Clone(sim.rooms), func(room matrix.RoomID) bool { return h.member(room, by) != event.Join }); len(in) != 1 {
				return // rooms are changed side by side, which no seed repeats
			}
			sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) { return "", s.ProfileChanged(ctx, by) }, nil)
		}},
		{"doomed", (*simulation).doom},
	}
	for _, deed := range all {
		for range weights[deed.name] {
			list = append(list, deed)
		}
	}
	return list
}

// joinRules are mostly such that the room does not die out.
func (sim *simulation) joinRules(*simHost) string {
	rule := pick(sim, []string{"public", "public", "public", "public", "invite", "knock", "restricted", "restricted", "knock_restricted"})
	return fmt.Sprintf(`{"join_rule":%q,"allow":[{"type":"m.room_membership","room_id":%q}]}`, rule, pick(sim, sim.rooms))
}

// try lets a user do something that may be refused, and hands the answer to then.
func (sim *simulation) try(h *simHost, what func(context.Context, *Server) (matrix.EventID, error), then func(matrix.EventID, error)) {
	var id matrix.EventID
	var err error
	l := h.life
	l.do(func(ctx context.Context) { id, err = what(ctx, l.server) }, func() {
		code := matrix.CodeOf(err)
		if id != "" {
			sim.tracef("%s is answered %s", h, sim.short(id))
		} else {
			sim.tracef("%s is answered %s", h, code)
		}
		if code == matrix.Unknown && !errors.Is(err, storage.ErrDuplicate) {
			sim.failf("%s: %v", h, err)
		}
		if then != nil {
			then(id, err)
		}
	})
}

func sets(typ string, content func(*simulation, *simHost) string) func(*simulation, *simHost, matrix.RoomID, matrix.UserID) {
	return func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID) {
		in := SendState{Room: room, Type: typ, Content: []byte(content(sim, h))}
		sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
			return s.SendState(ctx, requester(by), in)
		},
			func(id matrix.EventID, err error) { h.ack(room, id, err) })
	}
}

func moves(how func(*Server, context.Context, matrix.Requester, Move) error) func(*simulation, *simHost, matrix.RoomID, matrix.UserID) {
	return func(sim *simulation, h *simHost, room matrix.RoomID, by matrix.UserID) {
		target := pick(sim, pick(sim, sim.hosts).users())
		sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
			return "", how(s, ctx, requester(by), Move{Room: room, Target: target})
		}, nil)
	}
}

// ack notes that a user was told that its event is in the room.
func (h *simHost) ack(room matrix.RoomID, id matrix.EventID, err error) {
	if err == nil {
		h.acked = append(h.acked, simAck{room, id})
	}
}

// say sends a message; with a key, as if in that transaction.
func (sim *simulation) say(h *simHost, room matrix.RoomID, by matrix.UserID, key int64) {
	sim.said++
	text := fmt.Sprint("m", sim.said)
	if key != 0 {
		if h.taken {
			h.doomed = append(h.doomed, text)
		}
		sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
			return "", s.owners.Do(ctx, room, func(ctx context.Context, st *owner.Step) error {
				_, err := st.Add(ctx, owner.Draft{Type: "m.room.message", Sender: by, Content: fmt.Appendf(nil, `{"body":%q}`, text), Txn: owner.SentAs{Key: key}})
				return err
			})
		}, func(_ matrix.EventID, err error) { h.taken = h.taken || err == nil })
		return
	}
	h.said = append(h.said, simSaid{room: room, by: by, text: text})
	sim.send(h, len(h.said)-1)
}

// send sends a message, perhaps again.
func (sim *simulation) send(h *simHost, i int) {
	said := &h.said[i]
	said.tries++
	in := SendEvent{
		Room: said.room, Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":%q}`, said.text),
		Txn: Txn{Path: "send", ID: said.text},
	}
	by := said.by
	sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) { return s.Send(ctx, requester(by), in) }, func(id matrix.EventID, err error) {
		said := &h.said[i]
		if err == nil && said.id != "" && said.id != id {
			sim.failf("%s was sent as %s, and again as %s", said.text, said.id, id)
		}
		if h.ack(said.room, id, err); err == nil {
			said.id = id
		}
	})
}

// repeatSaid sends again what was not answered, and one message that was.
func (sim *simulation) repeatSaid(h *simHost) {
	for i := max(0, len(h.said)-4); i < len(h.said); i++ {
		if (h.said[i].id == "" || sim.chance(20)) && h.life != nil && h.mayTell(h.said[i].room, h.said[i].by) {
			sim.send(h, i)
		}
	}
}

// setLevels gives somebody another power level.
func (sim *simulation) setLevels(h *simHost, room matrix.RoomID, by matrix.UserID) {
	state, _ := h.state(room)
	now, err := state.Event(context.Background(), event.PowerLevelsKey)
	if sim.must(err); now == nil {
		return
	}
	target := pick(sim, pick(sim, sim.hosts).users())
	content := withLevel(now, target, pick(sim, []int{0, 50, 100}))
	in := SendState{Room: room, Type: event.TypePowerLevels, Content: content}
	sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
		return s.SendState(ctx, requester(by), in)
	},
		func(id matrix.EventID, err error) { h.ack(room, id, err) })
}

// redact redacts a message or a topic. What decides over others is not redacted: who has heard of it and who has
// not would judge by different rules.
func (sim *simulation) redact(h *simHost, id matrix.RoomID, by matrix.UserID) {
	room, ok := h.room(id)
	if !ok {
		return
	}
	page, err := rooms.Page(context.Background(), h.life.db, room, rooms.PageQuery{From: rooms.Order{Anchor: 1 << 60}, Backward: true, Limit: 8})
	sim.must(err)
	page = slices.DeleteFunc(page, func(ev *rooms.Event) bool { return ev.Type != "m.room.message" && ev.Type != "m.room.topic" })
	if len(page) == 0 {
		return
	}
	target := pick(sim, page).ID
	sim.try(h, func(ctx context.Context, s *Server) (matrix.EventID, error) {
		return s.Redact(ctx, requester(by), RedactEvent{Room: id, Event: target})
	}, func(redaction matrix.EventID, err error) { h.ack(id, redaction, err) })
}

// doom sends something that fails at the commit, with something that stands on it, which must not fail with it.
// It has the host for itself: who stands on a failed commit is told of it together with all others.
func (sim *simulation) doom(h *simHost, room matrix.RoomID, by matrix.UserID) {
	if h.life.busy() {
		return
	}
	sim.say(h, room, by, takenKey)
	if sim.chance(70) {
		sim.say(h, room, by, 0)
	}
	h.life.flush()
}
