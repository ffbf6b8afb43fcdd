package auth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

func TestNeeded(t *testing.T) {
	const (
		own    = "create power_levels member/@bob:b.org"
		target = own + " member/@dave:b.org"
		via    = `{"membership":"join","join_authorised_via_users_server":"@mod:a.org"}`
		third  = `{"membership":"invite","third_party_invite":{"signed":{"token":"t"}}}`
	)
	tests := []struct {
		name, version          string
		typ, stateKey, content string
		want                   string
	}{
		{"create", "11", "m.room.create", "", `{}`, ""},
		{"message", "11", "m.room.message", "", `{}`, own},
		{"message in 12", "12", "m.room.message", "", `{}`, "power_levels member/@bob:b.org"},
		{"own join", "11", "m.room.member", bob, `{"membership":"join"}`, own + " join_rules"},
		{"own leave", "11", "m.room.member", bob, `{"membership":"leave"}`, own},
		{"knock", "11", "m.room.member", bob, `{"membership":"knock"}`, own + " join_rules"},
		{"invite", "11", "m.room.member", dave, `{"membership":"invite"}`, target + " join_rules"},
		{"kick", "11", "m.room.member", dave, `{"membership":"leave"}`, target},
		{"ban", "11", "m.room.member", dave, `{"membership":"ban"}`, target},
		{"third-party invite", "11", "m.room.member", dave, third, target + " join_rules third_party_invite/t"},
		{"restricted join", "11", "m.room.member", bob, via, own + " join_rules member/@mod:a.org"},
		{"restricted join in 12", "12", "m.room.member", bob, via, "power_levels member/@bob:b.org join_rules member/@mod:a.org"},
		{"restricted join before 8", "7", "m.room.member", bob, via, own + " join_rules"},
		{"vouched by itself", "11", "m.room.member", bob, strings.Replace(via, "@mod:a.org", bob, 1), own + " join_rules"},
		{"malformed", "11", "m.room.member", dave, `{"membership":7,"third_party_invite":[]}`, target},
		{"no content", "11", "m.room.member", dave, ``, target},
	}
	for _, tt := range tests {
		var got []string
		for _, k := range Needed(version(t, matrix.RoomVersion(tt.version)), tt.typ, tt.stateKey, bob, []byte(tt.content)) {
			name := strings.TrimPrefix(k.Type, "m.room.")
			if k.StateKey != "" {
				name += "/" + k.StateKey
			}
			got = append(got, name)
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, g, tt.want)
		}
	}
}

// authEventTests change the auth events of a message that is allowed.
var authEventTests = []struct {
	name     string
	versions versionTest
	rule     string
	change   func(r *room, auth []*event.Event) []*event.Event
}{
	{"as it should be", nil, "", func(_ *room, auth []*event.Event) []*event.Event { return auth }},
	{"duplicate", nil, "2.1", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth, r.member(bob, bob, "join"))
	}},
	{"member of another", nil, "2.2", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth, r.state[memberKey(mod)])
	}},
	{"no state event", nil, "2.2", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth[:len(auth)-1], r.msg(event.TypePowerLevels, bob, `{}`))
	}},
	{"create event in 12", named("12"), "2.2", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth, r.state[createKey])
	}},
	{"rejected", nil, "2.3", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth[:len(auth)-1], r.load("$rejected", fields{
			typ: event.TypePowerLevels, stateKey: ptr(""), sender: alice, content: `{}`}))
	}},
	{"no create event", fromTo(1, 11), "2.4", func(_ *room, auth []*event.Event) []*event.Event { return auth[1:] }},
	{"another room", nil, "2.5", func(r *room, auth []*event.Event) []*event.Event {
		return append(auth[:len(auth)-1], r.make(fields{
			typ: event.TypePowerLevels, stateKey: ptr(""), sender: alice, content: `{}`, room: "!other:a.org"}))
	}},
}

func TestCheckAuthEvents(t *testing.T) {
	rejected := func(e *event.Event) bool { return e.ID == "$rejected" }
	for _, v := range event.Versions() {
		for _, tt := range authEventTests {
			if tt.versions != nil && !tt.versions(v) {
				continue
			}
			r := newRoom(t, v)
			auth := []*event.Event{r.state[memberKey(bob)], r.state[powerLevelsKey]}
			if v.CreateInAuthEvents {
				auth = append([]*event.Event{r.state[createKey]}, auth...)
			}
			err := CheckAuthEvents(r.msg(event.TypeMessage, bob, `{}`), tt.change(r, auth), rejected)
			if got := ruleOf(t, err); got != tt.rule {
				t.Errorf("version %s, %s: got %v, want rule %q", v.ID, tt.name, err, tt.rule)
			}
		}
	}
}

