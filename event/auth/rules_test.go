package auth

import (
	"fmt"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

type versionTest func(*event.Version) bool

func named(ids ...matrix.RoomVersion) versionTest {
	return func(v *event.Version) bool {
		for _, id := range ids {
			if v.ID == id {
				return true
			}
		}
		return false
	}
}

func not(f versionTest) versionTest { return func(v *event.Version) bool { return !f(v) } }

func fromTo(first, last int) versionTest {
	return func(v *event.Version) bool {
		var n int
		fmt.Sscan(string(v.ID), &n)
		return first <= n && n <= last
	}
}

// maker makes the event to be checked, and may change the room's state first.
type maker func(r *room) *event.Event

// ruleTests has, for each rule, one event that passes and one that fails just
// because of it, in each version that has the rule.
var ruleTests = []struct {
	rule     string
	name     string
	versions versionTest // nil: all
	pass     maker
	fail     maker
}{
	{"1", "create: state key", nil,
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{stateKey: ptr("x")}) }},
	{"1.1", "create: prev events", nil,
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{prev: []matrix.EventID{"$x"}}) }},
	{"1.2", "create: server of the room ID", fromTo(1, 11),
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{room: "!room:b.org"}) }},
	{"v12:1.2", "create: room ID", named("12"),
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{more: `"room_id":"!x:a.org"`}) }},
	{"1.3", "create: room version", nil,
		func(r *room) *event.Event {
			return r.newCreate(fields{content: `{"creator":"@alice:a.org","room_version":"9"}`})
		},
		func(r *room) *event.Event {
			return r.newCreate(fields{content: `{"creator":"@alice:a.org","room_version":"x"}`})
		}},
	{"1.3", "create: room version no string", nil,
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event {
			return r.newCreate(fields{content: `{"creator":"@alice:a.org","room_version":9}`})
		}},
	{"v1:1.4", "create: creator", fromTo(1, 10),
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{content: `{}`}) }},
	{"v12:1.4", "create: additional creators", named("12"),
		func(r *room) *event.Event {
			return r.newCreate(fields{content: `{"additional_creators":["@x:y.org"]}`})
		},
		func(r *room) *event.Event { return r.newCreate(fields{content: `{"additional_creators":["x"]}`}) }},
	{"v12:1.4", "create: additional creators no list", named("12"),
		func(r *room) *event.Event { return r.newCreate(fields{content: `{"additional_creators":[]}`}) },
		func(r *room) *event.Event { return r.newCreate(fields{content: `{"additional_creators":{}}`}) }},
	{"v12:1.4", "create: additional creators no strings", named("12"),
		func(r *room) *event.Event { return r.newCreate(fields{}) },
		func(r *room) *event.Event { return r.newCreate(fields{content: `{"additional_creators":[1]}`}) }},

	{"2.4", "no create event", fromTo(1, 11), message(bob), withoutCreate(message(bob))},
	{"v12:2", "no create event", named("12"), message(bob), withoutCreate(message(bob))},
	{"2.4", "create event of another room", fromTo(1, 11), message(bob), inRoom("!other:a.org")},
	{"v12:2", "create event of another room", named("12"), message(bob), inRoom("!other")},
	{"3", "room not federated", nil, local(message(mod)), local(message(bob))},

	{"v1:4.1", "aliases: state key", fromTo(1, 5),
		func(r *room) *event.Event { return r.ev(event.TypeAliases, "b.org", bob, `{}`) },
		func(r *room) *event.Event { return r.msg(event.TypeAliases, bob, `{}`) }},
	{"v1:4.2", "aliases: server", fromTo(1, 5),
		func(r *room) *event.Event { return r.ev(event.TypeAliases, "c.org", nobody, `{}`) },
		func(r *room) *event.Event { return r.ev(event.TypeAliases, "a.org", nobody, `{}`) }},
	{"7", "aliases as any other state", fromTo(6, 12),
		func(r *room) *event.Event { return r.ev(event.TypeAliases, "b.org", mod, `{}`) },
		func(r *room) *event.Event { return r.ev(event.TypeAliases, "b.org", bob, `{}`) }},

	{"4.1", "member: state key", nil, member(dave, dave, "join"),
		func(r *room) *event.Event { return r.msg(event.TypeMember, dave, `{"membership":"join"}`) }},
	{"4.1", "member: membership", nil, member(dave, dave, "join"),
		func(r *room) *event.Event { return r.ev(event.TypeMember, dave, dave, `{}`) }},
	{"4.1", "member: membership no string", nil, member(dave, dave, "join"),
		func(r *room) *event.Event { return r.ev(event.TypeMember, dave, dave, `{"membership":1}`) }},
	{"4.1", "member: state key no user ID", nil, member(mod, nobody, "invite"), member(mod, "nobody", "invite")},
	{"4.2.1", "member: authoriser no user ID", fromTo(8, 12),
		member(dave, dave, "join", `"join_authorised_via_users_server":"@mod:a.org"`),
		member(dave, dave, "join", `"join_authorised_via_users_server":7`)},

	{"4.3.7", "join: creator first", nil, firstJoin(alice), firstJoin(frank)},
	{"4.3.2", "join: for another", nil, member(dave, dave, "join"), member(bob, dave, "join")},
	{"4.3.3", "join: banned", nil, ruled("public", member(frank, frank, "join")), ruled("public", member(carol, carol, "join"))},
	{"4.3.7", "join: invite rule, invited", nil, member(dave, dave, "join"), member(frank, frank, "join")},
	{"4.3.7", "join: invite rule, again", nil, member(bob, bob, "join"), member(nobody, nobody, "join")},
	{"4.3.7", "join: no join rules", nil, noRules(member(dave, dave, "join")), noRules(member(frank, frank, "join"))},
	{"4.3.7", "join: knock rule", fromTo(7, 12), ruled("knock", member(dave, dave, "join")), ruled("knock", member(erin, erin, "join"))},
	{"4.3.7", "join: knock rule before 7", fromTo(1, 6), member(dave, dave, "join"), ruled("knock", member(dave, dave, "join"))},
	{"4.3.5.2", "join: restricted, invited", fromTo(8, 12), ruled("restricted", member(dave, dave, "join")), ruled("restricted", member(frank, frank, "join"))},
	{"4.3.7", "join: restricted before 8", fromTo(1, 7), member(dave, dave, "join"), ruled("restricted", member(dave, dave, "join"))},
	{"4.3.7", "join: knock_restricted before 10", fromTo(1, 9), member(dave, dave, "join"), ruled("knock_restricted", member(dave, dave, "join"))},
	{"4.3.5.2", "join: restricted, authoriser's level", fromTo(8, 12), vouched("restricted", mod), vouched("restricted", bob)},
	{"4.3.5.2", "join: restricted, authoriser not joined", fromTo(8, 12), vouched("restricted", mod2), vouched("restricted", nobody)},
	{"4.3.5.2", "join: knock_restricted", fromTo(10, 12), vouched("knock_restricted", admin), vouched("knock_restricted", dave)},
	{"4.3.7", "join: public", nil, ruled("public", member(nobody, nobody, "join")), ruled("private", member(nobody, nobody, "join"))},

	{"4.4.1.1", "third party: banned", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), third(carol, `"mxid":"@carol:b.org","token":"t"`)},
	{"4.4.1.2", "third party: signed", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`),
		member(mod, nobody, "invite", `"third_party_invite":{}`)},
	{"4.4.1.2", "third party: no object", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`),
		member(mod, nobody, "invite", `"third_party_invite":"x"`)},
	{"4.4.1.3", "third party: mxid", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), third(nobody, `"token":"t"`)},
	{"4.4.1.3", "third party: token", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), third(nobody, `"mxid":"@nobody:c.org"`)},
	{"4.4.1.4", "third party: other user", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), third(frank, `"mxid":"@nobody:c.org","token":"t"`)},
	{"4.4.1.5", "third party: token unknown", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), third(nobody, `"mxid":"@nobody:c.org","token":"u"`)},
	{"4.4.1.6", "third party: sender", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), thirdBy(mod2)},
	{"4.4.1.8", "third party: signature", nil, third(nobody, `"mxid":"@nobody:c.org","token":"t"`), thirdForged},
	{"4.4.1.8", "third party: one of a list of keys", nil, listed(third(nobody, `"mxid":"@nobody:c.org","token":"t"`)), listed(thirdForged)},
	{"4.4.2", "invite: sender not joined", nil, member(mod, nobody, "invite"), member(frank, nobody, "invite")},
	{"4.4.3", "invite: joined", nil, member(mod, frank, "invite"), member(mod, bob, "invite")},
	{"4.4.3", "invite: banned", nil, member(mod, dave, "invite"), member(mod, carol, "invite")},
	{"4.4.5", "invite: level", nil, member(mod, nobody, "invite"), member(bob, nobody, "invite")},

	{"4.5.1", "leave: self", nil, member(bob, bob, "leave"), member(frank, frank, "leave")},
	{"4.5.1", "leave: invited", nil, member(dave, dave, "leave"), member(carol, carol, "leave")},
	{"4.5.1", "leave: knocking", fromTo(7, 12), member(erin, erin, "leave"), member(nobody, nobody, "leave")},
	{"4.5.1", "leave: knocking before 7", fromTo(1, 6), member(dave, dave, "leave"), member(erin, erin, "leave")},
	{"4.5.2", "kick: sender not joined", nil, member(mod, bob, "leave"), member(frank, bob, "leave")},
	{"4.5.3", "unban: level", nil, member(mod, carol, "leave"), leveled(`"@mod:a.org":50`, `"@mod:a.org":45`, member(mod, carol, "leave"))},
	{"4.5.5", "kick: level", nil, member(mod, bob, "leave"), member(bob, dave, "leave")},
	{"4.5.5", "kick: equal level", nil, member(admin, mod, "leave"), member(mod, mod2, "leave")},
	{"4.6.1", "ban: sender not joined", nil, member(mod, bob, "ban"), member(nobody, bob, "ban")},
	{"4.6.3", "ban: level", nil, member(mod, bob, "ban"), member(bob, frank, "ban")},
	{"4.6.3", "ban: equal level", nil, member(admin, mod, "ban"), member(mod, mod2, "ban")},
	{"4.6.3", "ban: creator", named("12"), member(alice, admin, "ban"), member(admin, alice, "ban")},

	{"4.7.1", "knock: rule", fromTo(7, 12), ruled("knock", member(frank, frank, "knock")), ruled("public", member(frank, frank, "knock"))},
	{"4.7.1", "knock: knock_restricted before 10", fromTo(7, 9), ruled("knock", member(frank, frank, "knock")), ruled("knock_restricted", member(frank, frank, "knock"))},
	{"4.7.1", "knock: knock_restricted", fromTo(10, 12), ruled("knock_restricted", member(frank, frank, "knock")), ruled("restricted", member(frank, frank, "knock"))},
	{"4.7.2", "knock: for another", fromTo(7, 12), ruled("knock", member(erin, erin, "knock")), ruled("knock", member(bob, frank, "knock"))},
	{"4.7.4", "knock: banned", fromTo(7, 12), ruled("knock", member(nobody, nobody, "knock")), ruled("knock", member(carol, carol, "knock"))},
	{"4.7.4", "knock: invited", fromTo(7, 12), ruled("knock", member(nobody, nobody, "knock")), ruled("knock", member(dave, dave, "knock"))},
	{"4.7.4", "knock: joined", fromTo(7, 12), ruled("knock", member(nobody, nobody, "knock")), ruled("knock", member(bob, bob, "knock"))},
	{"4.8", "unknown membership", nil, member(bob, bob, "leave"), member(bob, bob, "dance")},
	{"4.8", "knock before 7", fromTo(1, 6), member(bob, bob, "leave"), ruled("knock", member(frank, frank, "knock"))},

	{"5", "sender not joined", nil, message(bob), message(nobody)},
	{"5", "sender banned", nil, message(bob), message(carol)},
	{"6.1", "third-party invite: level", nil,
		func(r *room) *event.Event { return r.ev(event.TypeThirdPartyInvite, "t", mod, `{}`) },
		func(r *room) *event.Event { return r.ev(event.TypeThirdPartyInvite, "t", bob, `{}`) }},
	{"7", "level of a listed type", nil,
		func(r *room) *event.Event { return r.msg("x.high", admin, `{}`) },
		func(r *room) *event.Event { return r.msg("x.high", mod, `{}`) }},
	{"7", "level of state", nil,
		func(r *room) *event.Event { return r.ev("x.low", "", bob, `{}`) },
		func(r *room) *event.Event { return r.ev("m.room.topic", "", bob, `{}`) }},
	{"7", "level of messages", nil, message(bob), leveled(`"events_default":0`, `"events_default":1`, message(bob))},
	{"8", "state key of another user", nil,
		func(r *room) *event.Event { return r.ev("x.low", bob, bob, `{}`) },
		func(r *room) *event.Event { return r.ev("x.low", dave, bob, `{}`) }},

	{"9.1", "levels: top no integer", nil, levels(admin, `"ban":50`, `"ban":51`), levels(admin, `"ban":50`, `"ban":true`)},
	{"9.1", "levels: top a string", fromTo(10, 12), levels(admin, `"kick":40`, `"kick":41`), levels(admin, `"kick":40`, `"kick":"41"`)},
	{"9.1", "levels: top null", nil, levels(admin, `,"users_default":0`, ``), levels(admin, `"users_default":0`, `"users_default":null`)},
	{"9.2", "levels: events no object", nil, levels(admin, `{"x.high":60,"x.low":0}`, `{}`), levels(admin, `{"x.high":60,"x.low":0}`, `[]`)},
	{"9.2", "levels: events no integer", nil, levels(admin, `"x.low":0`, `"x.low":1`), levels(admin, `"x.low":0`, `"x.low":null`)},
	{"9.2", "levels: notifications no integer", fromTo(6, 12), levels(admin, `"room":60`, `"room":61`), levels(admin, `"room":60`, `"room":{}`)},
	{"9.3", "levels: users no object", nil, noLevels(usersAre(`{"@bob:b.org":50}`)), noLevels(usersAre(`[]`))},
	{"9.3", "levels: users no integer", nil, noLevels(usersAre(`{"@bob:b.org":1}`)), noLevels(usersAre(`{"@bob:b.org":"x"}`))},
	{"9.3", "levels: users no user ID", nil, noLevels(usersAre(`{}`)), noLevels(usersAre(`{"bob":1}`))},
	{"9.3", "levels: users a string", fromTo(10, 12), noLevels(usersAre(`{"@bob:b.org":1}`)), noLevels(usersAre(`{"@bob:b.org":"1"}`))},
	{"v12:10.4", "levels: creator", named("12"), noLevels(usersAre(`{"@bob:b.org":1}`)), noLevels(usersAre(`{"@alice:a.org":1}`))},
	{"v12:10.4", "levels: additional creator", named("12"),
		additional(noLevels(usersAre(`{"@bob:b.org":1}`))), additional(noLevels(usersAre(`{"@mod:a.org":1}`)))},
	{"7", "levels: no levels yet", nil, noLevels(usersAre(`{"@bob:b.org":1000}`)), noLevels(func(r *room) *event.Event {
		return r.ev(event.TypePowerLevels, "", bob, `{}`)
	})},
	{"9.5.1", "levels: top, current too high", nil, raised(`"ban":50`, `"ban":60`, admin, `"ban":1`), raised(`"ban":50`, `"ban":60`, mod, `"ban":1`)},
	{"9.5.1", "levels: top, removed", nil, raised(`"redact":50`, `"redact":60`, admin, ``), raised(`"redact":50`, `"redact":60`, mod, ``)},
	{"9.5.2", "levels: top, new too high", nil, levels(mod, `"invite":10`, `"invite":50`), levels(mod, `"invite":10`, `"invite":51`)},
	{"9.5.2", "levels: top, added", nil, raised(`,"users_default":0`, ``, mod, `,"users_default":50`), raised(`,"users_default":0`, ``, mod, `,"users_default":51`)},
	{"9.6.1", "levels: events, changed", nil, levels(admin, `"x.high":60`, `"x.high":1`), levels(mod, `"x.high":60`, `"x.high":1`)},
	{"9.6.1", "levels: events, removed", nil, levels(mod, `,"x.low":0`, ``), levels(mod, `"x.high":60,`, ``)},
	{"9.6.1", "levels: notifications", fromTo(6, 12), levels(admin, `"room":60`, `"room":1`), levels(mod, `"room":60`, `"room":1`)},
	{"9.7.1", "levels: events, changed up", nil, levels(mod, `"x.low":0`, `"x.low":50`), levels(mod, `"x.low":0`, `"x.low":51`)},
	{"9.7.1", "levels: events, added", nil, levels(mod, `"x.low":0`, `"x.low":0,"x.new":50`), levels(mod, `"x.low":0`, `"x.low":0,"x.new":51`)},
	{"9.7.1", "levels: notifications, added", fromTo(6, 12), levels(mod, `"room":60`, `"room":60,"x":50`), levels(mod, `"room":60`, `"room":60,"x":51`)},
	{"9.8.1", "levels: users, changed", nil, levels(admin, `"@mod2:b.org":50`, `"@mod2:b.org":1`), levels(mod, `"@mod2:b.org":50`, `"@mod2:b.org":1`)},
	{"9.8.1", "levels: users, removed", nil, levels(mod, `,"@mod:a.org":50`, ``), levels(mod, `"@mod2:b.org":50,`, ``)},
	{"9.9.1", "levels: users, raised", nil, levels(mod, `"@mod:a.org":50`, `"@mod:a.org":1`), levels(mod, `"@mod:a.org":50`, `"@mod:a.org":51`)},
	{"9.9.1", "levels: users, added", nil, levels(mod, `"@mod:a.org":50`, `"@bob:b.org":50,"@mod:a.org":50`), levels(mod, `"@mod:a.org":50`, `"@bob:b.org":51,"@mod:a.org":50`)},

	{"v1:11.3", "redaction: level", named("1", "2"), redaction(mod, "$e:x.org"), redaction(bob, "$e:x.org")},
	{"v1:11.3", "redaction: server", named("1", "2"), redaction(bob, "$e:own.org"), redaction(bob, "$e:own.org.evil")},
	{"5", "redaction: no rule of its own", not(named("1", "2")), redaction(bob, "$e:x.org"), redaction(nobody, "$e:x.org")},
}

