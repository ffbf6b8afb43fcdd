package stateres_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/event/statetree"
)

// choice returns a number from 0 to n-1. All that is random in a generated
// room comes from here, so that rapid, a fuzzer and a plain generator of
// random numbers can make rooms, and a room can be made again.
type choice func(n int) int

// oneOf picks from a list.
func oneOf[T any](c choice, list ...T) T { return list[c(len(list))] }

// in says yes once in n times.
func (c choice) in(n int) bool { return c(n) == n-1 }

var people = []string{creator, "@bob:a.org", "@carol:b.org", "@dave:b.org", "@erin:b.org"}

// generator makes a room that forks, merges, quarrels and is lied to.
type generator struct {
	*room
	choice
	graph  stateres.AuthGraph
	merges int // comparisons made on the way
	clock  int64
}

// generate makes a room of up to n more events than it begins with.
func generate(t failer, v *event.Version, c choice, n int) *generator {
	content := `{"creator":"` + creator + `"}`
	switch {
	case v.AdditionalCreators && c.in(3):
		content = `{"additional_creators":["@bob:a.org"]}`
	case v.Creator == event.CreatorIsSender:
		content = `{}`
	}
	g := &generator{room: newRoom(t, v, content), choice: c, clock: 10}
	g.graph = g.room.graph
	if c.in(3) {
		g.graph = plain{g.room.graph}
	}
	g.begin()
	for range n {
		g.grow()
	}
	return g
}

// begin is how most rooms begin.
func (g *generator) begin() {
	tip := g.order[0]
	for _, s := range []spec{
		{typ: event.TypeMember, stateKey: creator, sender: creator, content: `{"membership":"join"}`},
		{typ: event.TypePowerLevels, sender: creator, content: g.levels()},
		{typ: event.TypeJoinRules, sender: creator, content: fmt.Sprintf(`{"join_rule":%q}`, oneOf(g.choice, "public", "invite", "restricted"))},
		{typ: event.TypeMember, stateKey: people[1], sender: people[1], content: `{"membership":"join"}`},
	} {
		s.prev = []*event.Event{tip}
		if ev := g.make(s, g.after[tip]); g.receive(ev, g.after[tip]) {
			tip = ev
		}
	}
}

// grow adds one event after some of those that are there.
func (g *generator) grow() {
	prev := []*event.Event{g.recent()}
	for g.in(3) && len(prev) < 4 {
		if ev := g.recent(); !slices.Contains(prev, ev) {
			prev = append(prev, ev)
		}
	}
	before := g.after[prev[0]]
	if len(prev) > 1 {
		before = g.merge(prev)
	}
	cited := before
	if g.in(12) {
		cited = g.after[g.recent()] // a server that is behind, or lies
	}
	for range 4 {
		s := g.action(before)
		s.prev = prev
		if ev := g.make(s, cited); g.permits(ev, before) || g.in(8) {
			g.receive(ev, before)
			return
		}
	}
}

// recent returns an event, mostly one of the last.
func (g *generator) recent() *event.Event {
	n := len(g.order)
	if g.in(8) {
		return g.order[g.choice(n)]
	}
	return g.order[n-1-g.choice(min(n, 6))]
}

func (g *generator) merge(prev []*event.Event) oracle.State {
	var states []oracle.State
	for _, ev := range prev {
		states = append(states, g.after[ev])
	}
	g.merges++
	return g.compare(g.graph, states)
}

// make makes an event that cites a state.
func (g *generator) make(s spec, cited oracle.State) *event.Event {
	g.clock += int64(g.choice(3))
	s.ts = g.clock
	if g.in(10) {
		s.ts = int64(g.choice(30)) // a clock that is wrong
	}
	for _, p := range s.prev {
		s.depth = max(s.depth, p.Depth+1)
	}
	if g.in(15) {
		s.depth = int64(g.choice(20))
	}
	s.redacted = g.in(12)
	s.auth = g.authEventsFor(s, cited)
	if len(s.auth) > 0 && g.in(30) {
		s.auth = slices.Delete(s.auth, 0, 1)
	}
	return g.event(s)
}

