package event

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// message is a valid event of the versions 3 to 12 but for its content hash,
// with fields replaced ("" removes one) by raw JSON.
func message(v *Version, changes ...string) string {
	fields := map[string]string{
		"auth_events":      `["$auth"]`,
		"content":          `{"body":"hello","msgtype":"m.text"}`,
		"depth":            `7`,
		"hashes":           `{"sha256":"AAAA"}`,
		"origin_server_ts": `1700000000000`,
		"prev_events":      `["$prev"]`,
		"room_id":          `"!room:example.org"`,
		"sender":           `"@alice:example.org"`,
		"signatures":       `{"example.org":{"ed25519:1":"AAAA"}}`,
		"type":             `"m.room.message"`,
	}
	if v.RoomIDs == CreateHashRoomIDs {
		fields["room_id"] = `"!` + strings.Repeat("A", 43) + `"`
	}
	if v.References == HashedReferences {
		fields["auth_events"] = `[["$auth:example.org",{"sha256":"AAAA"}]]`
		fields["prev_events"] = `[["$prev:example.org",{"sha256":"AAAA"}]]`
		fields["event_id"] = `"$event:example.org"`
	}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	var members []string
	for key, raw := range fields {
		if raw != "" {
			members = append(members, fmt.Sprintf("%q:%s", key, raw))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// hashed puts the right content hash into an event.
func hashed(t testing.TB, v *Version, raw string) string {
	t.Helper()
	obj, err := canonical.JSON([]byte(raw), v.JSON)
	if err != nil {
		t.Fatal(err)
	}
	hash := contentHash(obj)
	value := fmt.Sprintf(`{"sha256":"%s"}`, signing.EncodeBase64(hash[:]))
	return string(canonical.AppendWith(nil, obj, "hashes", []byte(value)))
}

func TestParseRefuses(t *testing.T) {
	ids := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(`"$e",`, n), ",") + "]" }
	tests := []struct {
		name    string
		version matrix.RoomVersion
		raw     func(v *Version) string
		code    matrix.ErrorCode
	}{
		{"no JSON", "11", func(*Version) string { return `{"type":` }, matrix.NotJSON},
		{"no object", "11", func(*Version) string { return `[1]` }, matrix.BadJSON},
		{"no text", "11", func(*Version) string { return `` }, matrix.NotJSON},
		{"no type", "11", change("type", ""), matrix.BadJSON},
		{"no sender", "11", change("sender", ""), matrix.BadJSON},
		{"no content", "11", change("content", ""), matrix.BadJSON},
		{"no timestamp", "11", change("origin_server_ts", ""), matrix.BadJSON},
		{"no depth", "11", change("depth", ""), matrix.BadJSON},
		{"no prev events", "11", change("prev_events", ""), matrix.BadJSON},
		{"no auth events", "11", change("auth_events", ""), matrix.BadJSON},
		{"no hashes", "11", change("hashes", ""), matrix.BadJSON},
		{"no signatures", "11", change("signatures", ""), matrix.BadJSON},
		{"no room ID", "11", change("room_id", ""), matrix.BadJSON},
		{"no room ID in 12", "12", change("room_id", ""), matrix.BadJSON},
		{"no event ID in 1", "1", change("event_id", ""), matrix.BadJSON},
		{"type a number", "11", change("type", "1"), matrix.BadJSON},
		{"state key null", "11", change("state_key", "null"), matrix.BadJSON},
		{"content a list", "11", change("content", "[]"), matrix.BadJSON},
		{"depth a string", "11", change("depth", `"1"`), matrix.BadJSON},
		{"depth negative", "11", change("depth", "-1"), matrix.BadJSON},
		{"depth above 2^53-1", "11", change("depth", "9007199254740992"), matrix.BadJSON},
		{"depth above 2^63-1 in 5", "5", change("depth", "9223372036854775808"), matrix.BadJSON},
		{"timestamp a float in 5", "5", change("origin_server_ts", "1.5"), matrix.BadJSON},
		{"float", "6", change("content", `{"n":1.5}`), matrix.BadJSON},
		{"key twice", "6", change("content", `{"n":1,"n":2}`), matrix.BadJSON},
		{"prev events an object", "11", change("prev_events", "{}"), matrix.BadJSON},
		{"prev event a number", "11", change("prev_events", "[1]"), matrix.BadJSON},
		{"prev event no ID", "11", change("prev_events", `["prev"]`), matrix.BadJSON},
		{"auth event no ID", "11", change("auth_events", `["auth"]`), matrix.BadJSON},
		{"prev event a pair in 3", "3", change("prev_events", `[["$e",{}]]`), matrix.BadJSON},
		{"prev event no pair in 2", "2", change("prev_events", `["$e:x"]`), matrix.BadJSON},
		{"prev event alone in 2", "2", change("prev_events", `[["$e:x"]]`), matrix.BadJSON},
		{"prev event a triple in 2", "2", change("prev_events", `[["$e:x",{},{}]]`), matrix.BadJSON},
		{"21 prev events", "11", change("prev_events", ids(21)), matrix.TooLarge},
		{"11 auth events", "11", change("auth_events", ids(11)), matrix.TooLarge},
		{"type of 256 bytes", "11", change("type", `"`+strings.Repeat("x", 256)+`"`), matrix.TooLarge},
		{"state key of 256 bytes", "11", change("state_key", `"`+strings.Repeat("x", 256)+`"`), matrix.TooLarge},
		{"sender of 256 bytes", "11", change("sender", `"@`+strings.Repeat("x", 251)+`:x.y"`), matrix.BadJSON},
		{"sender no user ID", "11", change("sender", `"alice"`), matrix.BadJSON},
		{"room ID no room ID", "11", change("room_id", `"room"`), matrix.BadJSON},
		{"room ID of 12 in 11", "11", change("room_id", `"!`+strings.Repeat("A", 43)+`"`), matrix.BadJSON},
		{"room ID of 11 in 12", "12", change("room_id", `"!room:example.org"`), matrix.BadJSON},
		{"room ID in a create event of 12", "12", change("type", `"m.room.create"`, "state_key", `""`), matrix.BadJSON},
		{"event ID without server in 2", "2", change("event_id", `"$hash"`), matrix.BadJSON},
		{"no sha256", "11", change("hashes", `{"md5":"AAAA"}`), matrix.BadJSON},
		{"sha256 a number", "11", change("hashes", `{"sha256":1}`), matrix.BadJSON},
		{"signatures of a server no object", "11", change("signatures", `{"x":"y"}`), matrix.BadJSON},
		{"signature no string", "11", change("signatures", `{"x":{"ed25519:1":1}}`), matrix.BadJSON},
		{"65,537 bytes", "11", sized(MaxBytes + 1), matrix.TooLarge},
		{"very long", "11", change("unsigned", `"`+strings.Repeat("x", maxRawBytes)+`"`), matrix.TooLarge},
	}
	for _, tt := range tests {
		v := version(t, tt.version)
		_, err := Parse(v, []byte(tt.raw(v)))
		var e *matrix.Error
		if !errors.As(err, &e) || e.Code != tt.code || e.Message == "" {
			t.Errorf("%s: got error %v, want code %s with a text", tt.name, err, tt.code)
		}
	}
}

func change(changes ...string) func(*Version) string {
	return func(v *Version) string { return message(v, changes...) }
}

// sized makes an event whose canonical form has n bytes.
func sized(n int) func(*Version) string {
	return func(v *Version) string {
		// A content hash of the usual length, so that hashed changes nothing.
		hash := `{"sha256":"` + strings.Repeat("A", 43) + `"}`
		rest := len(message(v, "content", `{"body":""}`, "hashes", hash))
		return message(v, "hashes", hash, "content", `{"body":"`+strings.Repeat("x", n-rest)+`"}`)
	}
}

// Up to version 10 there are events whose texts were counted in characters.
func TestParseTooLong(t *testing.T) {
	long := strings.Repeat("\U0001F4A5", 70) // 280 bytes
	for _, tt := range []struct {
		name    string
		version matrix.RoomVersion
		raw     func(v *Version) string
		tooLong bool
		code    matrix.ErrorCode
	}{
		{"state key of 280 bytes", "10", change("state_key", `"`+long+`"`), true, ""},
		{"type of 280 bytes", "1", change("type", `"`+long+`"`), true, ""},
		{"redacted on the way", "10", change("state_key", `"`+long+`"`, "hashes", `{"sha256":"`+strings.Repeat("A", 43)+`"}`), true, ""},
		{"state key of 255 bytes", "10", change("state_key", `"`+strings.Repeat("x", 255)+`"`), false, ""},
		{"state key of 280 bytes in 11", "11", change("state_key", `"`+long+`"`), false, matrix.TooLarge},
		{"state key of 256 characters", "10", change("state_key", `"`+strings.Repeat("x", 256)+`"`), false, matrix.TooLarge},
		{"type of 256 characters", "10", change("type", `"`+strings.Repeat("x", 256)+`"`, "state_key", `"`+long+`"`), false, matrix.TooLarge},
	} {
		v := version(t, tt.version)
		ev, err := Parse(v, []byte(tt.raw(v)))
		if matrix.CodeOf(err) != tt.code && (tt.code != "" || err != nil) {
			t.Errorf("%s: got error %v, want code %q", tt.name, err, tt.code)
		}
		if err == nil && ev.TooLong != tt.tooLong {
			t.Errorf("%s: too long: got %v, want %v", tt.name, ev.TooLong, tt.tooLong)
		}
	}
}

// What comes as history may follow more events than an event may today.
func TestParseHistory(t *testing.T) {
	ids := "[" + strings.TrimSuffix(strings.Repeat(`"$e",`, 200), ",") + "]"
	v := version(t, "11")
	for _, raw := range []string{message(v, "prev_events", ids), message(v, "auth_events", ids)} {
		if _, err := Parse(v, []byte(raw)); matrix.CodeOf(err) != matrix.TooLarge {
			t.Errorf("as it comes: got %v, want it too large", err)
		}
		ev, err := ParseHistory(v, []byte(raw))
		if err != nil || len(ev.PrevEvents)+len(ev.AuthEvents) < 200 {
			t.Errorf("as history: got %v, want all that it names", err)
		}
	}
	for _, bad := range []string{`{"type":`, message(v, "depth", "-1"), message(v, "type", `"`+strings.Repeat("x", 256)+`"`)} {
		if _, err := ParseHistory(v, []byte(bad)); err == nil {
			t.Errorf("%.80s: no error", bad)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	ids := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(`"$e",`, n), ",") + "]" }
	tests := []struct {
		name    string
		version matrix.RoomVersion
		raw     func(v *Version) string
	}{
		{"65,536 bytes", "11", sized(MaxBytes)},
		{"20 prev events", "11", change("prev_events", ids(20))},
		{"10 auth events", "11", change("auth_events", ids(10))},
		{"type of 255 bytes", "11", change("type", `"`+strings.Repeat("x", 255)+`"`)},
		{"state key of 255 bytes", "11", change("state_key", `"`+strings.Repeat("x", 255)+`"`)},
		{"unsigned does not count", "11", change("unsigned", `{"x":"`+strings.Repeat("x", MaxBytes)+`"}`)},
		{"depth of 2^53-1", "11", change("depth", "9007199254740991")},
		{"depth of 2^63-1 in 5", "5", change("depth", "9223372036854775807")},
		{"float in 5", "5", change("content", `{"n":1.5}`)},
		{"key twice in 5", "5", change("content", `{"n":1,"n":2}`)},
		{"pairs in 2", "2", change("prev_events", `[["$e:x",{"sha256":"AAAA"}],["$f:x",{"sha256":"AAAA"}]]`)},
		{"redacts no string in 10", "10", change("type", `"m.room.redaction"`, "redacts", `[1]`)},
		{"historical sender", "11", change("sender", `"@Älice:example.org"`)},
		{"U+0000", "11", change("content", `{"body":"\u0000"}`)},
	}
	for _, tt := range tests {
		v := version(t, tt.version)
		e, err := Parse(v, []byte(hashed(t, v, tt.raw(v))))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if e.Redacted {
			t.Errorf("%s: got the redacted form, want the whole event", tt.name)
		}
	}
}

func TestParseFields(t *testing.T) {
	for _, v := range Versions() {
		raw := hashed(t, v, message(v, "type", `"m.room.member"`, "state_key", `"@bob:example.org"`,
			"content", `{"membership":"invite"}`, "unsigned", `{"age":5}`))
		e, err := Parse(v, []byte(raw))
		if err != nil {
			t.Fatalf("version %s: %v", v.ID, err)
		}
		if e.Type != TypeMember || e.Sender != "@alice:example.org" || *e.StateKey != "@bob:example.org" ||
			e.Depth != 7 || e.OriginServerTS != 1700000000000 || len(e.PrevEvents) != 1 || len(e.AuthEvents) != 1 {
			t.Errorf("version %s: got %+v", v.ID, e)
		}
		if e.Membership() != Invite || e.Target() != "@bob:example.org" || !e.IsState() ||
			e.StateID() != (Key{TypeMember, "@bob:example.org"}) {
			t.Errorf("version %s: got membership %q of %q at %v", v.ID, e.Membership(), e.Target(), e.StateID())
		}
		if canonical.Get(e.JSON, "unsigned") != nil {
			t.Errorf("version %s: got unsigned kept, want it dropped: %s", v.ID, e.JSON)
		}
		if string(e.Content) != `{"membership":"invite"}` {
			t.Errorf("version %s: got content %s", v.ID, e.Content)
		}
		checkLoaded(t, e)
	}
}

// checkLoaded compares an event with what Load makes of its JSON.
func checkLoaded(t *testing.T, want *Event) {
	t.Helper()
	got, err := Load(want.Version, want.ID, want.JSON)
	if err != nil {
		t.Errorf("load %s: %v", want.ID, err)
		return
	}
	loaded := *want
	loaded.Redacted = false // Load does not know
	if g, w := fmt.Sprintf("%+v", describe(got)), fmt.Sprintf("%+v", describe(&loaded)); g != w {
		t.Errorf("version %s: load:\ngot  %s\nwant %s", want.Version.ID, g, w)
	}
}

// describe makes an event comparable: no pointers.
func describe(e *Event) any {
	key := "(none)"
	if e.StateKey != nil {
		key = *e.StateKey
	}
	return []any{e.ID, e.Version.ID, e.RoomID, e.Type, e.Sender, key, string(e.Content), e.PrevEvents,
		e.AuthEvents, e.Depth, e.OriginServerTS, e.Redacts, string(e.JSON), e.Redacted, e.membership}
}

func TestParseRedactsOnWrongHash(t *testing.T) {
	for _, v := range Versions() {
		raw := hashed(t, v, message(v))
		whole, err := Parse(v, []byte(raw))
		if err != nil {
			t.Fatalf("version %s: %v", v.ID, err)
		}
		changed, err := Parse(v, []byte(strings.Replace(raw, "hello", "bye", 1)))
		if err != nil {
			t.Fatalf("version %s: %v", v.ID, err)
		}
		if whole.Redacted || !changed.Redacted || string(changed.Content) != "{}" {
			t.Errorf("version %s: got redacted %v and %v, content %s; want false, true, {}",
				v.ID, whole.Redacted, changed.Redacted, changed.Content)
		}
		if changed.ID != whole.ID {
			t.Errorf("version %s: got ID %s of the redacted form, want %s", v.ID, changed.ID, whole.ID)
		}
		if string(changed.JSON) != string(whole.RedactedJSON()) {
			t.Errorf("version %s: got %s, want %s", v.ID, changed.JSON, whole.RedactedJSON())
		}
	}
}

func TestRedactsField(t *testing.T) {
	tests := []struct {
		version matrix.RoomVersion
		typ     string
		content string
		top     string
		want    matrix.EventID
	}{
		{"10", TypeRedaction, `{}`, `"$target"`, "$target"},
		{"10", TypeRedaction, `{"redacts":"$other"}`, `"$target"`, "$target"},
		{"10", TypeMessage, `{}`, `"$target"`, ""},
		{"11", TypeRedaction, `{"redacts":"$target"}`, `"$other"`, "$target"},
		{"11", TypeRedaction, `{}`, `"$other"`, ""},
		{"11", TypeRedaction, `{"redacts":5}`, ``, ""},
		{"12", TypeRedaction, `{"redacts":"$target"}`, ``, "$target"},
	}
	for _, tt := range tests {
		v := version(t, tt.version)
		raw := hashed(t, v, message(v, "type", `"`+tt.typ+`"`, "content", tt.content, "redacts", tt.top))
		e, err := Parse(v, []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if e.Redacts != tt.want {
			t.Errorf("version %s, %s %s with %s: got redacts %q, want %q", tt.version, tt.typ, tt.content, tt.top, e.Redacts, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	rooms, _ := roomVectors(f)
	for _, room := range rooms {
		for _, vec := range room.Events {
			f.Add(string(room.Version), []byte(vec.PDU))
		}
	}
	for _, v := range Versions() {
		f.Add(string(v.ID), []byte(hashed(f, v, message(v))))
		f.Add(string(v.ID), []byte(message(v, "type", `"m.room.create"`, "state_key", `""`, "room_id", "")))
	}
	f.Fuzz(func(t *testing.T, id string, raw []byte) {
		v, ok := VersionOf(matrix.RoomVersion(id))
		if !ok {
			return
		}
		ClaimedRoom(raw)
		ClaimedID(v, raw)
		e, err := Parse(v, raw)
		if err != nil {
			var me *matrix.Error
			if !errors.As(err, &me) {
				t.Fatalf("got error %v of type %T, want a *matrix.Error", err, err)
			}
			return
		}
		checkParsed(t, e)
	})
}

// checkParsed holds what is promised of every parsed event.
func checkParsed(t *testing.T, e *Event) {
	t.Helper()
	checkLoaded(t, e)
	e.RequiredSigners()
	e.SignedBy(e.Sender.Server())
	if got := ClaimedRoom(e.JSON); got != e.RoomID && e.RoomID != matrix.RoomID("!"+e.ID[1:]) {
		t.Fatalf("got %q for its room, want %q: %s", got, e.RoomID, e.JSON)
	}
	again, err := Parse(e.Version, e.JSON)
	if err != nil {
		t.Fatalf("parse of parsed: %v: %s", err, e.JSON)
	}
	if again.ID != e.ID || string(again.JSON) != string(e.JSON) {
		t.Fatalf("parse of parsed: got %s %s, want %s %s", again.ID, again.JSON, e.ID, e.JSON)
	}
	redacted, err := Parse(e.Version, e.RedactedJSON())
	if err != nil {
		t.Fatalf("parse of redacted: %v: %s", err, e.RedactedJSON())
	}
	if redacted.ID != e.ID || string(redacted.JSON) != string(e.RedactedJSON()) {
		t.Fatalf("parse of redacted: got %s %s, want %s %s", redacted.ID, redacted.JSON, e.ID, e.RedactedJSON())
	}
}
