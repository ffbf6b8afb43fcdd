package event

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

const testSeed = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"

// proto is a message that can be built in version v.
func proto(v *Version) Proto {
	p := Proto{
		Type: TypeMessage, Sender: "@alice:example.org", RoomID: "!room:example.org",
		Content:    []byte(`{ "msgtype": "m.text", "body": "hello <&> \u65e5" }`),
		PrevEvents: []matrix.EventID{"$prev:example.org"},
		AuthEvents: []matrix.EventID{"$auth:example.org", "$levels:example.org", "$member:example.org"},
		Depth:      7, OriginServerTS: 1700000000000,
		ReferenceHashes: map[matrix.EventID][sha256.Size]byte{
			"$prev:example.org": {1}, "$auth:example.org": {2}, "$levels:example.org": {3}, "$member:example.org": {4},
		},
	}
	if v.RoomIDs == CreateHashRoomIDs {
		p.RoomID = matrix.RoomID("!" + strings.Repeat("A", 43))
	}
	return p
}

func TestBuildThenParse(t *testing.T) {
	key := keyOf(t, testSeed)
	stateKey := "@bob:\u00e9\"x"
	kinds := map[string]func(*Proto){
		"message":   func(*Proto) {},
		"state":     func(p *Proto) { p.Type, p.StateKey = "x.y", &stateKey },
		"redaction": func(p *Proto) { p.Type, p.Redacts = TypeRedaction, "$target:example.org" },
		"member": func(p *Proto) {
			p.Type, p.StateKey, p.Content = TypeMember, &stateKey, []byte(`{"membership":"join"}`)
		},
	}
	for _, v := range Versions() {
		for name, kind := range kinds {
			p := proto(v)
			kind(&p)
			built, err := Build(v, p, "example.org", key)
			if err != nil {
				t.Errorf("version %s, %s: build: %v", v.ID, name, err)
				continue
			}
			parsed, err := Parse(v, built.JSON)
			if err != nil {
				t.Errorf("version %s, %s: parse: %v", v.ID, name, err)
				continue
			}
			if got, want := fmt.Sprint(describe(parsed)), fmt.Sprint(describe(built)); got != want {
				t.Errorf("version %s, %s: parsed differs from built:\ngot  %s\nwant %s", v.ID, name, got, want)
			}
			if err := VerifySignature(parsed, "example.org", key.ID(), key.Public()); err != nil {
				t.Errorf("version %s, %s: %v", v.ID, name, err)
			}
			if parsed.Redacts != p.Redacts {
				t.Errorf("version %s, %s: got redacts %q, want %q", v.ID, name, parsed.Redacts, p.Redacts)
			}
		}
	}
}

func TestBuildCreate(t *testing.T) {
	key, empty := keyOf(t, testSeed), ""
	for _, v := range Versions() {
		p := Proto{
			Type: TypeCreate, StateKey: &empty, Sender: "@alice:example.org", RoomID: "!room:example.org",
			Content: []byte(`{}`), Depth: 1, OriginServerTS: 5,
		}
		if v.RoomIDs == CreateHashRoomIDs {
			p.RoomID = ""
		}
		e, err := Build(v, p, "example.org", key)
		if err != nil {
			t.Errorf("version %s: %v", v.ID, err)
			continue
		}
		want := p.RoomID
		if want == "" {
			want = matrix.RoomID("!" + string(e.ID[1:]))
		}
		if e.RoomID != want || !strings.Contains(string(e.JSON), `"prev_events":[]`) {
			t.Errorf("version %s: got room %s, want %s; JSON %s", v.ID, e.RoomID, want, e.JSON)
		}
		checkLoaded(t, e)
	}
}

