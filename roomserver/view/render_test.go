package view_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// look returns an event as somebody sees it.
func (w *world) look(v *view.Viewer, id matrix.EventID, form view.Form) map[string]any {
	w.t.Helper()
	found, ok, err := rooms.EventByID(w.t.Context(), w.db, v.Room, id)
	must(w.t, err)
	if !ok {
		w.t.Fatalf("there is no event %s", id)
	}
	seen, err := v.See(w.t.Context(), []*rooms.Event{found})
	must(w.t, err)
	if len(seen) != 1 {
		w.t.Fatalf("%s does not see %s", v.By.User, id)
	}
	text, err := v.AppendOne(w.t.Context(), nil, seen[0], form)
	must(w.t, err)
	var shown map[string]any
	if err := json.Unmarshal(text, &shown); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return shown
}

// equal compares JSON.
func equal(t *testing.T, what string, got any, want string) {
	t.Helper()
	var w any
	must(t, json.Unmarshal([]byte(want), &w))
	if !reflect.DeepEqual(got, w) {
		text, _ := json.Marshal(got)
		t.Errorf("%s: got %s, want %s", what, text, want)
	}
}

func TestClientForm(t *testing.T) {
	w := newWorld(t, "11", "shared")
	id := w.say("hello")
	form := view.Form{Now: now.Add(5000000), RoomID: true}
	got := w.look(w.open("alice"), id, form)
	equal(t, "an event", got, `{"content":{"body":"hello"},"event_id":"`+string(id)+`","origin_server_ts":1800000000000,
		"room_id":"`+string(w.room)+`","sender":"@alice:example.org","type":"m.room.message",
		"unsigned":{"age":5,"membership":"join","transaction_id":"1"}}`)
	form.RoomID, form.Now = false, now.Add(-1)
	got = w.look(w.open("alice"), id, form)
	if got["room_id"] != nil {
		t.Errorf("in a sync: got room_id %v, want none", got["room_id"])
	}
	equal(t, "from the future", got["unsigned"], `{"age":0,"membership":"join","transaction_id":"1"}`)

	w.tell("join")
	equal(t, "for another", w.look(w.open("bob"), id, form)["unsigned"], `{"age":0,"membership":"leave"}`)
	phone := who("alice")
	phone.Device = "PHONE"
	v, err := view.Open(t.Context(), w.s, w.db, phone, w.room)
	must(t, err)
	equal(t, "for another device", w.look(v, id, form)["unsigned"], `{"age":0,"membership":"join"}`)
}

func TestPreviousState(t *testing.T) {
	w := newWorld(t, "11", "shared")
	first := w.set("m.room.name", `{"name":"first"}`)
	second := w.set("m.room.name", `{"name":"second"}`)
	alice := w.open("alice")
	equal(t, "the first", w.look(alice, first, view.Form{Now: now})["unsigned"], `{"age":0,"membership":"join"}`)
	equal(t, "the second", w.look(alice, second, view.Form{Now: now})["unsigned"], `{"age":0,"membership":"join",
		"prev_content":{"name":"first"},"prev_sender":"@alice:example.org","replaces_state":"`+string(first)+`"}`)
	equal(t, "the second alone", w.look(alice, second, view.Form{Now: now, NoPrevious: true})["unsigned"], `{"age":0,"membership":"join"}`)
}

func TestRedactionForm(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"10", "11", "12"} {
		w := newWorld(t, version, "shared")
		id := w.say("oops")
		redaction, err := w.s.Redact(t.Context(), who("alice"), roomserver.RedactEvent{Room: w.room, Event: id, Reason: "typo"})
		must(t, err)
		alice, form := w.open("alice"), view.Form{Now: now, RoomID: true}
		got := w.look(alice, id, form)
		equal(t, "the content", got["content"], `{}`)
		because := `{"content":{"reason":"typo","redacts":"` + string(id) + `"},"event_id":"` + string(redaction) + `",
			"origin_server_ts":1800000000000,"redacts":"` + string(id) + `","room_id":"` + string(w.room) + `",
			"sender":"@alice:example.org","type":"m.room.redaction"}`
		equal(t, "why", got["unsigned"].(map[string]any)["redacted_because"], because)
		shown := w.look(alice, redaction, form)
		delete(shown, "unsigned")
		equal(t, "the redaction", shown, because)

		// A redaction that was redacted itself still says, at its old place or its new, what it redacted, if its version does.
		_, err = w.s.Redact(t.Context(), who("alice"), roomserver.RedactEvent{Room: w.room, Event: redaction})
		must(t, err)
		if shown := w.look(alice, redaction, form); shown["content"].(map[string]any)["reason"] != nil {
			t.Errorf("version %s: a redaction that was redacted still has its reason: %v", version, shown)
		}
	}
}