func TestRules(t *testing.T) {
	for _, v := range event.Versions() {
		for _, tt := range ruleTests {
			if tt.versions != nil && !tt.versions(v) {
				continue
			}
			r := newRoom(t, v)
			if err := Check(tt.pass(r), r.lookup); err != nil {
				t.Errorf("version %s, %s: got %v, want it allowed", v.ID, tt.name, err)
			}
			r = newRoom(t, v)
			err := Check(tt.fail(r), r.lookup)
			if got := ruleOf(t, err); got != tt.rule {
				t.Errorf("version %s, %s: got %v, want a rejection by rule %s", v.ID, tt.name, err, tt.rule)
			}
		}
	}
}

// Nothing that a rule looks at is missing from the essence: neither of the event nor of the state.
func TestEssence(t *testing.T) {
	essence := func(ev *event.Event) *event.Event {
		if ev == nil {
			return nil
		}
		e := Essence(ev)
		if ev.Type != event.TypeCreate && (e.JSON != nil || len(e.Content) > 0 && &e.Content[0] != &ev.Content[0]) {
			t.Errorf("%s: the essence has the JSON, or a content of its own", ev.JSON)
		}
		return &e
	}
	for _, v := range event.Versions() {
		for _, tt := range ruleTests {
			if tt.versions != nil && !tt.versions(v) {
				continue
			}
			for _, made := range []func(*room) *event.Event{tt.pass, tt.fail} {
				r := newRoom(t, v)
				ev := made(r)
				want := Check(ev, r.lookup)
				got := Check(essence(ev), func(k event.Key) *event.Event { return essence(r.lookup(k)) })
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("version %s, %s: got %v, want %v", v.ID, tt.name, got, want)
				}
				if !ev.IsState() {
					continue
				}
				if got, want := AppendNeeded(nil, essence(ev)), Needed(v, ev.Type, *ev.StateKey, ev.Sender, ev.Content); !slices.Equal(got, want) {
					t.Errorf("version %s, %s: got %v, want %v", v.ID, tt.name, got, want)
				}
			}
		}
	}
}

