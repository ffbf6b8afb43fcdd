package view

import (
	"path"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern string
		match   []string
		other   []string
	}{
		{"m.room.message", []string{"m.room.message"}, []string{"m.room.messages", "m.room", "", "M.room.message"}},
		{"m.*", []string{"m.", "m.room.message"}, []string{"m", "am.room", "org.m."}},
		{"*", []string{"", "anything"}, nil},
		{"**", []string{"", "anything"}, nil},
		{"*.message", []string{"m.room.message", ".message"}, []string{"message", "m.room.message2"}},
		{"m.*.s*", []string{"m.a.s", "m.a.b.state", "m..s"}, []string{"m.s", "m.room.message"}},
		{"a*a", []string{"aa", "aba", "aaa"}, []string{"a", "ab"}},
		{"*ab*ab*", []string{"abab", "xabyabz"}, []string{"ab", "aba"}},
		{"", []string{""}, []string{"a"}},
		{"a.c?[x]", []string{"a.c?[x]"}, []string{"abcdx"}},
	} {
		for _, name := range c.match {
			if !wildcard(c.pattern, name) {
				t.Errorf("%q: does not match %q, want it to", c.pattern, name)
			}
		}
		for _, name := range c.other {
			if wildcard(c.pattern, name) {
				t.Errorf("%q: matches %q, want it not to", c.pattern, name)
			}
		}
	}
}

func FuzzWildcard(f *testing.F) {
	f.Add("a*b*c", "aXbXc")
	f.Add("*ab*ab*", "abab")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if strings.ContainsAny(pattern, `?[]\/`) || strings.Contains(name, "/") {
			return // means something to path.Match
		}
		if want, err := path.Match(pattern, name); err == nil && wildcard(pattern, name) != want {
			t.Errorf("%q on %q: got %v, want %v", pattern, name, !want, want)
		}
	})
}

func TestWants(t *testing.T) {
	const alice, bob = matrix.UserID("@alice:example.org"), matrix.UserID("@bob:example.org")
	for _, c := range []struct {
		filter string
		wanted string // of the events below, by number
	}{
		{`{}`, "0123"},
		{`{"types":[]}`, ""},
		{`{"types":["m.room.message"]}`, "012"},
		{`{"types":["m.*"],"not_types":["m.room.m*"]}`, "3"},
		{`{"types":["m.room.message"],"not_types":["*"]}`, ""},
		{`{"senders":[]}`, ""},
		{`{"senders":["@alice:example.org"]}`, "03"},
		{`{"not_senders":["@alice:example.org"]}`, "12"},
		{`{"senders":["@alice:example.org"],"not_senders":["@alice:example.org"]}`, ""},
		{`{"contains_url":true}`, "1"},
		{`{"contains_url":false}`, "023"},
		{`{"contains_url":null,"types":null,"senders":null}`, "0123"},
	} {
		f, err := ParseRoomEventFilter([]byte(c.filter))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, e := range []*event.Event{
			{Type: "m.room.message", Sender: alice, Content: []byte(`{}`)},
			{Type: "m.room.message", Sender: bob, Content: []byte(`{"url":"mxc://a/b"}`)},
			{Type: "m.room.message", Sender: bob, Content: []byte(`{"url":1}`)},
			{Type: "m.reaction", Sender: alice, Content: []byte(`{}`)},
		} {
			if f.WantsEvent(e) {
				got += string(rune('0' + i))
			}
		}
		if got != c.wanted {
			t.Errorf("%s: got events %q, want %q", c.filter, got, c.wanted)
		}
		if f.All() != (c.wanted == "0123") {
			t.Errorf("%s: all is %v, want it to be %v", c.filter, f.All(), !f.All())
		}
	}
}

