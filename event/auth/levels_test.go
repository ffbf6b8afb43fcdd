package auth

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

func version(t testing.TB, id matrix.RoomVersion) *event.Version {
	t.Helper()
	v, ok := event.VersionOf(id)
	if !ok {
		t.Fatalf("room version %s is not known", id)
	}
	return v
}

func TestLevelValues(t *testing.T) {
	type value struct {
		In      string `json:"in"`
		Out     Level  `json:"out"`
		Invalid bool   `json:"invalid"`
	}
	var file struct {
		Strings []value `json:"string_ints_room_versions_1_to_9"`
		Floats  []value `json:"floats_room_versions_1_to_5"`
	}
	data, err := os.ReadFile("testdata/power-level-values.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	check := func(v *event.Version, raw string, want value, allowed bool) {
		t.Helper()
		got, ok := parseLevel(v, []byte(raw))
		if wantOK := allowed && !want.Invalid; ok != wantOK || ok && got != want.Out {
			t.Errorf("version %s, %s: got %d, %v; want %d, %v", v.ID, raw, got, ok, want.Out, wantOK)
		}
	}
	for _, v := range event.Versions() {
		for _, s := range file.Strings {
			check(v, fmt.Sprintf("%q", s.In), s, v.Levels != event.IntegerLevels)
		}
		for _, f := range file.Floats {
			check(v, f.In, f, v.Levels == event.LooseLevels)
		}
		for raw, want := range map[string]Level{"0": 0, "-5": -5, "9007199254740991": 1<<53 - 1} {
			check(v, raw, value{Out: want}, true)
		}
		for _, raw := range []string{"", "null", "true", "[]", "{}", `"9223372036854775808"`, `"1_0"`, `"\t"`} {
			check(v, raw, value{Invalid: true}, true)
		}
		check(v, "1e+300", value{Invalid: true}, false)
	}
}

func TestLevelDefaults(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		create := r.state[createKey]
		for name, source := range map[string]*event.Event{"none": nil, "empty": r.ev(event.TypePowerLevels, "", alice, `{}`)} {
			l := Levels(v, create, source)
			got := []Level{l.Ban(), l.Kick(), l.Redact(), l.Invite(), l.EventsDefault(), l.StateDefault(), l.UsersDefault(),
				l.Notification("room"), l.ForEvent("x", true), l.ForEvent("x", false), l.User(bob)}
			want := []Level{50, 50, 50, 0, 0, 50, 0, 50, 50, 0, 0}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("version %s, %s: got %v, want %v", v.ID, name, got, want)
			}
			creator := Level(0)
			if v.CreatorPower == event.CreatorInfinite {
				creator = Infinite
			} else if source == nil {
				creator = 100
			}
			if got := l.User(alice); got != creator {
				t.Errorf("version %s, %s: creator: got %d, want %d", v.ID, name, got, creator)
			}
		}
	}
}

func TestLevelsOfRoom(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		l := Levels(v, r.state[createKey], r.state[powerLevelsKey])
		got := []Level{l.User(admin), l.User(mod), l.User(bob), l.ForEvent("x.high", false), l.ForEvent("x.low", true),
			l.Invite(), l.Kick(), l.Notification("room"), l.Notification("other")}
		want := []Level{100, 50, 0, 60, 0, 10, 40, 60, 50}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("version %s: got %v, want %v", v.ID, got, want)
		}
	}
}

// A level that is written in any way counts as that, or as the default.
func TestEventsDefault_CVE_2022_36009(t *testing.T) {
	tests := []struct {
		content                 string
		loose, strings, integer Level // by what the version allows for a level
	}{
		{`{}`, 0, 0, 0},
		{`{"events_default":50}`, 50, 50, 50},
		{`{"events_default":-5}`, -5, -5, -5},
		{`{"events_default":9007199254740991}`, 1<<53 - 1, 1<<53 - 1, 1<<53 - 1},
		{`{"events_default":"50"}`, 50, 50, 0},
		{`{"events_default":" +050 "}`, 50, 50, 0},
		{`{"events_default":"50x"}`, 0, 0, 0},
		{`{"events_default":""}`, 0, 0, 0},
		{`{"events_default":50.9}`, 50, 0, 0},
		{`{"events_default":1e+300}`, 0, 0, 0},
		{`{"events_default":"99999999999999999999"}`, 0, 0, 0},
		{`{"events_default":null}`, 0, 0, 0},
		{`{"events_default":true}`, 0, 0, 0},
		{`{"events_default":[50]}`, 0, 0, 0},
		{`{"events_default":{"x":50}}`, 0, 0, 0},
		{`{"events_default":50,"state_default":70,"events":{"x":"10"}}`, 50, 50, 50},
	}
	for _, v := range event.Versions() {
		for _, tt := range tests {
			if _, err := canonical.JSON([]byte(tt.content), v.JSON); err != nil {
				continue // no such number gets into an event
			}
			want := map[event.LevelValues]Level{event.LooseLevels: tt.loose, event.StringLevels: tt.strings, event.IntegerLevels: tt.integer}[v.Levels]
			r := newRoom(t, v)
			l := Levels(v, r.state[createKey], r.ev(event.TypePowerLevels, "", alice, tt.content))
			if got := l.EventsDefault(); got != want {
				t.Errorf("version %s, %s: got %d, want %d", v.ID, tt.content, got, want)
			}
			if got := l.ForEvent(event.TypeMessage, false); got != want {
				t.Errorf("version %s, %s: a message needs %d, want %d", v.ID, tt.content, got, want)
			}
		}
	}
}