// newCreate makes a create event with a valid default for what f leaves out.
func (r *room) newCreate(f fields) *event.Event {
	f.typ, f.sender = event.TypeCreate, alice
	if f.stateKey == nil {
		f.stateKey = ptr("")
	}
	if f.content == "" {
		f.content = `{"creator":"@alice:a.org"}`
	}
	return r.make(f)
}

func message(sender string) maker {
	return func(r *room) *event.Event { return r.msg(event.TypeMessage, sender, `{}`) }
}

func member(sender, target, membership string, more ...string) maker {
	return func(r *room) *event.Event { return r.member(sender, target, membership, more...) }
}

func levels(sender, old, new string) maker {
	return func(r *room) *event.Event { return r.levels(sender, old, new) }
}

func usersAre(users string) maker {
	return func(r *room) *event.Event {
		return r.ev(event.TypePowerLevels, "", alice, `{"users":`+users+`}`)
	}
}

// ruled sets the join rule first.
func ruled(rule string, m maker) maker {
	return func(r *room) *event.Event { r.joinRule(rule); return m(r) }
}

// vouched makes a join of frank for which via vouches.
func vouched(rule, via string) maker {
	return ruled(rule, member(frank, frank, "join", fmt.Sprintf(`"join_authorised_via_users_server":%q`, via)))
}

