package roomserver_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// The cases in testdata/*.txt are read thus. A case begins with "== its name". Each line of it is a user
// and what the user does, in the room made last, or with "user@ROOM:" in the room made as ROOM. A line
// that ends in "! M_CODE" must be refused with that code. After "----" stand the things that must then
// be so. "restart" forgets all that is in memory.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, each := range strings.Split("\n"+string(text), "\n== ")[1:] {
				name, body, _ := strings.Cut(each, "\n")
				t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+name, func(t *testing.T) { newPlay(t, db).run(body) })
			}
		}
	})
}

// play is one case being run.
type play struct {
	t        *testing.T
	ctx      context.Context
	settings roomserver.Settings
	people   *people
	server   *roomserver.Server
	suffix   string // of names that are the database's: aliases
	room     matrix.RoomID
	rooms    map[string]matrix.RoomID
	events   map[string]matrix.EventID
	last     matrix.EventID
}

func newPlay(t *testing.T, db *storage.DB) *play {
	s := settings(t, db)
	p := &people{}
	s.Profiles = p
	suffix := fmt.Sprintf("n%x", sha256.Sum256([]byte(t.Name())))[:12]
	return &play{
		t: t, ctx: context.Background(), settings: s, people: p, server: roomserver.New(s), suffix: suffix,
		rooms: map[string]matrix.RoomID{}, events: map[string]matrix.EventID{},
	}
}

func (p *play) run(body string) {
	deeds, claims, _ := strings.Cut(body, "----\n")
	for _, line := range lines(gather(deeds)) {
		if strings.HasPrefix(line, "fork") {
			if err := p.fork(line); err != nil {
				p.t.Fatal(err)
			}
			continue
		}
		text, code, refused := strings.Cut(line, " ! ")
		err := p.do(strings.TrimSpace(text))
		got := string(matrix.CodeOf(err))
		if want := strings.TrimSpace(code); refused && got != want || !refused && err != nil {
			p.t.Fatalf("%s:\n  got  %v\n  want %q", line, err, want)
		}
	}
	for _, line := range lines(claims) {
		ask, want, _ := strings.Cut(line, ": ")
		if got := p.ask(strings.TrimSuffix(ask, ":")); got != strings.TrimSpace(want) {
			p.t.Errorf("%s:\n  got  %s\n  want %s", ask, got, want)
		}
	}
}

func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all
}

// do does what a line says.
func (p *play) do(line string) error {
	switch line {
	case "restart":
		p.server = roomserver.New(p.settings)
		return nil
	case "merge":
		return p.merge()
	}
	who, deed, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("not a deed: %q", line)
	}
	who, where, elsewhere := strings.Cut(who, "@")
	room := p.room
	if elsewhere {
		room = p.roomNamed(where)
	}
	args := words(deed)
	for i, arg := range args {
		args[i] = p.expand(arg)
	}
	act, ok := deeds[args[0]]
	if !ok {
		return fmt.Errorf("nobody can %q", args[0])
	}
	requester := as(strings.TrimPrefix(who, "guest "))
	requester.Guest = strings.HasPrefix(who, "guest ")
	return act(p, requester, room, args[1:])
}

func (p *play) roomNamed(name string) matrix.RoomID {
	if id, ok := p.rooms[name]; ok {
		return id
	}
	return matrix.RoomID("!" + name + ":" + serverName)
}

// expand puts IDs in the place of $names of events and rooms.
func (p *play) expand(arg string) string {
	for name, id := range p.events {
		arg = strings.ReplaceAll(arg, "$"+name+"$", string(id))
	}
	for name, id := range p.rooms {
		arg = strings.ReplaceAll(arg, "!"+name+"!", string(id))
	}
	return strings.ReplaceAll(arg, "~", p.suffix)
}

// words splits at blanks, but not in '…'.
func words(text string) (all []string) {
	quoted := false
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '\'' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		all = append(all, strings.ReplaceAll(word, "'", ""))
	}
	return all
}

// options splits "key=value" words; one without "=" is a flag.
func options(args []string) map[string]string {
	o := make(map[string]string)
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		o[key] = value
	}
	return o
}