// action chooses what somebody does.
func (g *generator) action(before oracle.State) spec {
	who, whom := oneOf(g.choice, people...), oneOf(g.choice, people...)
	if g.choice(3) > 0 {
		who = g.joined(before)
	}
	member := func(sender, target, membership string, more ...string) spec {
		content := fmt.Sprintf(`{"membership":%q%s}`, membership, strings.Join(more, ""))
		return spec{typ: event.TypeMember, sender: sender, stateKey: target, content: content}
	}
	switch g.choice(16) {
	case 0, 1:
		who = oneOf(g.choice, people...)
		return member(who, who, "join")
	case 2:
		who = oneOf(g.choice, people...)
		return member(who, who, "join", fmt.Sprintf(`,"join_authorised_via_users_server":%q`, whom))
	case 3:
		return member(who, who, "leave")
	case 4:
		return member(who, whom, "leave")
	case 5, 6:
		return member(who, whom, "ban")
	case 7:
		return member(who, whom, "invite")
	case 8:
		return member(who, who, oneOf(g.choice, "knock", "join"), `,"displayname":"x"`)
	case 9, 10, 11:
		return spec{typ: event.TypePowerLevels, sender: who, content: g.levels()}
	case 12:
		rule := oneOf(g.choice, "public", "invite", "knock", "restricted", "knock_restricted")
		return spec{typ: event.TypeJoinRules, sender: who, content: fmt.Sprintf(`{"join_rule":%q}`, rule)}
	case 13:
		return spec{typ: event.TypeAliases, stateKey: "b.org", sender: who, content: `{"aliases":[]}`}
	default:
		return spec{typ: "m.room.topic", stateKey: oneOf(g.choice, "", "", who), sender: who, content: fmt.Sprintf(`{"topic":"%d"}`, len(g.order))}
	}
}

func (g *generator) joined(s oracle.State) string {
	var joined []string
	for _, p := range people {
		if m := s[event.Key{Type: event.TypeMember, StateKey: p}]; m != nil && m.Membership() == event.Join {
			joined = append(joined, p)
		}
	}
	if joined == nil {
		return creator
	}
	return oneOf(g.choice, joined...)
}

// levels makes the content of power levels; v12 creators are not named often.
func (g *generator) levels() string {
	var users []string
	for i, p := range people {
		if i == 0 && g.known.Version.CreatorsOutOfLevels && !g.in(20) {
			continue
		}
		if level := oneOf(g.choice, 100, 50, 50, 0); level > 0 && (i < 2 || !g.in(2)) {
			users = append(users, fmt.Sprintf("%q:%d", p, level))
		}
	}
	return fmt.Sprintf(`{"ban":%d,"events":{"m.room.topic":%d},"kick":50,"state_default":%d,"users":{%s},"users_default":%d}`,
		oneOf(g.choice, 50, 0), oneOf(g.choice, 0, 50), oneOf(g.choice, 50, 0), strings.Join(users, ","), oneOf(g.choice, 0, 0, 50))
}

// check merges states that need not have met: of events anywhere in the room,
// some with holes, some with an event that was rejected.
func (g *generator) check() {
	for range 3 {
		var states []oracle.State
		for range 2 + g.choice(4) {
			states = append(states, g.bend(g.after[oneOf(g.choice, g.order...)]))
		}
		if !g.agreeOnRejected(states) {
			g.compare(g.graph, states)
		}
	}
}

// agreeOnRejected says whether all states hold one event that was rejected.
// What all have in common is not looked at, so that one would stay.
func (g *generator) agreeOnRejected(states []oracle.State) bool {
	for k, ev := range states[0] {
		agree := g.known.Rejected[ev.ID]
		for _, s := range states {
			agree = agree && s[k] == ev
		}
		if agree {
			return true
		}
	}
	return false
}

func (g *generator) bend(s oracle.State) oracle.State {
	if !g.in(4) {
		return s
	}
	s = maps.Clone(s)
	ev := oneOf(g.choice, g.order...)
	switch g.choice(3) {
	case 0:
		delete(s, ev.StateID())
	case 1:
		s[ev.StateID()] = ev
	default:
		if r := oneOf(g.choice, g.order...); g.known.Rejected[r.ID] {
			s[r.StateID()] = r
		}
	}
	return s
}

// plain is an auth graph that gives no help: like a database, it does not know
// the order, has the oldest citation first, and gives one at a time.
type plain struct{ of *stateres.Graph }

func (p plain) Node(ctx context.Context, num statetree.Value, buf []stateres.Ref) (stateres.Node, bool, error) {
	n, found, err := p.of.Node(ctx, num, buf)
	n.Order = 0
	return n, found, err
}

func (p plain) Citing(ctx context.Context, num statetree.Value, from stateres.Cursor, page []stateres.Ref) (int, stateres.Cursor, error) {
	all := make([]stateres.Ref, p.of.Len()+1)
	n, _, err := p.of.Citing(ctx, num, 0, all)
	if err != nil || int(from) >= n {
		return 0, 0, err
	}
	page[0] = all[n-1-int(from)]
	if int(from)+1 == n {
		return 1, 0, nil
	}
	return 1, from + 1, nil
}
