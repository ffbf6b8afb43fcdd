package syncapi_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// play is one random history: users in rooms of their own, and their clients.
type play struct {
	w       *world
	users   []matrix.UserID
	rooms   []matrix.RoomID
	clients []*client
	old     map[*client]*client // as it was some answers ago
	events  map[matrix.RoomID][]matrix.EventID
	global  map[matrix.UserID]map[string]string
	inRooms map[matrix.UserID]map[matrix.RoomID]map[string]string
	counter int
}

// TestClientsEndWithTheTruth lets clients of every kind follow random histories.
func TestClientsEndWithTheTruth(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		plays := 0
		rapid.Check(t, func(rt *rapid.T) {
			plays++
			p := newPlay(rt, w, plays)
			rt.Repeat(p.actions())
			for _, c := range p.clients {
				c.take(rt, w, w.askAs(rt, c, nil))
				w.check(rt, c, p.rooms)
				c.checkData(rt, p.global[c.user], p.inRooms[c.user])
			}
		})
	})
}

func newPlay(rt *rapid.T, w *world, number int) *play {
	p := &play{
		w: w, old: map[*client]*client{}, events: map[matrix.RoomID][]matrix.EventID{},
		global: map[matrix.UserID]map[string]string{}, inRooms: map[matrix.UserID]map[matrix.RoomID]map[string]string{},
	}
	for i := range 3 {
		u := matrix.UserID(fmt.Sprintf("@u%d-%d:test", number, i))
		p.users = append(p.users, u)
		p.global[u], p.inRooms[u] = map[string]string{}, map[matrix.RoomID]map[string]string{}
	}
	for i := range 4 {
		kind := rapid.IntRange(0, 15).Draw(rt, "kind of client")
		limit := rapid.IntRange(0, 8).Draw(rt, "limit")
		p.clients = append(p.clients, newClient(p.users[i%3], strconv.Itoa(i), kind, limit))
	}
	p.create(rt)
	return p
}

func (p *play) user(rt *rapid.T) matrix.UserID { return rapid.SampledFrom(p.users).Draw(rt, "user") }
func (p *play) room(rt *rapid.T) matrix.RoomID { return rapid.SampledFrom(p.rooms).Draw(rt, "room") }

// may passes over what the server refuses.
func may(t failer, err error) bool {
	t.Helper()
	var refused *matrix.Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("%v", err)
	}
	return err == nil
}

func (p *play) create(rt *rapid.T) {
	if len(p.rooms) == 3 {
		rt.Skip("enough rooms")
	}
	id, err := p.w.rooms.Create(ctx, who(p.users[0]), roomserver.CreateRoom{
		Preset:  rapid.SampledFrom([]string{"public_chat", "private_chat"}).Draw(rt, "preset"),
		Version: rapid.SampledFrom([]matrix.RoomVersion{"11", "12"}).Draw(rt, "version"),
	})
	if err != nil {
		rt.Fatalf("create: %v", err)
	}
	p.rooms = append(p.rooms, id)
}

func (p *play) sent(room matrix.RoomID, id matrix.EventID) {
	p.events[room] = append(p.events[room], id)
}

func (p *play) event(rt *rapid.T, room matrix.RoomID) matrix.EventID {
	if len(p.events[room]) == 0 {
		return "$none"
	}
	return rapid.SampledFrom(p.events[room]).Draw(rt, "event")
}

func (p *play) state(rt *rapid.T, typ, content string) {
	room, u := p.room(rt), p.user(rt)
	id, err := p.w.rooms.SendState(ctx, who(u), roomserver.SendState{Room: room, Type: typ, Content: []byte(content)})
	if may(rt, err) {
		p.sent(room, id)
	}
}

func (p *play) actions() map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){"create": p.create}
	for _, some := range []map[string]func(*rapid.T){p.messages(), p.memberships(), p.settings(), p.unlogged(), p.syncs()} {
		for name, act := range some {
			all[name] = act
		}
	}
	return all
}

func (p *play) messages() map[string]func(*rapid.T) {
	say := func(rt *rapid.T) {
		room, u := p.room(rt), p.user(rt)
		for range rapid.IntRange(1, 6).Draw(rt, "messages") {
			p.counter++
			id, err := p.w.rooms.Send(ctx, who(u), roomserver.SendEvent{
				Room: room, Type: "m.room.message", Content: fmt.Appendf(nil, `{"body":"%d","msgtype":"m.text"}`, p.counter),
			})
			if may(rt, err) {
				p.sent(room, id)
			}
		}
	}
	return map[string]func(*rapid.T){
		"say": say, "say more": say,
		"redact": func(rt *rapid.T) {
			room := p.room(rt)
			_, err := p.w.rooms.Redact(ctx, who(p.user(rt)), roomserver.RedactEvent{Room: room, Event: p.event(rt, room)})
			may(rt, err)
		},
	}
}

