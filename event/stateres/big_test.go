package stateres_test

import (
	"fmt"
	"maps"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// big is a large room, made without asking the rules.
type big struct {
	*room
	state  oracle.State // the current one
	trunk  statetree.Tree
	clock  int64
	admins []string
}

func newBig(t failer, version matrix.RoomVersion) *big {
	v, _ := event.VersionOf(version)
	content := `{"creator":"` + creator + `"}`
	if v.Creator == event.CreatorIsSender {
		content = `{}`
	}
	b := &big{room: newRoom(t, v, content), state: make(oracle.State), clock: 10, admins: []string{creator}}
	b.state[event.Key{Type: event.TypeCreate}] = b.order[0]
	b.join(creator)
	b.power(0)
	b.rule("public")
	return b
}

// add adds an event that cites what the current state has for it, or what s
// says, and makes it current.
func (b *big) add(s spec) *event.Event {
	b.clock++
	s.ts = b.clock
	s.depth = b.clock
	if s.auth == nil {
		s.auth = b.authEventsFor(s, b.state)
	}
	s.prev = b.order[len(b.order)-1:]
	ev := b.event(s)
	b.enter(ev)
	b.state[ev.StateID()] = ev
	return ev
}

func (b *big) join(who string) *event.Event {
	return b.add(spec{typ: event.TypeMember, stateKey: who, sender: who, content: `{"membership":"join"}`})
}

func (b *big) ban(by, who string) *event.Event {
	return b.add(spec{typ: event.TypeMember, stateKey: who, sender: by, content: `{"membership":"ban"}`})
}

func (b *big) rule(r string) *event.Event {
	return b.add(spec{typ: event.TypeJoinRules, sender: creator, content: fmt.Sprintf(`{"join_rule":%q}`, r)})
}

func (b *big) topic(by, stateKey string, n int) *event.Event {
	return b.add(spec{typ: "m.room.topic", stateKey: stateKey, sender: by, content: fmt.Sprintf(`{"topic":"%d"}`, n)})
}

// power sets power levels that differ in n.
func (b *big) power(n int) *event.Event {
	content := fmt.Sprintf(`{"ban":50,"events":{"x":%d},"users":{`, n)
	comma := ""
	for _, a := range b.admins {
		if a == creator && b.known.Version.CreatorsOutOfLevels {
			continue
		}
		content += fmt.Sprintf(`%s%q:100`, comma, a)
		comma = ","
	}
	return b.add(spec{typ: event.TypePowerLevels, sender: b.admins[n%len(b.admins)], content: content + `}}`})
}

func user(n int) string { return fmt.Sprintf("@user%d:b.org", n) }

// grown makes a room with so many members, where power levels have changed so
// often, by admins who take turns.
func grown(t failer, version matrix.RoomVersion, members, powerChanges, admins int) *big {
	b := newBig(t, version)
	for i := 1; i < admins; i++ {
		b.admins = append(b.admins, user(i))
	}
	for i := 1; i < members; i++ {
		b.join(user(i))
		if i >= admins && powerChanges > 0 && i%max(1, members/powerChanges) == 0 {
			b.power(i)
		}
	}
	b.topic(creator, "", 0)
	b.trunk = b.tree(b.state)
	return b
}

// fork runs f on a branch from the trunk, and returns its state. What f adds
// is known to the room; the current state is then again that of the trunk.
func (b *big) fork(f func()) statetree.Tree {
	trunk := b.state
	b.state = maps.Clone(trunk)
	defer func() { b.state = trunk }()
	from := len(b.order)
	f()
	var changes []statetree.Change
	for _, ev := range b.order[from:] {
		if b.state[ev.StateID()] == ev {
			changes = append(changes, statetree.Change{Key: b.hasher.Key(ev.StateID()), Value: b.nums[ev.ID]})
		}
	}
	return b.change(b.trunk, changes)
}

// changes makes n state changes, as a room's fork might have: bans, changes of
// names, topics, and one of power levels.
func (b *big) changes(seed, n int) {
	members := b.room.graph.Len() / 2
	for i := range n {
		who := user(1 + (seed*7919+i*613)%(members-1))
		switch by := b.admins[(seed+i)%len(b.admins)]; i % 5 {
		case 0:
			b.ban(by, who)
		case 1, 2:
			b.join(who)
		case 3:
			b.topic(by, fmt.Sprint(i), seed)
		default:
			if i == 4 && seed%2 == 0 {
				b.power(seed)
			} else {
				b.topic(by, fmt.Sprint(i), seed)
			}
		}
	}
}