func TestFederationForm(t *testing.T) {
	w := newWorld(t, "11", "shared")
	got := w.look(w.open("alice"), w.say("hello"), view.Form{Now: now, Federation: true})
	for _, field := range []string{"auth_events", "prev_events", "hashes", "signatures", "depth", "room_id", "unsigned"} {
		if got[field] == nil {
			t.Errorf("as servers see it: got no %s in %v", field, got)
		}
	}
}

func TestEventFields(t *testing.T) {
	w := newWorld(t, "11", "shared")
	id, err := w.s.Send(t.Context(), who("alice"), roomserver.SendEvent{Room: w.room, Type: "a", Content: []byte(
		`{"a":{"b":1,"c":{"d":2}},"x.y":3,"z\\":4,"big":9007199254740991,"s":"<&>"}`)})
	must(t, err)
	alice := w.open("alice")
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"type"}, `{"type":"a"}`},
		{[]string{"type", "content.a.b"}, `{"type":"a","content":{"a":{"b":1}}}`},
		{[]string{"content.a.b", "content.a.c.d"}, `{"content":{"a":{"b":1,"c":{"d":2}}}}`},
		{[]string{"content.a.b", "content.a"}, `{"content":{"a":{"b":1,"c":{"d":2}}}}`},
		{[]string{"content.a", "content.a.b"}, `{"content":{"a":{"b":1,"c":{"d":2}}}}`},
		{[]string{`content.x\.y`}, `{"content":{"x.y":3}}`},
		{[]string{`content.z\\`}, `{"content":{"z\\":4}}`},
		{[]string{"content.x.y", "content.a.b.c", "nothing", "", "."}, `{}`},
		{[]string{"content.big", "content.s"}, `{"content":{"big":9007199254740991,"s":"<&>"}}`},
		{[]string{"unsigned.age"}, `{"unsigned":{"age":0}}`},
	} {
		got := w.look(alice, id, view.Form{Now: now, Fields: c.fields})
		equal(t, "the fields "+c.fields[0], got, c.want)
	}
}

func TestAppend(t *testing.T) {
	w := newWorld(t, "11", "shared")
	alice := w.open("alice")
	text, err := alice.Append(t.Context(), []byte("x"), nil, view.Form{Now: now})
	must(t, err)
	if string(text) != "x[]" {
		t.Errorf("no events: got %s, want x[]", text)
	}
	seen, err := alice.See(t.Context(), w.timeline())
	must(t, err)
	text, err = alice.Append(t.Context(), nil, seen, view.Form{Now: now})
	must(t, err)
	var list []map[string]any
	must(t, json.Unmarshal(text, &list))
	if len(list) != len(seen) || list[0]["type"] != event.TypeCreate {
		t.Errorf("got %d events from %v, want %d from the creation", len(list), list[0], len(seen))
	}
}

func TestAppendStripped(t *testing.T) {
	key := `a"b`
	e := &event.Event{Type: "m.room.name", StateKey: &key, Sender: "@alice:example.org", Content: []byte(`{"name":"n"}`)}
	want := `{"content":{"name":"n"},"sender":"@alice:example.org","state_key":"a\"b","type":"m.room.name"}`
	if got := string(view.AppendStripped(nil, e)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func BenchmarkAppend(b *testing.B) {
	w := newWorld(b, "12", "shared")
	for range 20 {
		w.say("hello")
	}
	v := w.open("alice")
	page, err := v.Messages(b.Context(), w.db, view.PageQuery{From: view.At(w.db.Position()), Backward: true, Limit: 20})
	must(b, err)
	var buf []byte
	for b.Loop() {
		buf, err = v.Append(b.Context(), buf[:0], page.Events, view.Form{Now: now, RoomID: true})
		must(b, err)
	}
}