// v11 rule 4.2.1: the signature of the server that vouches has to be there.
func TestVouchingSignature(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		content := `{"membership":"join","join_authorised_via_users_server":"@mod:a.org"}`
		for signatures, signed := range map[string]bool{`{}`: false, `{"b.org":{"ed25519:1":"x"}}`: false, `{"a.org":{"ed25519:1":"x"}}`: true} {
			join := r.make(fields{typ: event.TypeMember, stateKey: ptr(frank), sender: frank, content: content, more: `"signatures":` + signatures})
			want := ""
			if v.RestrictedJoins && !signed {
				want = "4.2.1"
			}
			var auth []*event.Event
			if v.CreateInAuthEvents {
				auth = append(auth, r.state[createKey])
			}
			if got := ruleOf(t, CheckAuthEvents(join, auth, nil)); got != want {
				t.Errorf("version %s, signed by %s: got rule %q, want %q", v.ID, signatures, got, want)
			}
		}
	}
}

func TestCreateNeedsNoAuthEvents(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		if err := CheckAuthEvents(r.state[createKey], nil, nil); err != nil {
			t.Errorf("version %s: got %v, want it allowed", v.ID, err)
		}
	}
}

func TestRejectionText(t *testing.T) {
	r := newRoom(t, version(t, "12"))
	err := Check(r.msg(event.TypeMessage, nobody, `{}`), r.lookup)
	if want := "auth rule 5: @nobody:c.org is not joined"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Before version 11 a create event without creator makes a room that nobody
// can be the first to join.
func TestFirstJoinWithoutCreator(t *testing.T) {
	r := newRoom(t, version(t, "10"))
	r.create(`{}`)
	if got := ruleOf(t, Check(firstJoin(alice)(r), r.lookup)); got != "4.3.7" {
		t.Errorf("got rule %q, want 4.3.7", got)
	}
}

// The token of a third-party invite may be the empty string.
func TestNeededEmptyToken(t *testing.T) {
	keys := Needed(version(t, "11"), event.TypeMember, dave, bob, []byte(`{"membership":"invite","third_party_invite":{"signed":{"token":""}}}`))
	if want := (event.Key{Type: event.TypeThirdPartyInvite}); !slices.Contains(keys, want) {
		t.Errorf("got %v, want %v among them", keys, want)
	}
}

func TestStateOf(t *testing.T) {
	r := newRoom(t, version(t, "12"))
	first, second := r.member(bob, bob, "join"), r.member(bob, bob, "leave")
	st := StateOf(first, r.msg(event.TypeMessage, bob, `{}`), second)
	if got := st(memberKey(bob)); got != second {
		t.Errorf("got %v, want the later event %v", got, second.ID)
	}
	if got := st(event.Key{Type: event.TypeMessage}); got != nil {
		t.Errorf("got %v for a message, want none", got.ID)
	}
}

// The public keys of a third-party invite may stand in several places, and be
// written in either alphabet.
func TestThirdPartyKeys(t *testing.T) {
	std := signing.EncodeBase64(identityKey.Public())
	url := strings.NewReplacer("+", "-", "/", "_").Replace(std)
	other := signing.EncodeBase64(make([]byte, 32))
	tests := []struct {
		name, content string
		allowed       bool
	}{
		{"public_key", fmt.Sprintf(`{"public_key":%q}`, std), true},
		{"URL-safe", fmt.Sprintf(`{"public_key":%q}`, url), true},
		{"padded", fmt.Sprintf(`{"public_key":%q}`, std+"="), true},
		{"public_keys", fmt.Sprintf(`{"public_key":%q,"public_keys":[{"public_key":%q},{"public_key":%q}]}`, other, other, std), true},
		{"other key", fmt.Sprintf(`{"public_key":%q}`, other), false},
		{"none", `{}`, false},
		{"malformed", `{"public_key":7,"public_keys":{"public_key":"x"}}`, false},
		{"malformed list", `{"public_key":"x","public_keys":[7,"x",{"public_key":[]}]}`, false},
		{"short", `{"public_key":"AAAA"}`, false},
	}
	for _, tt := range tests {
		r := newRoom(t, version(t, "11"))
		invite := third(nobody, `"mxid":"@nobody:c.org","token":"t"`)(r)
		r.set(r.ev(event.TypeThirdPartyInvite, "t", mod, tt.content))
		if err := Check(invite, r.lookup); (err == nil) != tt.allowed {
			t.Errorf("%s: got %v, want allowed %v", tt.name, err, tt.allowed)
		}
	}
}

// However many signatures an invite carries, only some are tried.
func TestThirdPartyWorkIsLimited(t *testing.T) {
	signed, err := signing.SignJSON([]byte(`{"mxid":"@nobody:c.org","token":"t"}`), "zzz.org", identityKey)
	if err != nil {
		t.Fatal(err)
	}
	wrong := signing.EncodeBase64(make([]byte, 64))
	for i := range maxInviteSignatures {
		if signed, err = signing.AddSignature(signed, matrix.ServerName(fmt.Sprintf("s%02d.org", i)), "ed25519:0", wrong); err != nil {
			t.Fatal(err)
		}
	}
	if anySignatureMatches(signed, inviteKeys([]byte(fmt.Sprintf(`{"public_key":%q}`, signing.EncodeBase64(identityKey.Public()))))) {
		t.Errorf("got the signature after %d wrong ones, want none looked at", maxInviteSignatures)
	}
}

func TestMayRedact(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		l := Levels(v, r.state[createKey], r.state[powerLevelsKey])
		target := r.msg(event.TypeMessage, bob, `{}`)
		redaction := func(sender string, of matrix.EventID, room matrix.RoomID) *event.Event {
			content := fmt.Sprintf(`{"redacts":%q}`, of)
			return r.make(fields{typ: event.TypeRedaction, sender: sender, content: content, redacts: of, room: room})
		}
		notice := r.make(fields{typ: event.TypeMessage, sender: mod, content: `{}`, redacts: target.ID})
		tests := []struct {
			name      string
			redaction *event.Event
			want      bool
		}{
			{"level", redaction(mod, target.ID, ""), true},
			{"same server", redaction(dave, target.ID, ""), true},
			{"neither", redaction(nobody, target.ID, ""), v.RedactionRule},
			{"other target", redaction(mod, "$other", ""), false},
			{"other room", redaction(mod, target.ID, "!other:a.org"), false},
			{"no redaction", notice, false},
		}
		for _, tt := range tests {
			if got := MayRedact(tt.redaction, target, &l); got != tt.want {
				t.Errorf("version %s, %s: got %v, want %v", v.ID, tt.name, got, tt.want)
			}
		}
		self := r.load("$self", fields{typ: event.TypeRedaction, sender: mod, content: `{"redacts":"$self"}`, redacts: "$self"})
		if MayRedact(self, self, &l) {
			t.Errorf("version %s: got an event that redacts itself, want it not to", v.ID)
		}
	}
}

