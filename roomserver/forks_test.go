package roomserver_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
)

// In a case, "fork" is followed by indented lines: branches that leave the room where it is, and come from
// another server all at once. Of a branch, "then" parts the events. One that ends in "! rejected" or
// "! soft-failed" must be that, others accepted. "merge" is an event of the room's creator that follows all.
// "fork late" lets the branches come one by one, the last first.

// gather joins the lines of each fork to one.
func gather(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		indented := strings.HasPrefix(line, "  ") && strings.TrimSpace(line) != ""
		if indented {
			b.WriteString(" | " + strings.TrimSpace(line))
			continue
		}
		b.WriteString("\n" + strings.TrimSpace(line))
	}
	return b.String()
}

// fork builds the branches of a line that gather made, and lets them come.
func (p *play) fork(line string) error {
	w := p.lay()
	head, rest, _ := strings.Cut(line, " | ")
	var branches [][]*event.Event
	want := make(map[matrix.EventID]roomserver.Outcome)
	for branch := range strings.SplitSeq(rest, " | ") {
		at := w.base
		var events []*event.Event
		for each := range strings.SplitSeq(branch, " then ") {
			text, fate, _ := strings.Cut(each, " ! ")
			ev, err := p.branchEvent(w, text, at)
			if err != nil {
				return err
			}
			want[ev.ID] = map[string]roomserver.Outcome{
				"": roomserver.Accepted, "rejected": roomserver.Rejected, "soft-failed": roomserver.SoftFailed,
			}[strings.TrimSpace(fate)]
			events, at = append(events, ev), ev
		}
		branches = append(branches, events)
	}
	if strings.HasSuffix(head, "late") {
		slices.Reverse(branches)
	} else {
		branches = [][]*event.Event{slices.Concat(branches...)}
	}
	for _, events := range branches {
		for _, got := range w.receive(events...) {
			if got.Outcome != want[got.Event] {
				return fmt.Errorf("%s: got outcome %d (%v), want %d", p.named(string(got.Event)), got.Outcome, got.Err, want[got.Event])
			}
		}
	}
	w.audit()
	return nil
}

// lay ties a wire to the room of the play.
func (p *play) lay() *wire {
	w := &wire{t: p.t, s: p.server, db: p.settings.DB, key: p.settings.Key, remote: newScript()}
	w.tie(p.room)
	return w
}

// branchEvent makes the event of a line such as "bob: topic mine as=NAME".
func (p *play) branchEvent(w *wire, line string, at *event.Event) (*event.Event, error) {
	who, deed, _ := strings.Cut(line, ": ")
	args := words(deed)
	o := options(args)
	args = slices.DeleteFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "as=") })
	make, ok := branchDeeds[args[0]]
	if !ok {
		return nil, fmt.Errorf("nobody can %q in a branch", args[0])
	}
	ev, err := make(p, w, who, args[1:], at)
	if err == nil && o["as"] != "" {
		p.events[o["as"]] = ev.ID
	}
	return ev, err
}

type branchDeed func(p *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error)

func setsIn(typ, field string) branchDeed {
	return func(_ *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error) {
		content, err := canonical.Marshal(map[string]string{field: strings.Join(args, " ")})
		return w.set(who, typ, string(content), at), err
	}
}

func movesIn(membership string) branchDeed {
	return func(_ *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error) {
		target := who
		if len(args) > 0 {
			target = args[0]
		}
		return w.member(who, target, membership, at), nil
	}
}

var branchDeeds = map[string]branchDeed{
	"topic":     setsIn("m.room.topic", "topic"),
	"name":      setsIn("m.room.name", "name"),
	"join_rule": setsIn("m.room.join_rules", "join_rule"),
	"visible":   setsIn("m.room.history_visibility", "history_visibility"),
	"join":      movesIn("join"),
	"leave":     movesIn("leave"),
	"kick":      movesIn("leave"),
	"invite":    movesIn("invite"),
	"ban":       movesIn("ban"),
	"say": func(_ *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error) {
		return w.say(who, strings.Join(args, " "), at), nil
	},
	"redact": func(p *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error) {
		return w.redaction(who, p.events[args[0]], at), nil
	},
	"power": func(_ *play, w *wire, who string, args []string, at *event.Event) (*event.Event, error) {
		content, err := levelsOf(args)
		return w.set(who, "m.room.power_levels", string(content), at), err
	},
	"create": func(_ *play, w *wire, who string, _ []string, _ *event.Event) (*event.Event, error) {
		key := ""
		content := fmt.Sprintf(`{"room_version":%q,"creator":%q}`, w.room.Version.ID, user(who))
		return w.make(proto{by: who, typ: "m.room.create", stateKey: &key, content: content, depth: 1}), nil
	},
}

// merge lets the room's creator speak.
func (p *play) merge() error {
	state, err := p.server.Current(p.ctx, p.room)
	if err != nil {
		return err
	}
	create, err := state.Event(p.ctx, event.Key{Type: event.TypeCreate})
	if err != nil {
		return err
	}
	by := as(string(create.Sender)[1:])
	_, err = p.server.Send(p.ctx, by, roomserver.SendEvent{Room: p.room, Type: "org.example.merge", Content: []byte(`{}`)})
	return err
}