func TestBuildRefuses(t *testing.T) {
	key := keyOf(t, testSeed)
	long := strings.Repeat("x", 256)
	tests := []struct {
		name    string
		version matrix.RoomVersion
		change  func(*Proto)
		code    matrix.ErrorCode
	}{
		{"too large", "11", func(p *Proto) {
			p.Content = []byte(`{"body":"` + strings.Repeat("x", MaxBytes) + `"}`)
		}, matrix.TooLarge},
		{"type too long", "11", func(p *Proto) { p.Type = long }, matrix.TooLarge},
		{"state key too long", "11", func(p *Proto) { p.StateKey = &long }, matrix.TooLarge},
		{"sender too long", "11", func(p *Proto) { p.Sender = matrix.UserID(long) }, matrix.TooLarge},
		{"room ID too long", "11", func(p *Proto) { p.RoomID = matrix.RoomID(long) }, matrix.TooLarge},
		{"21 prev events", "11", func(p *Proto) { p.PrevEvents = make([]matrix.EventID, 21) }, matrix.TooLarge},
		{"11 auth events", "11", func(p *Proto) { p.AuthEvents = make([]matrix.EventID, 11) }, matrix.TooLarge},
		{"content no object", "11", func(p *Proto) { p.Content = []byte(`[]`) }, matrix.BadJSON},
		{"content no JSON", "11", func(p *Proto) { p.Content = []byte(`{`) }, matrix.NotJSON},
		{"float", "11", func(p *Proto) { p.Content = []byte(`{"n":1.5}`) }, matrix.BadJSON},
		{"float in 1", "1", func(p *Proto) { p.Content = []byte(`{"n":1.5}`) }, matrix.BadJSON},
		{"no room ID", "11", func(p *Proto) { p.RoomID = "" }, matrix.BadJSON},
		{"room ID of a create event in 12", "12", func(p *Proto) { p.Type = TypeCreate }, matrix.BadJSON},
		{"no reference hash in 2", "2", func(p *Proto) { p.ReferenceHashes = nil }, matrix.Unknown},
	}
	for _, tt := range tests {
		v := version(t, tt.version)
		p := proto(v)
		tt.change(&p)
		_, err := Build(v, p, "example.org", key)
		if got := matrix.CodeOf(err); got != tt.code {
			t.Errorf("%s: got %v, want code %s", tt.name, err, tt.code)
		}
	}
}