// FuzzCheck looks for panics: the content of the event and of the state that it
// is checked against may be anything, as long as it is canonical JSON.
func FuzzCheck(f *testing.F) {
	types := []string{event.TypeCreate, event.TypeMember, event.TypePowerLevels, event.TypeJoinRules,
		event.TypeThirdPartyInvite, event.TypeRedaction, event.TypeAliases, event.TypeMessage}
	f.Add(uint8(0), uint8(1), true, bob, `{"membership":"join"}`, `{"creator":"@alice:a.org"}`, `{"join_rule":"public"}`)
	f.Add(uint8(11), uint8(2), true, "", levelsContent, `{"additional_creators":["@x:y"]}`, `{"users":{"@bob:b.org":"5"}}`)
	f.Add(uint8(9), uint8(1), true, dave, `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@dave:b.org","token":"t","signatures":{}}}}`, `{}`, `{"public_keys":[{"public_key":"AAAA"}]}`)
	f.Add(uint8(4), uint8(2), true, "", `{"users":{"@bob:b.org":1.5}}`, `{"m.federate":false}`, `{"ban":"x","users":[]}`)
	f.Add(uint8(7), uint8(1), true, frank, `{"membership":"join","join_authorised_via_users_server":"@"}`, `{}`, `{"join_rule":"restricted"}`)
	f.Fuzz(func(t *testing.T, ver, typ uint8, isState bool, stateKey, content, create, others string) {
		all := event.Versions()
		v := all[int(ver)%len(all)]
		for _, s := range []string{content, create, others} {
			if b, err := canonical.JSON([]byte(s), v.JSON); err != nil || b[0] != '{' {
				return
			}
		}
		r := newRoom(t, v)
		r.create(create)
		for _, key := range []event.Key{powerLevelsKey, joinRulesKey, memberKey(bob), {Type: event.TypeThirdPartyInvite, StateKey: "t"}} {
			r.set(r.ev(key.Type, key.StateKey, bob, others))
		}
		probe := r.msg(types[int(typ)%len(types)], bob, content)
		if isState {
			obj := canonical.AppendWith(nil, probe.JSON, "state_key", canonical.AppendString(nil, stateKey))
			var err error
			if probe, err = event.Load(v, probe.ID, obj); err != nil {
				t.Fatal(err)
			}
		}
		if err := Check(probe, r.lookup); err != nil {
			ruleOf(t, err)
		}
		if err := CheckAuthEvents(probe, []*event.Event{r.state[createKey], r.state[powerLevelsKey]}, nil); err != nil {
			ruleOf(t, err)
		}
		keys := Needed(v, probe.Type, stateKey, bob, probe.Content)
		for i, k := range keys {
			if slices.Contains(keys[:i], k) {
				t.Fatalf("got %v twice in %v", k, keys)
			}
		}
	})
}

func BenchmarkCheckMessage(b *testing.B) {
	r := newRoom(b, version(b, "12"))
	e := r.msg(event.TypeMessage, bob, `{"body":"hello","msgtype":"m.text"}`)
	kept := Levels(r.v, r.state[createKey], r.state[powerLevelsKey])
	run := func(name string, levels *PowerLevels) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckWith(e, r.lookup, levels); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("kept levels", &kept)
	run("parsed levels", nil)
}

func BenchmarkCheckJoin(b *testing.B) {
	r := newRoom(b, version(b, "12"))
	e := r.member(dave, dave, "join")
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(e, r.lookup); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNeeded(b *testing.B) {
	v := version(b, "12")
	content := []byte(`{"membership":"join"}`)
	b.ReportAllocs()
	for b.Loop() {
		Needed(v, event.TypeMember, bob, bob, content)
	}
}