type deed func(p *play, by matrix.Requester, room matrix.RoomID, args []string) error

func moved(move func(*roomserver.Server, context.Context, matrix.Requester, roomserver.Move) error) deed {
	return func(p *play, by matrix.Requester, room matrix.RoomID, args []string) error {
		return move(p.server, p.ctx, by, roomserver.Move{Room: room, Target: user(args[0]), Reason: strings.Join(args[1:], " ")})
	}
}

func changed(change func(*roomserver.Server, context.Context, matrix.Requester, matrix.RoomID, string) error) deed {
	return func(p *play, by matrix.Requester, room matrix.RoomID, args []string) error {
		return change(p.server, p.ctx, by, room, strings.Join(args, " "))
	}
}

func stated(typ, field string) deed {
	return func(p *play, by matrix.Requester, room matrix.RoomID, args []string) error {
		content, err := canonical.Marshal(map[string]string{field: strings.Join(args, " ")})
		if err != nil {
			return err
		}
		return p.setState(by, roomserver.SendState{Room: room, Type: typ, Content: content})
	}
}

var deeds = map[string]deed{
	"create":    (*play).create,
	"invite":    moved((*roomserver.Server).Invite),
	"kick":      moved((*roomserver.Server).Kick),
	"ban":       moved((*roomserver.Server).Ban),
	"unban":     moved((*roomserver.Server).Unban),
	"join":      changed((*roomserver.Server).Join),
	"leave":     changed((*roomserver.Server).Leave),
	"knock":     changed((*roomserver.Server).Knock),
	"name":      stated("m.room.name", "name"),
	"topic":     stated("m.room.topic", "topic"),
	"visible":   stated("m.room.history_visibility", "history_visibility"),
	"guests":    stated("m.room.guest_access", "guest_access"),
	"join_rule": stated("m.room.join_rules", "join_rule"),
	"say":       (*play).say,
	"send":      (*play).send,
	"state":     (*play).state,
	"power":     (*play).power,
	"redact":    (*play).redact,
	"read":      (*play).read,
	"alias": func(p *play, by matrix.Requester, room matrix.RoomID, args []string) error {
		return p.server.SetAlias(p.ctx, by, matrix.RoomAlias(args[0]), room)
	},
	"unalias": func(p *play, by matrix.Requester, _ matrix.RoomID, args []string) error {
		return p.server.DeleteAlias(p.ctx, by, matrix.RoomAlias(args[0]))
	},
	"forget": func(p *play, by matrix.Requester, room matrix.RoomID, _ []string) error {
		return p.server.Forget(p.ctx, by, room)
	},
	"publish": func(p *play, by matrix.Requester, room matrix.RoomID, _ []string) error {
		return p.server.SetVisibility(p.ctx, by, room, true)
	},
	"unpublish": func(p *play, by matrix.Requester, room matrix.RoomID, _ []string) error {
		return p.server.SetVisibility(p.ctx, by, room, false)
	},
	"rename": func(p *play, by matrix.Requester, _ matrix.RoomID, args []string) error {
		p.people.rename(by.User, args[0])
		return p.server.ProfileChanged(p.ctx, by.User)
	},
	"leave_all": func(p *play, by matrix.Requester, _ matrix.RoomID, _ []string) error {
		return p.server.LeaveAll(p.ctx, by.User)
	},
	"list_aliases": func(p *play, by matrix.Requester, room matrix.RoomID, _ []string) error {
		_, err := p.server.Aliases(p.ctx, by, room)
		return err
	},
}

// create: create [as=ROOM] [v=11] [preset=…] [name=…] [topic=…] [alias=…] [invite=a,b] [direct] [public]
// [creation={…}] [levels={…}] [state=TYPE={…}]
func (p *play) create(by matrix.Requester, _ matrix.RoomID, args []string) error {
	o := options(args)
	_, public := o["public"]
	_, direct := o["direct"]
	in := roomserver.CreateRoom{
		Public: public, Direct: direct, AliasName: o["alias"], Name: o["name"], Topic: o["topic"],
		Version: matrix.RoomVersion(o["v"]), Preset: o["preset"],
		CreationContent: []byte(o["creation"]), PowerLevels: []byte(o["levels"]),
	}
	for name := range strings.SplitSeq(o["invite"], ",") {
		if name != "" {
			in.Invite = append(in.Invite, user(name))
		}
	}
	if typ, content, ok := strings.Cut(o["state"], "="); ok {
		in.InitialState = append(in.InitialState, roomserver.InitialState{Type: typ, Content: []byte(content)})
	}
	id, err := p.server.Create(p.ctx, by, in)
	if err != nil {
		return err
	}
	p.room = id
	p.rooms[o["as"]] = id
	return nil
}