// What Build was given may be used again, for another event.
func TestBuildKeepsNothing(t *testing.T) {
	v, key, stateKey := version(t, "11"), keyOf(t, testSeed), "one"
	p := proto(v)
	p.StateKey = &stateKey
	e, err := Build(v, p, "example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(describe(e))
	stateKey, p.PrevEvents[0], p.AuthEvents[0] = "two", "$x", "$x"
	clear(p.Content)
	if got := fmt.Sprint(describe(e)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestBuildClampsDepth(t *testing.T) {
	key := keyOf(t, testSeed)
	for _, v := range Versions() {
		p := proto(v)
		p.Depth = 1<<63 - 1
		e, err := Build(v, p, "example.org", key)
		if err != nil {
			t.Fatal(err)
		}
		if e.Depth != v.MaxDepth {
			t.Errorf("version %s: got depth %d, want %d", v.ID, e.Depth, v.MaxDepth)
		}
	}
}

func TestRequiredSigners(t *testing.T) {
	const (
		join  = `{"membership":"join","join_authorised_via_users_server":"@bob:b.org"}`
		third = `{"membership":"invite","third_party_invite":{"signed":{}}}`
	)
	tests := []struct {
		name             string
		version          matrix.RoomVersion
		typ, id, content string
		want             []matrix.ServerName
	}{
		{"message", "11", TypeMessage, "", `{}`, []matrix.ServerName{"a.org"}},
		{"message with other event ID in 2", "2", TypeMessage, "$e:c.org", `{}`, []matrix.ServerName{"a.org", "c.org"}},
		{"message with own event ID in 2", "2", TypeMessage, "$e:a.org", `{}`, []matrix.ServerName{"a.org"}},
		{"restricted join", "8", TypeMember, "", join, []matrix.ServerName{"a.org", "b.org"}},
		{"restricted join before 8", "7", TypeMember, "", join, []matrix.ServerName{"a.org"}},
		{"restricted join by own server", "8", TypeMember, "", strings.Replace(join, "b.org", "a.org", 1), []matrix.ServerName{"a.org"}},
		{"message with that field", "8", TypeMessage, "", join, []matrix.ServerName{"a.org"}},
		{"third-party invite", "11", TypeMember, "", third, nil},
		{"third-party invite in 2", "2", TypeMember, "$e:c.org", third, []matrix.ServerName{"c.org"}},
		{"message like a third-party invite", "11", TypeMessage, "", third, []matrix.ServerName{"a.org"}},
		{"invite", "11", TypeMember, "", `{"membership":"invite"}`, []matrix.ServerName{"a.org"}},
	}
	for _, tt := range tests {
		v := version(t, tt.version)
		changes := []string{"sender", `"@alice:a.org"`, "type", `"` + tt.typ + `"`, "state_key", `"@x:a.org"`, "content", tt.content}
		if tt.id != "" {
			changes = append(changes, "event_id", `"`+tt.id+`"`)
		}
		e, err := Parse(v, []byte(hashed(t, v, message(v, changes...))))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := e.RequiredSigners(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A third-party invite whose content hash is wrong loses, before version 11,
// what exempts it: then the sender's signature must be asked for again.
func TestWrongHashIsNoExemption(t *testing.T) {
	v := version(t, "10")
	e, err := Parse(v, []byte(message(v, "type", `"m.room.member"`, "state_key", `"@x:a.org"`,
		"content", `{"membership":"invite","third_party_invite":{"signed":{}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := e.RequiredSigners(), []matrix.ServerName{"example.org"}; !e.Redacted || !slices.Equal(got, want) {
		t.Errorf("got redacted %v with signers %v, want true with %v", e.Redacted, got, want)
	}
}

func TestSign(t *testing.T) {
	key := keyOf(t, testSeed)
	other, err := signing.NewKey("ed25519:other", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Versions() {
		e, err := Build(v, proto(v), "example.org", key)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := e.Sign("b.org", other)
		if err != nil {
			t.Fatalf("version %s: %v", v.ID, err)
		}
		if signed.ID != e.ID || len(e.SignedBy("b.org")) != 0 {
			t.Errorf("version %s: got ID %s and the first event signed by %v, want %s and none", v.ID, signed.ID, e.SignedBy("b.org"), e.ID)
		}
		if got, want := signed.SignedBy("b.org"), []signing.KeyID{"ed25519:other"}; !slices.Equal(got, want) {
			t.Errorf("version %s: got signed by %v, want %v", v.ID, got, want)
		}
		for server, k := range map[matrix.ServerName]signing.Key{"example.org": key, "b.org": other} {
			if err := VerifySignature(signed, server, k.ID(), k.Public()); err != nil {
				t.Errorf("version %s: %v", v.ID, err)
			}
		}
		if err := VerifySignature(signed, "b.org", other.ID(), key.Public()); matrix.CodeOf(err) != matrix.InvalidSignature {
			t.Errorf("version %s: wrong key: got %v, want %s", v.ID, err, matrix.InvalidSignature)
		}
		if err := VerifySignature(signed, "c.org", other.ID(), key.Public()); matrix.CodeOf(err) != matrix.InvalidSignature {
			t.Errorf("version %s: no signature: got %v, want %s", v.ID, err, matrix.InvalidSignature)
		}
	}
}

// What further signatures make too large is not signed.
func TestSignTooLarge(t *testing.T) {
	key := keyOf(t, testSeed)
	v := version(t, "11")
	p := proto(v)
	e, err := Build(v, p, "example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	p.Content = []byte(`{"x":"` + strings.Repeat("x", MaxBytes-len(e.JSON)+len(p.Content)-40) + `"}`)
	if e, err = Build(v, p, "example.org", key); err != nil {
		t.Fatal(err)
	}
	if signed, err := e.Sign("b.org", key); matrix.CodeOf(err) != matrix.TooLarge {
		t.Errorf("got %v, %v; want %s", signed, err, matrix.TooLarge)
	}
}

func TestAuthorities(t *testing.T) {
	for _, v := range Versions() {
		p := proto(v)
		e, err := Build(v, p, "example.org", keyOf(t, testSeed))
		if err != nil {
			t.Fatal(err)
		}
		want := p.AuthEvents
		if v.RoomIDs == CreateHashRoomIDs {
			want = append(slices.Clip(want), "$"+matrix.EventID(p.RoomID[1:]))
		}
		if got := e.Authorities(); !slices.Equal(got, want) || len(e.AuthEvents) != len(p.AuthEvents) {
			t.Errorf("version %s: got %v, want %v", v.ID, got, want)
		}
	}
}

// What is left of a third-party invite, which may be anything when others write it.
func TestRedactedThirdPartyInvite(t *testing.T) {
	for invite, want := range map[string]string{
		`{"display_name":"n","signed":{"token":"t"}}`: `{"membership":"join","third_party_invite":{"signed":{"token":"t"}}}`,
		`{"display_name":"n"}`:                        `{"membership":"join","third_party_invite":{}}`,
		`"signed"`:                                    `{"membership":"join"}`,
		`["signed"]`:                                  `{"membership":"join"}`,
	} {
		for _, id := range []matrix.RoomVersion{"10", "11", "12"} {
			v := version(t, id)
			p := proto(v)
			alice := string(p.Sender)
			p.Type, p.StateKey, p.Content = TypeMember, &alice, []byte(`{"membership":"join","third_party_invite":`+invite+`}`)
			e, err := Build(v, p, "example.org", keyOf(t, testSeed))
			if err != nil {
				t.Fatal(err)
			}
			expect := want
			if id == "10" {
				expect = `{"membership":"join"}`
			}
			if got := canonical.Get(e.RedactedJSON(), "content"); string(got) != expect {
				t.Errorf("version %s, %s: got %s, want %s", id, invite, got, expect)
			}
		}
	}
}

func TestVersionOf(t *testing.T) {
	if v, ok := VersionOf("13"); ok {
		t.Errorf("got version %s for 13, want none", v.ID)
	}
	for i, v := range Versions() {
		if got, ok := VersionOf(v.ID); !ok || got != v || string(v.ID) != fmt.Sprint(i+1) {
			t.Errorf("version %d: got %v, %v", i+1, got.ID, ok)
		}
	}
}

func TestMembershipOfOthers(t *testing.T) {
	v := version(t, "11")
	e, err := Parse(v, []byte(message(v, "content", `{"membership":"join"}`)))
	if err != nil {
		t.Fatal(err)
	}
	if e.Membership() != "" || e.Target() != "" || e.IsState() || e.StateID() != (Key{Type: TypeMessage}) {
		t.Errorf("got membership %q of %q at %v, state %v; want none", e.Membership(), e.Target(), e.StateID(), e.IsState())
	}
}

// benchEvent is a usual message of about 700 bytes.
func benchEvent(b *testing.B) *Event {
	b.Helper()
	v := version(b, "12")
	p := proto(v)
	hash := "$" + strings.Repeat("A", 43)
	p.PrevEvents = []matrix.EventID{matrix.EventID(hash)}
	p.AuthEvents = []matrix.EventID{matrix.EventID(hash), matrix.EventID(hash)}
	p.Content = []byte(`{"body":"The quick brown fox jumps over the lazy dog, again and again.","m.mentions":{},"msgtype":"m.text"}`)
	e, err := Build(v, p, "example.org", keyOf(b, testSeed))
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkParse(b *testing.B) {
	e := benchEvent(b)
	b.SetBytes(int64(len(e.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(e.Version, e.JSON); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	e := benchEvent(b)
	b.SetBytes(int64(len(e.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(e.Version, e.ID, e.JSON); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	v, key := version(b, "12"), keyOf(b, testSeed)
	p := proto(v)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(v, p, "example.org", key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySignature(b *testing.B) {
	e, key := benchEvent(b), keyOf(b, testSeed)
	b.ReportAllocs()
	for b.Loop() {
		if err := VerifySignature(e, "example.org", key.ID(), key.Public()); err != nil {
			b.Fatal(err)
		}
	}
}