func noRules(m maker) maker {
	return func(r *room) *event.Event { delete(r.state, joinRulesKey); return m(r) }
}

func noLevels(m maker) maker {
	return func(r *room) *event.Event { delete(r.state, powerLevelsKey); return m(r) }
}

// leveled changes the power levels first.
func leveled(old, new string, m maker) maker {
	return func(r *room) *event.Event { r.set(r.levels(alice, old, new)); return m(r) }
}

// raised changes a part of the power levels from old to current in the state,
// and then lets sender change it to new.
func raised(old, current, sender, new string) maker {
	return func(r *room) *event.Event {
		r.set(r.levels(alice, old, current))
		if new == "" {
			return r.levels(sender, old+",", "")
		}
		return r.levels(sender, old, new)
	}
}

func withoutCreate(m maker) maker {
	return func(r *room) *event.Event { delete(r.state, createKey); return m(r) }
}

func inRoom(id matrix.RoomID) maker {
	return func(r *room) *event.Event {
		return r.make(fields{typ: event.TypeMessage, sender: bob, content: `{}`, room: id})
	}
}

// local makes the room one that is not federated.
func local(m maker) maker {
	return func(r *room) *event.Event { r.create(`{"creator":"@alice:a.org","m.federate":false}`); return m(r) }
}