// sent keeps the ID of an event: as the last, and by name if the options have one.
func (p *play) sent(id matrix.EventID, err error, o map[string]string) error {
	if err != nil {
		return err
	}
	p.last = id
	if name := o["as"]; name != "" {
		p.events[name] = id
	}
	return nil
}

func (p *play) say(by matrix.Requester, room matrix.RoomID, args []string) error {
	o := options(args[1:])
	in := send(room, args[0])
	in.Txn = roomserver.Txn{Path: "/rooms/" + string(room) + "/send/m.room.message", ID: o["txn"]}
	if device := o["device"]; device != "" {
		by.Device = matrix.DeviceID(device)
	}
	id, err := p.server.Send(p.ctx, by, in)
	return p.sent(id, err, o)
}

func (p *play) send(by matrix.Requester, room matrix.RoomID, args []string) error {
	id, err := p.server.Send(p.ctx, by, roomserver.SendEvent{Room: room, Type: args[0], Content: []byte(args[1])})
	return p.sent(id, err, options(args[2:]))
}

func (p *play) setState(by matrix.Requester, in roomserver.SendState) error {
	id, err := p.server.SendState(p.ctx, by, in)
	return p.sent(id, err, nil)
}

// state: state TYPE {…} [key=…] [as=…]
func (p *play) state(by matrix.Requester, room matrix.RoomID, args []string) error {
	o := options(args[2:])
	id, err := p.server.SendState(p.ctx, by, roomserver.SendState{
		Room: room, Type: args[0], StateKey: o["key"], Content: []byte(args[1]),
	})
	return p.sent(id, err, o)
}

// power: power alice=100 bob=50 [invite:50] sets levels, and leaves the others.
func (p *play) power(by matrix.Requester, room matrix.RoomID, args []string) error {
	raw, err := levelsOf(args)
	if err != nil {
		return err
	}
	return p.setState(by, roomserver.SendState{Room: room, Type: "m.room.power_levels", Content: raw})
}

func levelsOf(args []string) ([]byte, error) {
	content := map[string]any{"users": map[string]int{}, "events": map[string]int{}}
	for _, arg := range args {
		name, level, isUser := strings.Cut(arg, "=")
		if !isUser {
			name, level, _ = strings.Cut(arg, ":")
		}
		n, err := strconv.Atoi(level)
		if err != nil {
			return nil, err
		}
		switch {
		case isUser:
			content["users"].(map[string]int)[string(user(name))] = n
		case strings.HasPrefix(name, "m."):
			content["events"].(map[string]int)[name] = n
		default:
			content[name] = n
		}
	}
	return canonical.Marshal(content)
}

func (p *play) redact(by matrix.Requester, room matrix.RoomID, args []string) error {
	o := options(args[1:])
	id, ok := p.events[args[0]]
	if !ok {
		id = matrix.EventID(args[0])
	}
	got, err := p.server.Redact(p.ctx, by, roomserver.RedactEvent{
		Room: room, Event: id, Reason: o["reason"], Txn: roomserver.Txn{Path: "/redact/" + string(id), ID: o["txn"]},
	})
	return p.sent(got, err, o)
}

// read: read EVENT [type=m.read.private] [thread=main]
func (p *play) read(by matrix.Requester, room matrix.RoomID, args []string) error {
	o := options(args[1:])
	in := roomserver.SetReceipt{Room: room, Type: roomserver.ReceiptRead, Event: p.events[args[0]], Thread: o["thread"]}
	if o["type"] != "" {
		in.Type = o["type"]
	}
	return p.server.SetReceipt(p.ctx, by, in)
}