// What a version does not allow counts as absent, when it is in the state all
// the same.
func TestLevelsThatAreNone(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		l := Levels(v, r.state[createKey], r.ev(event.TypePowerLevels, "", alice,
			`{"ban":null,"events":[],"kick":{},"notifications":7,"users":{"@bob:b.org":null,"@mod:a.org":5},"users_default":"x"}`))
		got := []Level{l.Ban(), l.Kick(), l.ForEvent("x", true), l.Notification("room"), l.User(bob), l.User(mod)}
		want := []Level{50, 50, 50, 50, 0, 5}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("version %s: got %v, want %v", v.ID, got, want)
		}
	}
}

func TestCreators(t *testing.T) {
	tests := []struct {
		version matrix.RoomVersion
		content string
		want    []matrix.UserID
	}{
		{"10", `{"creator":"@bob:b.org"}`, []matrix.UserID{bob}},
		{"10", `{}`, nil},
		{"11", `{"creator":"@bob:b.org"}`, []matrix.UserID{alice}},
		{"11", `{"additional_creators":["@bob:b.org"]}`, []matrix.UserID{alice}},
		{"12", `{"additional_creators":["@bob:b.org"]}`, []matrix.UserID{alice, bob}},
		{"12", `{"additional_creators":"@bob:b.org"}`, []matrix.UserID{alice}},
	}
	for _, tt := range tests {
		r := newRoom(t, version(t, tt.version))
		r.create(tt.content)
		if got := Creators(r.v, r.state[createKey]); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("version %s, %s: got %v, want %v", tt.version, tt.content, got, tt.want)
		}
	}
	if got := Creators(version(t, "12"), nil); got != nil {
		t.Errorf("no create event: got %v, want none", got)
	}
}

func TestInfiniteCreators(t *testing.T) {
	r := newRoom(t, version(t, "12"))
	r.create(`{"additional_creators":["@bob:b.org"]}`)
	allowed := map[string]*event.Event{
		"topic":         r.ev("m.room.topic", "", bob, `{}`),
		"ban the admin": r.member(bob, admin, "ban"),
		"highest level": r.ev(event.TypePowerLevels, "", bob, `{"events":{"m.room.tombstone":9007199254740991},"users":{"@mod:a.org":9007199254740991}}`),
	}
	for name, e := range allowed {
		if err := Check(e, r.lookup); err != nil {
			t.Errorf("%s: got %v, want it allowed", name, err)
		}
	}
	if got := ruleOf(t, Check(r.member(bob, alice, "ban"), r.lookup)); got != "4.6.3" {
		t.Errorf("a creator bans a creator: got rule %q, want 4.6.3", got)
	}
}

// Levels that a caller has kept are used while they fit the state, and never
// when they do not.
func TestKeptLevels(t *testing.T) {
	for _, v := range event.Versions() {
		r := newRoom(t, v)
		kept := Levels(v, r.state[createKey], r.state[powerLevelsKey])
		topic := r.ev("m.room.topic", "", mod, `{}`)
		if err := CheckWith(topic, r.lookup, &kept); err != nil {
			t.Errorf("version %s: got %v, want it allowed", v.ID, err)
		}
		r.set(r.levels(alice, `"@mod:a.org":50`, `"@mod:a.org":49`))
		if got := ruleOf(t, CheckWith(topic, r.lookup, &kept)); got != "7" {
			t.Errorf("version %s: stale levels: got rule %q, want 7", v.ID, got)
		}
		if got := ruleOf(t, CheckWith(topic, r.lookup, new(PowerLevels))); got != "7" {
			t.Errorf("version %s: zero levels: got rule %q, want 7", v.ID, got)
		}
		delete(r.state, powerLevelsKey)
		if got := ruleOf(t, CheckWith(topic, r.lookup, &kept)); got != "7" {
			t.Errorf("version %s: no levels: got rule %q, want 7", v.ID, got)
		}
	}
}

// In versions that take strings, a level written otherwise is no change.
func TestSameLevelWrittenOtherwise(t *testing.T) {
	r := newRoom(t, version(t, "9"))
	e := r.levels(mod, `"x.high":60`, `"x.high":" +060 "`)
	if err := Check(e, r.lookup); err != nil {
		t.Errorf("got %v, want it allowed", err)
	}
}