// additional makes mod a creator, too.
func additional(m maker) maker {
	return func(r *room) *event.Event { r.create(`{"additional_creators":["@mod:a.org"]}`); return m(r) }
}

// firstJoin is a join right after the create event, into an empty room.
func firstJoin(user string) maker {
	return func(r *room) *event.Event {
		create := r.state[createKey]
		r.state = map[event.Key]*event.Event{createKey: create}
		return r.make(fields{
			typ: event.TypeMember, stateKey: &user, sender: user,
			content: `{"membership":"join"}`, prev: []matrix.EventID{create.ID},
		})
	}
}

func redaction(sender string, target matrix.EventID) maker {
	return func(r *room) *event.Event {
		return r.load("$redaction:own.org", fields{typ: event.TypeRedaction, sender: sender, content: `{}`, redacts: target})
	}
}

// identityKey signs third-party invites.
var identityKey = func() signing.Key {
	k, err := signing.NewKey("ed25519:0", make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return k
}()

// third makes a third-party invite of target by mod, with the given members of
// signed, rightly signed by an identity server that the room knows.
func third(target, signed string) maker {
	return func(r *room) *event.Event { return r.third(mod, target, signed, nil) }
}

func thirdBy(sender string) maker {
	return func(r *room) *event.Event {
		return r.third(sender, nobody, `"mxid":"@nobody:c.org","token":"t"`, nil)
	}
}

// listed has the identity server's key in a list, after another.
func listed(m maker) maker {
	return func(r *room) *event.Event {
		invite := m(r)
		key, other := signing.EncodeBase64(identityKey.Public()), signing.EncodeBase64(make([]byte, 32))
		r.set(r.ev(event.TypeThirdPartyInvite, "t", mod, fmt.Sprintf(`{"public_keys":[{"public_key":%q},{"public_key":%q}]}`, other, key)))
		return invite
	}
}

func thirdForged(r *room) *event.Event {
	return r.third(mod, nobody, `"mxid":"@nobody:c.org","token":"t"`, []byte(`"x":1`))
}

func (r *room) third(sender, target, members string, forged []byte) *event.Event {
	r.t.Helper()
	public := signing.EncodeBase64(identityKey.Public())
	r.set(r.ev(event.TypeThirdPartyInvite, "t", mod, fmt.Sprintf(`{"public_key":%q}`, public)))
	signed, err := signing.SignJSON([]byte("{"+members+"}"), "id.org", identityKey)
	if err != nil {
		r.t.Fatal(err)
	}
	if forged != nil {
		signed = canonical.AppendWith(nil, signed, "x", []byte("1"))
	}
	return r.member(sender, target, "invite", fmt.Sprintf(`"third_party_invite":{"display_name":"n","signed":%s}`, signed))
}