func (p *play) memberships() map[string]func(*rapid.T) {
	join := func(rt *rapid.T) { may(rt, p.w.rooms.Join(ctx, who(p.user(rt)), p.room(rt), "")) }
	move := func(f func(rt *rapid.T, by matrix.Requester, m roomserver.Move) error) func(*rapid.T) {
		return func(rt *rapid.T) {
			may(rt, f(rt, who(p.user(rt)), roomserver.Move{Room: p.room(rt), Target: p.user(rt)}))
		}
	}
	rooms := p.w.rooms
	return map[string]func(*rapid.T){
		"join": join, "join too": join, "join as well": join,
		"leave":  func(rt *rapid.T) { may(rt, rooms.Leave(ctx, who(p.user(rt)), p.room(rt), "")) },
		"knock":  func(rt *rapid.T) { may(rt, rooms.Knock(ctx, who(p.user(rt)), p.room(rt), "")) },
		"forget": func(rt *rapid.T) { may(rt, rooms.Forget(ctx, who(p.user(rt)), p.room(rt))) },
		"invite": move(func(_ *rapid.T, by matrix.Requester, m roomserver.Move) error { return rooms.Invite(ctx, by, m) }),
		"expel": move(func(rt *rapid.T, by matrix.Requester, m roomserver.Move) error {
			if rapid.Bool().Draw(rt, "ban") {
				return rooms.Ban(ctx, by, m)
			}
			return rooms.Kick(ctx, by, m)
		}),
		"unban": move(func(_ *rapid.T, by matrix.Requester, m roomserver.Move) error { return rooms.Unban(ctx, by, m) }),
	}
}

func (p *play) settings() map[string]func(*rapid.T) {
	pick := func(typ, format string, values ...string) func(*rapid.T) {
		return func(rt *rapid.T) {
			p.state(rt, typ, fmt.Sprintf(format, rapid.SampledFrom(values).Draw(rt, "value")))
		}
	}
	return map[string]func(*rapid.T){
		"history visibility": pick("m.room.history_visibility", `{"history_visibility":%q}`,
			"shared", "joined", "invited", "world_readable"),
		"join rules": pick("m.room.join_rules", `{"join_rule":%q}`, "public", "invite", "knock"),
		"name":       pick("m.room.name", `{"name":%q}`, "", "den"),
		"topic": func(rt *rapid.T) {
			p.counter++
			p.state(rt, "m.room.topic", fmt.Sprintf(`{"topic":"%d"}`, p.counter))
		},
		"power": func(rt *rapid.T) {
			room, level := p.room(rt), rapid.SampledFrom([]int{0, 50, 100}).Draw(rt, "level")
			for _, users := range []string{`"%[1]s":100,"%[2]s":%[3]d`, `"%[2]s":%[3]d`} { // creators of version 12 are not named
				content := fmt.Sprintf(`{"users":{`+users+`}}`, p.users[0], p.users[1], level)
				_, err := p.w.rooms.SendState(ctx, who(p.users[0]), roomserver.SendState{
					Room: room, Type: "m.room.power_levels", Content: []byte(content),
				})
				if may(rt, err) {
					return
				}
			}
		},
	}
}

func (p *play) unlogged() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"receipt": func(rt *rapid.T) {
			room := p.room(rt)
			may(rt, p.w.rooms.SetReceipt(ctx, who(p.user(rt)), roomserver.SetReceipt{
				Room: room, Event: p.event(rt, room),
				Type: rapid.SampledFrom([]string{"m.read", "m.read.private"}).Draw(rt, "type"),
			}))
		},
		"typing": func(rt *rapid.T) {
			p.w.eph.SetTyping(p.room(rt), p.user(rt), time.Duration(rapid.IntRange(0, 1).Draw(rt, "on"))*time.Minute)
		},
		"account data": func(rt *rapid.T) {
			u, typ := p.user(rt), rapid.SampledFrom([]string{"org.example.a", "org.example.b"}).Draw(rt, "type")
			p.counter++
			content := fmt.Sprintf(`{"n":%d}`, p.counter)
			if rapid.Bool().Draw(rt, "global") {
				p.w.setData(u, "", typ, content)
				p.global[u][typ] = content
				return
			}
			room := p.room(rt)
			p.w.setData(u, room, typ, content)
			if p.inRooms[u][room] == nil {
				p.inRooms[u][room] = map[string]string{}
			}
			p.inRooms[u][room][typ] = content
		},
	}
}

func (p *play) syncs() map[string]func(*rapid.T) {
	sync := func(rt *rapid.T) {
		i := rapid.IntRange(0, len(p.clients)-1).Draw(rt, "client")
		c := p.clients[i]
		a := p.w.askAs(rt, c, query{"full_state": strconv.FormatBool(rapid.IntRange(0, 9).Draw(rt, "full state") == 0)})
		switch rapid.IntRange(0, 9).Draw(rt, "fate") {
		case 0: // the answer is lost
			return
		case 1: // what the client had stored last is older
			if old := p.old[c]; old != nil {
				p.clients[i] = old
				return
			}
		case 2, 3:
			p.old[c] = c.copy()
		}
		c.take(rt, p.w, a)
		slices.Sort(p.users)
	}
	return map[string]func(*rapid.T){
		"sync": sync, "sync again": sync, "sync once more": sync,
		"restart": func(*rapid.T) { p.w.restart() },
		"miss":    func(*rapid.T) { p.w.api.Miss() },
		"sweep":   func(*rapid.T) { p.w.api.Sweep(time.Now().Add(time.Hour)) },
	}
}
