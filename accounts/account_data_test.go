package accounts

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event/pushrules"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

func TestAccountData(t *testing.T) {
	each(t, func(w *world) {
		alice, bob := matrix.UserID("@alice:example.org"), matrix.UserID("@bob:example.org")
		set := func(room matrix.RoomID, typ, content string) {
			w.t.Helper()
			err := w.SetAccountData(w.ctx, alice, users.AccountDatum{Room: room, Type: typ, Content: []byte(content)})
			wantCode(w.t, "set "+typ, err, "")
		}
		set("", "m.direct", `{"@bob:example.org": ["!a:x"]}`)
		start := w.db.Position()
		set("!a:x", "m.tag", `{"tags":{"u.x":{"order":0.25}}}`)
		set("", "m.direct", `{"z":"\u0000"}`)
		for _, c := range []struct {
			user      matrix.UserID
			room      matrix.RoomID
			typ, want string
		}{
			{alice, "", "m.direct", `{"z":"\u0000"}`},
			{alice, "!a:x", "m.tag", `{"tags":{"u.x":{"order":0.25}}}`},
			{alice, "!a:x", "m.direct", ""},
			{alice, "", "m.tag", ""},
			{bob, "", "m.direct", ""},
		} {
			got, err := w.AccountData(w.ctx, c.user, c.room, c.typ)
			if c.want == "" {
				wantCode(w.t, c.typ, err, matrix.NotFound)
			} else if string(got) != c.want || err != nil {
				w.t.Errorf("%s: got %s, %v, want %s", c.typ, got, err, c.want)
			}
		}
		since, err := users.AccountDataSince(w.ctx, w.db, alice, storage.Span{After: start, UpTo: w.db.Position()})
		if err != nil || len(since) != 2 || since[0].Type != "m.tag" || since[1].Type != "m.direct" {
			w.t.Errorf("since: got %v, %v, want m.tag, m.direct", since, err)
		}
		if news, complete := w.db.Since(start, 10); !complete || len(news) != 2 || news[0].Kind != storage.NewsAccountData ||
			news[0].User != alice || news[0].Room != "!a:x" {
			w.t.Errorf("news: got %+v, %v, want two of alice's account data", news, complete)
		}
		room, err := users.RoomAccountData(w.ctx, w.db, alice, "!a:x")
		if err != nil || len(room) != 1 || room[0].Type != "m.tag" {
			w.t.Errorf("of the room: got %v, %v, want m.tag", room, err)
		}
	})
}

func TestAccountDataRefusals(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		name         string
		room         matrix.RoomID
		typ, content string
		want         matrix.ErrorCode
		status       int
	}{
		{"push rules", "", PushRules, `{}`, matrix.BadJSON, 405},
		{"push rules of a room", "!a:x", PushRules, `{}`, matrix.BadJSON, 405},
		{"fully read", "!a:x", FullyRead, `{}`, matrix.BadJSON, 405},
		{"no type", "", "", `{}`, matrix.InvalidParam, 400},
		{"long type", "", strings.Repeat("x", 256), `{}`, matrix.InvalidParam, 400},
		{"list", "", "a", `[]`, matrix.BadJSON, 400},
		{"text", "", "a", `"x"`, matrix.BadJSON, 400},
		{"nothing", "", "a", ``, matrix.NotJSON, 400},
		{"broken", "", "a", `{`, matrix.NotJSON, 400},
		{"large", "", "a", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, matrix.TooLarge, 413},
	} {
		err := w.SetAccountData(w.ctx, "@a:x", users.AccountDatum{Room: c.room, Type: c.typ, Content: []byte(c.content)})
		wantCode(t, c.name, err, c.want)
		var e *matrix.Error
		if errors.As(err, &e) && e.Status() != c.status {
			t.Errorf("%s: got status %d, want %d", c.name, e.Status(), c.status)
		}
	}
}

func TestFullyRead(t *testing.T) {
	w := onSQLite(t)
	for _, event := range []matrix.EventID{"$a", `$"quote\`} {
		wantCode(t, "set", w.SetFullyRead(w.ctx, "@a:x", "!r:x", event), "")
		content, err := w.AccountData(w.ctx, "@a:x", "!r:x", FullyRead)
		var got struct {
			EventID matrix.EventID `json:"event_id"`
		}
		if json.Unmarshal(content, &got); got.EventID != event || err != nil {
			t.Errorf("marker: got %s, %v, want %s", content, err, event)
		}
	}
}

func TestPushRulesHaveADefault(t *testing.T) {
	w := onSQLite(t)
	_, who := w.register("alice")
	alice := who.Account
	want := string(pushrules.DefaultContent(alice))
	if got, err := w.AccountData(w.ctx, alice, "", PushRules); string(got) != want || err != nil {
		t.Errorf("got %s, %v, want the default", got, err)
	}
	_, err := w.AccountData(w.ctx, alice, "!r:x", PushRules)
	wantCode(t, "in a room", err, matrix.NotFound)
	all := w.WithPushRules(alice, []users.AccountDatum{{Type: "a"}})
	if len(all) != 2 || string(all[1].Content) != want {
		t.Errorf("with default: got %v, want a and the default", all)
	}
	if again := w.WithPushRules(alice, all); len(again) != 2 {
		t.Errorf("with rules of one's own: got %d entries, want 2", len(again))
	}
}

func TestFilters(t *testing.T) {
	each(t, func(w *world) {
		alice := matrix.UserID("@alice:example.org")
		id, err := w.AddFilter(w.ctx, alice, []byte(`{"room": {"timeline": {"limit": 1}}, "event_fields": []}`))
		if err != nil || id == "" || id[0] == '{' {
			w.t.Fatalf("add: got %q, %v", id, err)
		}
		same, err := w.AddFilter(w.ctx, alice, []byte(`{"event_fields":[],"room":{"timeline":{"limit":1}}}`))
		if same != id || err != nil {
			w.t.Errorf("the same again: got %q, %v, want %q", same, err, id)
		}
		if other, err := w.AddFilter(w.ctx, alice, []byte(`{}`)); other == id || err != nil {
			w.t.Errorf("another: got %q, %v", other, err)
		}
		if n, err := users.CountFilters(w.ctx, w.db, alice); n != 2 || err != nil {
			w.t.Errorf("filters: got %d, %v, want 2", n, err)
		}
		want := `{"event_fields":[],"room":{"timeline":{"limit":1}}}`
		if got, err := w.Filter(w.ctx, alice, id); string(got) != want || err != nil {
			w.t.Errorf("get: got %s, %v, want %s", got, err, want)
		}
		_, err = w.Filter(w.ctx, "@bob:example.org", id)
		wantCode(w.t, "of another user", err, matrix.NotFound)
		for content, want := range map[string]matrix.ErrorCode{
			`[]`: matrix.BadJSON, `{`: matrix.NotJSON, `{"a":"` + strings.Repeat("x", 1<<16) + `"}`: matrix.TooLarge,
		} {
			_, err := w.AddFilter(w.ctx, alice, []byte(content))
			wantCode(w.t, content[:1], err, want)
		}
	})
}
