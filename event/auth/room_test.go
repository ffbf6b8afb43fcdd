package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

// The people of the test room. It is made by alice; its other members have the
// levels that levels gives them, or none.
const (
	alice  = "@alice:a.org" // creator
	admin  = "@admin:a.org" // 100
	mod    = "@mod:a.org"   // 50
	mod2   = "@mod2:b.org"  // 50
	bob    = "@bob:b.org"   // 0
	carol  = "@carol:b.org" // banned
	dave   = "@dave:b.org"  // invited
	erin   = "@erin:b.org"  // knocking
	frank  = "@frank:b.org" // left
	nobody = "@nobody:c.org"
)

const levelsContent = `{"ban":50,"events":{"x.high":60,"x.low":0},"events_default":0,"invite":10,"kick":40,"notifications":{"room":60},"redact":50,"state_default":50,"users":{"@admin:a.org":100,"@mod2:b.org":50,"@mod:a.org":50},"users_default":0}`

// room is a state under construction, of one room version.
type room struct {
	t     testing.TB
	v     *event.Version
	id    matrix.RoomID
	state map[event.Key]*event.Event
	made  int
}

// newRoom makes the room described above, with the join rule invite.
func newRoom(t testing.TB, v *event.Version) *room {
	r := &room{t: t, v: v, id: "!room:a.org", state: make(map[event.Key]*event.Event)}
	content := `{"creator":"@alice:a.org"}`
	if v.Creator == event.CreatorIsSender {
		content = `{}`
	}
	r.create(content)
	r.set(r.ev(event.TypePowerLevels, "", alice, levelsContent))
	r.joinRule("invite")
	for user, membership := range map[string]string{
		alice: "join", admin: "join", mod: "join", mod2: "join", bob: "join",
		carol: "ban", dave: "invite", erin: "knock", frank: "leave",
	} {
		r.setMember(user, membership)
	}
	return r
}

// create replaces the create event.
func (r *room) create(content string) {
	id := matrix.EventID("$" + strings.Repeat("C", 43))
	if r.v.RoomIDs == event.CreateHashRoomIDs {
		r.id = matrix.RoomID("!" + string(id[1:]))
	}
	r.set(r.load(id, fields{typ: event.TypeCreate, stateKey: ptr(""), sender: alice, content: content}))
}

func (r *room) set(e *event.Event) { r.state[e.StateID()] = e }

func (r *room) setMember(user, membership string) {
	r.set(r.member(user, user, membership))
}

func (r *room) joinRule(rule string) {
	r.set(r.ev(event.TypeJoinRules, "", alice, fmt.Sprintf(`{"join_rule":%q}`, rule)))
}

func (r *room) lookup(k event.Key) *event.Event { return r.state[k] }

// fields is what a test event is made of.
type fields struct {
	typ      string
	stateKey *string
	sender   string
	content  string
	prev     []matrix.EventID
	room     matrix.RoomID // "" = the room's
	redacts  matrix.EventID
	more     string // further top-level member, raw
}

func ptr(s string) *string { return &s }

// load makes an event without the checks of event.Parse.
func (r *room) load(id matrix.EventID, f fields) *event.Event {
	r.t.Helper()
	prev := `["$before"]`
	if f.prev != nil {
		prev = `["` + strings.Join(strs(f.prev), `","`) + `"]`
	}
	if f.typ == event.TypeCreate && f.prev == nil {
		prev = `[]`
	}
	if r.v.References == event.HashedReferences {
		prev = strings.NewReplacer(`"$`, `["$`, `",`, `",{}],`, `"]`, `",{}]]`).Replace(prev)
	}
	if f.room == "" {
		f.room = r.id
	}
	members := fmt.Sprintf(`"content":%s,"prev_events":%s,"sender":%q,"type":%q`, f.content, prev, f.sender, f.typ)
	if f.typ != event.TypeCreate || r.v.RoomIDs != event.CreateHashRoomIDs {
		members += fmt.Sprintf(`,"room_id":%q`, f.room)
	}
	if f.stateKey != nil {
		members += fmt.Sprintf(`,"state_key":%q`, *f.stateKey)
	}
	if f.redacts != "" {
		members += fmt.Sprintf(`,"redacts":%q`, f.redacts)
	}
	if f.more != "" {
		members += "," + f.more
	}
	obj, err := canonical.JSON([]byte("{"+members+"}"), r.v.JSON)
	if err != nil {
		r.t.Fatalf("%s: %v", members, err)
	}
	e, err := event.Load(r.v, id, obj)
	if err != nil {
		r.t.Fatalf("%s: %v", obj, err)
	}
	return e
}

func strs(ids []matrix.EventID) []string {
	var s []string
	for _, id := range ids {
		s = append(s, string(id))
	}
	return s
}

func (r *room) make(f fields) *event.Event {
	r.made++
	return r.load(matrix.EventID(fmt.Sprintf("$e%d", r.made)), f)
}

// ev makes a state event.
func (r *room) ev(typ, stateKey, sender, content string) *event.Event {
	return r.make(fields{typ: typ, stateKey: &stateKey, sender: sender, content: content})
}

// msg makes an event that is no state event.
func (r *room) msg(typ, sender, content string) *event.Event {
	return r.make(fields{typ: typ, sender: sender, content: content})
}

// member makes a member event; more are further members of its content.
func (r *room) member(sender, target, membership string, more ...string) *event.Event {
	content := fmt.Sprintf(`{"membership":%q`, membership)
	for _, m := range more {
		content += "," + m
	}
	return r.ev(event.TypeMember, target, sender, content+"}")
}

// levels makes a power levels event: the room's, with one part replaced.
func (r *room) levels(sender, old, new string) *event.Event {
	r.t.Helper()
	if !strings.Contains(levelsContent, old) {
		r.t.Fatalf("%q is not in the power levels", old)
	}
	return r.ev(event.TypePowerLevels, "", sender, strings.Replace(levelsContent, old, new, 1))
}

// ruleOf returns the rule that an error names, "" for nil.
func ruleOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var r *Rejection
	if !errors.As(err, &r) || r.Reason == "" {
		t.Fatalf("got error %v of type %T, want a *Rejection with a reason", err, err)
	}
	return r.Rule
}
