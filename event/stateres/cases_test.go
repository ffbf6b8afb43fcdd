package stateres_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres/oracle"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// The cases in testdata/*.txt are read thus. A case begins with "== its name",
// and says in which room versions it is run. Each line is a user and what the
// user does; alice has made the room and joined it. Further words may be
// ts=NUMBER (else time goes on by ten), cites=LABEL (one more auth event) and
// as=LABEL, a name for the event. A line after "!" must be rejected.
//
//	fork NAME        a branch begins where the trunk ended
//	on NAME          what follows is on that branch
//	holds LABEL      the state of the branch has that event, come what may
//	lacks TYPE       the state of the branch has nothing there
//	merge NAME...    the states of the branches are merged
//
// After "----" stands what must then be so, for all versions or for the one
// that a line begins with.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range strings.Split("\n"+string(text), "\n== ")[1:] {
			name, body, _ := strings.Cut(each, "\n")
			versions, body, _ := strings.Cut(body, "\n")
			for _, v := range strings.Fields(strings.TrimPrefix(versions, "versions")) {
				t.Run(name+"/"+v, func(t *testing.T) { play(t, matrix.RoomVersion(v), body) })
			}
		}
	}
}

// game is one case being played.
type game struct {
	*room
	labels   map[string]*event.Event
	tips     map[string]*event.Event
	states   map[string]oracle.State
	branch   string
	trunk    string
	clock    int64
	merged   oracle.State
	rejected bool
}

func play(t *testing.T, version matrix.RoomVersion, body string) {
	v, ok := event.VersionOf(version)
	if !ok {
		t.Fatalf("room version %q is not known", version)
	}
	content := `{"creator":"` + creator + `"}`
	if v.Creator == event.CreatorIsSender {
		content = `{}`
	}
	g := &game{
		room: newRoom(t, v, content), labels: make(map[string]*event.Event), clock: 10, trunk: "trunk", branch: "trunk",
		tips: make(map[string]*event.Event), states: make(map[string]oracle.State),
	}
	g.tips["trunk"], g.states["trunk"] = g.order[0], g.after[g.order[0]]
	g.labels["create"] = g.order[0]
	g.do("alice: join")
	deeds, claims, _ := strings.Cut(body, "----\n")
	for _, line := range lines(deeds) {
		g.do(line)
	}
	for _, line := range lines(claims) {
		if first, rest, _ := strings.Cut(line, " "); isNumber(first) {
			if first != string(version) {
				continue
			}
			line = rest
		}
		ask, want, _ := strings.Cut(line, ": ")
		if got := g.ask(ask); got != want {
			t.Errorf("version %s, %s: got %s, want %s", version, ask, got, want)
		}
	}
}

func lines(text string) []string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return kept
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func (g *game) do(line string) {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "fork":
		g.tips[rest], g.states[rest], g.branch = g.tips[g.trunk], g.states[g.trunk], rest
	case "on":
		g.branch = rest
	case "holds", "lacks":
		state := maps.Clone(g.states[g.branch])
		if ev := g.labels[rest]; verb == "holds" {
			state[ev.StateID()] = ev
		} else {
			delete(state, event.Key{Type: rest})
		}
		g.states[g.branch] = state
	case "merge":
		var states []oracle.State
		for _, name := range strings.Fields(rest) {
			states = append(states, g.states[name])
		}
		g.merged = g.compare(g.graph, states)
		slices.Reverse(states)
		if again := g.compare(g.graph, states); !maps.Equal(again, g.merged) {
			g.t.Fatalf("the order of the states matters")
		}
	default:
		rest, g.rejected = strings.CutPrefix(line, "! ")
		g.act(rest)
	}
}

// act lets a user do something on the branch.
func (g *game) act(line string) {
	who, what, _ := strings.Cut(line, ": ")
	g.clock += 10
	s := spec{sender: person(who), ts: g.clock, prev: []*event.Event{g.tips[g.branch]}, depth: g.tips[g.branch].Depth + 1}
	var label, cites string
	var words []string
	for _, w := range strings.Fields(what) {
		switch k, v, _ := strings.Cut(w, "="); k {
		case "ts":
			s.ts, _ = strconv.ParseInt(v, 10, 64)
		case "as":
			label = v
		case "cites":
			cites = v
		default:
			words = append(words, w)
		}
	}
	g.fill(&s, words)
	before := g.states[g.branch]
	s.auth = g.authEventsFor(s, before)
	if cites != "" {
		s.auth = append(s.auth, g.labels[cites])
	}
	ev := g.event(s)
	if allowed := g.receive(ev, before); allowed == g.rejected {
		g.t.Fatalf("%s: got allowed %t, want %t", line, allowed, !g.rejected)
	}
	g.tips[g.branch], g.states[g.branch] = ev, g.after[ev]
	g.labels[label] = ev
}

// fill writes the event that words describe.
func (g *game) fill(s *spec, words []string) {
	arg := ""
	if len(words) > 1 {
		arg = words[1]
	}
	switch words[0] {
	case "join", "leave":
		s.typ, s.stateKey, s.content = event.TypeMember, s.sender, fmt.Sprintf(`{"membership":%q}`, words[0])
	case "ban", "kick", "invite":
		membership := strings.Replace(words[0], "kick", "leave", 1)
		s.typ, s.stateKey, s.content = event.TypeMember, person(arg), fmt.Sprintf(`{"membership":%q}`, membership)
	case "rule":
		s.typ, s.content = event.TypeJoinRules, fmt.Sprintf(`{"join_rule":%q}`, arg)
	case "topic":
		s.typ, s.content = "m.room.topic", fmt.Sprintf(`{"topic":%q}`, arg)
	case "create":
		s.typ, s.content = event.TypeCreate, `{}`
		if g.known.Version.Creator == event.CreatorInContent {
			s.content = fmt.Sprintf(`{"creator":%q}`, s.sender)
		}
	case "power":
		s.typ, s.content = event.TypePowerLevels, g.powerContent(words[1:])
	default:
		g.t.Fatalf("nobody can %q", words[0])
	}
}

func (g *game) powerContent(words []string) string {
	var users []string
	for _, w := range words {
		who, level, _ := strings.Cut(w, "=")
		if person(who) != creator || !g.known.Version.CreatorsOutOfLevels {
			users = append(users, fmt.Sprintf("%q:%s", person(who), level))
		}
	}
	return `{"users":{` + strings.Join(users, ",") + `}}`
}

func person(name string) string {
	for _, p := range people {
		if strings.HasPrefix(p, "@"+name+":") {
			return p
		}
	}
	return "@" + name + ":b.org"
}

// ask says what is so in the merged state.
func (g *game) ask(what string) string {
	field := func(typ, stateKey, name string) string {
		ev := g.merged[event.Key{Type: typ, StateKey: stateKey}]
		if ev == nil {
			return "none"
		}
		s, _ := canonical.String(canonical.Get(ev.Content, name))
		return s
	}
	verb, arg, _ := strings.Cut(what, " ")
	switch verb {
	case "member":
		return field(event.TypeMember, person(arg), "membership")
	case "rule":
		return field(event.TypeJoinRules, "", "join_rule")
	case "topic":
		return field("m.room.topic", "", "topic")
	case "holds": // the label of what the state has at a type
		ev := g.merged[event.Key{Type: arg}]
		for label, e := range g.labels {
			if e == ev && label != "" {
				return label
			}
		}
		return "none"
	}
	g.t.Fatalf("cannot tell %q", what)
	return ""
}