func TestWantsRoom(t *testing.T) {
	for filter, want := range map[string]bool{
		`{}`:                     true,
		`{"rooms":[]}`:           false,
		`{"rooms":["!a:b"]}`:     true,
		`{"rooms":["!b:b"]}`:     false,
		`{"not_rooms":["!a:b"]}`: false,
		`{"not_rooms":["!b:b"]}`: true,
		`{"rooms":["!a:b"],"not_rooms":["!a:b"]}`: false,
	} {
		f, err := ParseFilter([]byte(`{"room":{"timeline":` + filter + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Room.Timeline.WantsRoom("!a:b"); got != want {
			t.Errorf("%s: got %v, want %v", filter, got, want)
		}
		g, err := ParseFilter([]byte(`{"room":` + filter + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Room.Wants("!a:b"); got != want {
			t.Errorf("room %s: got %v, want %v", filter, got, want)
		}
	}
}

func TestTimelineLimit(t *testing.T) {
	for filter, want := range map[string]int{
		`{}`: 10, `{"limit":null}`: 10, `{"limit":0}`: 0, `{"limit":1}`: 1, `{"limit":1000}`: 1000, `{"limit":1001}`: 1000,
	} {
		f, err := ParseRoomEventFilter([]byte(filter))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.TimelineLimit(); got != want {
			t.Errorf("%s: got %d, want %d", filter, got, want)
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	many := `["` + strings.Repeat(`a","`, maxFilterEntries) + `a"]`
	for filter, want := range map[string]matrix.ErrorCode{
		``:                                    matrix.NotJSON,
		`{`:                                   matrix.NotJSON,
		`[]`:                                  matrix.BadJSON,
		`1`:                                   matrix.BadJSON,
		`{"presence":"x"}`:                    matrix.BadJSON,
		`{"event_format":"x"}`:                matrix.BadJSON,
		`{"event_fields":"x"}`:                matrix.BadJSON,
		`{"event_fields":` + many + `}`:       matrix.BadJSON,
		`{"room":{"timeline":"x"}}`:           matrix.BadJSON,
		`{"room":{"state":[]}}`:               matrix.BadJSON,
		`{"room":{"rooms":["x"]}}`:            matrix.BadJSON,
		`{"room":{"not_rooms":["x"]}}`:        matrix.BadJSON,
		`{"room":{"include_leave":1}}`:        matrix.BadJSON,
		`{"room":{"timeline":{"rooms":"x"}}}`: matrix.BadJSON,
		`{"room":{"timeline":{"rooms":["not_a_room_id"]}}}`:      matrix.BadJSON,
		`{"room":{"timeline":{"not_rooms":["not_a_room_id"]}}}`:  matrix.BadJSON,
		`{"room":{"timeline":{"senders":["not_a_sender_id"]}}}`:  matrix.BadJSON,
		`{"room":{"ephemeral":{"not_senders":["nobody"]}}}`:      matrix.BadJSON,
		`{"room":{"account_data":{"types":[1]}}}`:                matrix.BadJSON,
		`{"room":{"timeline":{"types":` + many + `}}}`:           matrix.BadJSON,
		`{"room":{"timeline":{"limit":-1}}}`:                     matrix.BadJSON,
		`{"room":{"timeline":{"limit":1.5}}}`:                    matrix.BadJSON,
		`{"room":{"timeline":{"limit":99999999999999999999}}}`:   matrix.BadJSON,
		`{"account_data":{"limit":-1}}`:                          matrix.BadJSON,
		`{"presence":{"senders":["x"]}}`:                         matrix.BadJSON,
		`{"room":{"timeline":{"contains_url":"yes"}}}`:           matrix.BadJSON,
		`{"room":{"timeline":{"lazy_load_members":"yes"}}} junk`: matrix.NotJSON,
	} {
		if _, err := ParseFilter([]byte(filter)); matrix.CodeOf(err) != want {
			t.Errorf("%.60s: got %v, want %s", filter, err, want)
		}
	}
	for _, filter := range []string{`{}`, `{"unknown":1}`, `{"event_format":"federation","event_fields":["type"]}`} {
		if _, err := ParseFilter([]byte(filter)); err != nil {
			t.Errorf("%s: got %v, want no error", filter, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add([]byte(`{"room":{"timeline":{"types":["m.*"],"limit":5,"lazy_load_members":true}},"event_fields":["content.body"]}`))
	f.Add([]byte(`{"presence":{"not_senders":["@a:b"]},"room":{"rooms":["!a:b"]}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		filter, err := ParseFilter(raw)
		if err != nil {
			if code := matrix.CodeOf(err); code != matrix.BadJSON && code != matrix.NotJSON {
				t.Errorf("%q: got %v, want M_BAD_JSON or M_NOT_JSON", raw, err)
			}
			return
		}
		if n := filter.Room.Timeline.TimelineLimit(); n < 0 || n > MaxTimelineLimit {
			t.Errorf("%q: got a limit of %d", raw, n)
		}
		filter.Room.Timeline.WantsEvent(&event.Event{Type: "m.room.message", Sender: "@a:b", Content: []byte(`{}`)})
	})
}
