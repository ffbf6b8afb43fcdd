package matrix_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

type vectors struct {
	ServerName  cases `json:"server_name"`
	UserID      cases `json:"user_id"`
	RoomID      cases `json:"room_id"`
	RoomAlias   cases `json:"room_alias"`
	RoomVersion cases `json:"room_version"`
	MXC         cases
	EventID     map[string][]string `json:"event_id"`
}

type cases struct {
	Valid, Invalid, Historical []string
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/identifiers.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// check parses s and compares the outcome with the one wanted.
func check[T ~string](t *testing.T, parse func(string) (T, error), s string, valid bool) {
	t.Helper()
	got, err := parse(s)
	switch {
	case valid && err != nil:
		t.Errorf("parse %q: got error %v, want none", s, err)
	case valid && string(got) != s:
		t.Errorf("parse %q: got %q, want it unchanged", s, got)
	case !valid && matrix.CodeOf(err) != matrix.InvalidParam:
		t.Errorf("parse %q: got error %v, want %s", s, err, matrix.InvalidParam)
	case !valid && got != "":
		t.Errorf("parse %q: got %q beside an error, want nothing", s, got)
	}
}

func checkAll[T ~string](t *testing.T, parse func(string) (T, error), c cases) {
	t.Helper()
	if len(c.Valid) == 0 || len(c.Invalid) == 0 {
		t.Fatal("no vectors read")
	}
	for _, s := range append(c.Valid, c.Historical...) {
		check(t, parse, s, true)
	}
	for _, s := range c.Invalid {
		check(t, parse, s, false)
	}
}

func TestIdentifierVectors(t *testing.T) {
	v := readVectors(t)
	t.Run("server name", func(t *testing.T) { checkAll(t, matrix.ParseServerName, v.ServerName) })
	t.Run("user ID", func(t *testing.T) { checkAll(t, matrix.ParseUserID, v.UserID) })
	t.Run("room ID", func(t *testing.T) { checkAll(t, matrix.ParseRoomID, v.RoomID) })
	t.Run("room alias", func(t *testing.T) { checkAll(t, matrix.ParseRoomAlias, v.RoomAlias) })
	t.Run("room version", func(t *testing.T) { checkAll(t, matrix.ParseRoomVersion, v.RoomVersion) })
	t.Run("content URI", func(t *testing.T) { checkAll(t, reparseContentURI, v.MXC) })
	t.Run("event ID", func(t *testing.T) {
		for _, ids := range v.EventID {
			for _, id := range ids {
				check(t, matrix.ParseEventID, id, true)
			}
		}
	})
}

// reparseContentURI parses a URI and writes it again.
func reparseContentURI(s string) (string, error) {
	u, err := matrix.ParseContentURI(s)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

func TestParseServerName(t *testing.T) {
	long := strings.Repeat("a", 255)
	for _, s := range []string{long, long + ":8448", "UPPER.example", "1.2.3.999", "a:0", "[::ffff:1.2.3.4]:1", "[::]"} {
		check(t, matrix.ParseServerName, s, true)
	}
	for _, s := range []string{
		long + "a", "a:b", "a:1:2", "a:-1", "a_b", "[]", "[::1", "[::1]8448", "[::1]:", "[1.2.3.4]", "[fe80::1%eth0]",
		"[example.org]", "::1", "a\x00", "a\n", " a", "a%00", "a:１",
	} {
		check(t, matrix.ParseServerName, s, false)
	}
}

func TestServerNameParts(t *testing.T) {
	for _, c := range []struct {
		name       matrix.ServerName
		host, port string
		literal    bool
	}{
		{"example.org", "example.org", "", false},
		{"example.org:8448", "example.org", "8448", false},
		{"1.2.3.4:80", "1.2.3.4", "80", true},
		{"1.2.3.999", "1.2.3.999", "", false},
		{"[::1]", "[::1]", "", true},
		{"[::1]:8448", "[::1]", "8448", true},
		{"", "", "", false},
	} {
		if got := c.name.Host(); got != c.host {
			t.Errorf("%q: got host %q, want %q", c.name, got, c.host)
		}
		if got := c.name.Port(); got != c.port {
			t.Errorf("%q: got port %q, want %q", c.name, got, c.port)
		}
		if got := c.name.IsIPLiteral(); got != c.literal {
			t.Errorf("%q: got IP literal %v, want %v", c.name, got, c.literal)
		}
	}
}

func TestUserID(t *testing.T) {
	const most = matrix.MaxIDBytes - len("@:example.org")
	for _, s := range []string{"@日本:example.org", "@a\nb:example.org", "@" + strings.Repeat("a", most) + ":example.org"} {
		check(t, matrix.ParseUserID, s, true)
	}
	for _, s := range []string{
		"@a\x00:b", "@\xff:b", "@\xed\xa0\x80:b", "@a:b:c", "a", "", "@" + strings.Repeat("a", most+1) + ":example.org",
	} {
		check(t, matrix.ParseUserID, s, false)
	}
	id := matrix.UserID("@alice:[::1]:8448")
	if id.Localpart() != "alice" || id.Server() != "[::1]:8448" {
		t.Errorf("%s: got %q and %q, want alice and [::1]:8448", id, id.Localpart(), id.Server())
	}
	if got := matrix.UserID("").Localpart(); got != "" {
		t.Errorf("zero value: got localpart %q, want none", got)
	}
	for id, want := range map[matrix.UserID]bool{
		"@alice:b": true, "@ALICE!:b": true, "@:b": false, "@a b:b": false, "@日本:b": false,
	} {
		if got := id.IsCompliant(); got != want {
			t.Errorf("%q: got compliant %v, want %v", id, got, want)
		}
	}
}

func TestNewUserID(t *testing.T) {
	const most = matrix.MaxIDBytes - len("@:example.org")
	for localpart, ok := range map[string]bool{
		"alice": true, "user.name_1=-/+": true, "0": true, strings.Repeat("a", most): true,
		"": false, "Alice": false, "a b": false, "a:b": false, "日本": false, "a\x00": false, "a!": false,
		strings.Repeat("a", most+1): false,
	} {
		id, err := matrix.NewUserID(localpart, "example.org")
		if ok && (err != nil || string(id) != "@"+localpart+":example.org") {
			t.Errorf("%q: got %q, %v, want its user ID", localpart, id, err)
		}
		if !ok && matrix.CodeOf(err) != matrix.InvalidUsername {
			t.Errorf("%q: got %q, %v, want %s", localpart, id, err, matrix.InvalidUsername)
		}
	}
}

func TestRoomID(t *testing.T) {
	hash := "!" + strings.Repeat("-_aZ0", 8) + "abc"
	for _, s := range []string{hash, "!日本:b", "!:b", "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"} {
		check(t, matrix.ParseRoomID, s, true)
	}
	for _, s := range []string{hash + "a", hash[:43], "!" + strings.Repeat("+", 43), "!a:", "!a\x00:b"} {
		check(t, matrix.ParseRoomID, s, false)
	}
	if s, ok := matrix.RoomID("!a:b:80").Server(); !ok || s != "b:80" {
		t.Errorf("got server %q, %v, want b:80, true", s, ok)
	}
	if s, ok := matrix.RoomID(hash).Server(); ok || s != "" {
		t.Errorf("got server %q, %v, want none", s, ok)
	}
}

func TestRoomAlias(t *testing.T) {
	check(t, matrix.ParseRoomAlias, "#:b", false)
	check(t, matrix.ParseRoomAlias, "#a\x00:b", false)
	a := matrix.RoomAlias("#日本:domain:8448")
	if a.Localpart() != "日本" || a.Server() != "domain:8448" {
		t.Errorf("%s: got %q and %q, want 日本 and domain:8448", a, a.Localpart(), a.Server())
	}
}

func TestEventID(t *testing.T) {
	for _, s := range []string{"$a", "$unknown", "$日本:b", "$" + strings.Repeat("a", 254)} {
		check(t, matrix.ParseEventID, s, true)
	}
	for _, s := range []string{"", "$", "a", "$a:", "$a b", "$日本", "$a\x00:b", "$" + strings.Repeat("a", 255)} {
		check(t, matrix.ParseEventID, s, false)
	}
	if s, ok := matrix.EventID("$a:b").Server(); !ok || s != "b" {
		t.Errorf("got server %q, %v, want b, true", s, ok)
	}
	if s, ok := matrix.EventID("$abc").Server(); ok {
		t.Errorf("got server %q, want none", s)
	}
}

func TestDeviceID(t *testing.T) {
	for _, s := range []string{"ABCDEF", "my phone", "日本", strings.Repeat("a", 255)} {
		check(t, matrix.ParseDeviceID, s, true)
	}
	for _, s := range []string{"", "a\x00", "\xff", strings.Repeat("a", 256)} {
		check(t, matrix.ParseDeviceID, s, false)
	}
}

func TestOpaqueIDs(t *testing.T) {
	for s, want := range map[string]bool{
		"aZ0._~-": true, strings.Repeat("a", 255): true, "": false, "a b": false, "a/b": false, strings.Repeat("a", 256): false,
	} {
		if got := matrix.ValidOpaqueID(s); got != want {
			t.Errorf("opaque ID %q: got valid %v, want %v", s, got, want)
		}
	}
	if matrix.ValidMediaID("..") || matrix.ValidMediaID("") || !matrix.ValidMediaID("aZ0_-") {
		t.Error("media IDs: got .. or nothing accepted, or aZ0_- refused")
	}
}

func TestErrorsShowLittle(t *testing.T) {
	_, err := matrix.ParseUserID(strings.Repeat("x", 100_000) + "\x00")
	if got := len(err.Error()); got > 200 {
		t.Errorf("got an error of %d bytes, want it short", got)
	}
}

// FuzzIdentifiers checks what the rest of the server takes for granted of
// every identifier that was parsed.
func FuzzIdentifiers(f *testing.F) {
	for _, s := range []string{"@a:b", "!a:[::1]:1", "#a:1.2.3.4", "$a:b", "!" + strings.Repeat("A", 43), "mxc://a/b", "a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := matrix.ParseUserID(s); err == nil {
			again := "@" + id.Localpart() + ":" + string(id.Server())
			if again != s || len(s) > matrix.MaxIDBytes {
				t.Errorf("user ID %q falls apart into %q", s, again)
			}
			check(t, matrix.ParseServerName, string(id.Server()), true)
			if made, err := matrix.NewUserID(id.Localpart(), id.Server()); err == nil && made != id {
				t.Errorf("user ID %q made anew is %q", s, made)
			}
		}
		if id, err := matrix.ParseRoomID(s); err == nil {
			if server, ok := id.Server(); ok {
				check(t, matrix.ParseServerName, string(server), true)
			}
		}
		if a, err := matrix.ParseRoomAlias(s); err == nil && "#"+a.Localpart()+":"+string(a.Server()) != s {
			t.Errorf("alias %q falls apart into %q and %q", s, a.Localpart(), a.Server())
		}
		if id, err := matrix.ParseEventID(s); err == nil && strings.ContainsRune(string(id), 0) {
			t.Errorf("event ID %q holds U+0000", s)
		}
		if name, err := matrix.ParseServerName(s); err == nil && strings.ContainsAny(name.Host(), "/@?# %") {
			t.Errorf("server name %q accepted", s)
		}
		if u, err := matrix.ParseContentURI(s); err == nil && u.String() != s {
			t.Errorf("content URI %q reads as %q", s, u)
		}
	})
}

func BenchmarkParseUserID(b *testing.B) {
	for b.Loop() {
		if _, err := matrix.ParseUserID("@alice.example:matrix.example.org:8448"); err != nil {
			b.Fatal(err)
		}
	}
}
