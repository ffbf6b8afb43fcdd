package remote_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// The ways by which events come that were asked for: each lets in only what is of the room, well-formed and signed.
// CVE-2022-39200.
func TestEveryWayIn(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	message := r.message("hello")
	stranger := r.build(event.Proto{Type: "x", Sender: "@u:stranger.example", RoomID: r.id, Content: []byte(`{}`),
		PrevEvents: ids(r.events[:1]), AuthEvents: ids(r.events[:1]), Depth: 5})
	other := w.room("10")
	other.id = "!other:them.example"
	list := append(raws(message), flipped(t, r.events[1]), json.RawMessage(`{}`), stranger.JSON, other.message("x").JSON, message.JSON)
	refused := remote.Refused{Malformed: 1, Foreign: 1, Unsigned: 1, Unverified: 1}

	for _, way := range []struct {
		name, member, request string
		ask                   func(context.Context) (remote.Events, error)
	}{
		{"missing events", "events", "POST /_matrix/federation/v1/get_missing_events/%21room:them.example",
			func(ctx context.Context) (remote.Events, error) {
				return w.client.MissingEvents(ctx, them, remote.Gap{Room: r.known(), Latest: ids(r.events[4:]), Limit: 10, MinDepth: 3})
			}},
		{"backfill", "pdus", "GET /_matrix/federation/v1/backfill/%21room:them.example?limit=20&v=" + escaped(message.ID),
			func(ctx context.Context) (remote.Events, error) {
				return w.client.Backfill(ctx, them, remote.History{Room: r.known(), From: ids(r.events[4:]), Limit: 20})
			}},
		{"event auth", "auth_chain", "GET /_matrix/federation/v1/event_auth/%21room:them.example/" + string(message.ID),
			func(ctx context.Context) (remote.Events, error) {
				return w.client.EventAuth(ctx, them, r.at(message.ID))
			}},
		{"state", "pdus", "GET /_matrix/federation/v1/state/%21room:them.example?event_id=" + escaped(message.ID),
			func(ctx context.Context) (remote.Events, error) {
				s, err := w.client.State(ctx, them, r.at(message.ID))
				return remote.Events{Events: s.State, Refused: s.Refused}, err
			}},
		{"auth chain of state", "auth_chain", "GET /_matrix/federation/v1/state/%21room:them.example?event_id=" + escaped(message.ID),
			func(ctx context.Context) (remote.Events, error) {
				s, err := w.client.State(ctx, them, r.at(message.ID))
				return remote.Events{Events: s.AuthChain, Refused: s.Refused}, err
			}},
	} {
		w.saysJSON(map[string]any{way.member: list})
		got, err := way.ask(t.Context())
		if err != nil {
			t.Errorf("%s: %v", way.name, err)
			continue
		}
		w.checkAsked(way.request)
		checkIDs(t, way.name, got.Events, message)
		if got.Refused != refused {
			t.Errorf("%s: refused %+v, want %+v", way.name, got.Refused, refused)
		}
		checkHostileLists(t, w, way.name, func() error { _, err := way.ask(t.Context()); return err }, way.member)
	}
}

func escaped(id matrix.EventID) string { return strings.ReplaceAll(string(id), "$", "%24") }

// checkHostileLists asks for a list, and gets everything else.
func checkHostileLists(t *testing.T, w *world, name string, ask func() error, member string) {
	t.Helper()
	for _, text := range []string{``, `[]`, `"x"`, `{`, `{"` + member + `":{}}`, `{"` + member + `":"x"}`, `{"` + member + `":1000000000}`,
		`{"` + member + `":[1}`, `{"` + member + `":[]}}`, strings.Repeat("[", 1<<20)} {
		w.says(text)
		if err := ask(); !errors.Is(err, remote.ErrBadAnswer) {
			t.Errorf("%s of %.30s: got error %v, want %v", name, text, err, remote.ErrBadAnswer)
		}
	}
	for _, text := range []string{`{}`, `{"` + member + `":null}`, `{"` + member + `":[]}`, `{"` + member + `":[null,1,[],"x"]}`} {
		w.says(text)
		if err := ask(); err != nil {
			t.Errorf("%s of %s: %v", name, text, err)
		}
	}
	w.script(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "1000000000")
		io.WriteString(rw, `{`)
	})
	checkError(t, name+" of a gigabyte", ask(), outbound.ErrTooLarge)
}

// An event that follows more others than one may is taken as history alone.
func TestOldHistory(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	short := r.add(event.Proto{Type: "org.example", Sender: bob, RoomID: r.id, Content: []byte(`{}`)}) // as it is redacted
	text := strings.Replace(string(short.JSON), `"prev_events":[`, `"prev_events":[`+strings.Repeat(`"$older",`, 100), 1)
	old, err := signing.SignJSON([]byte(text), them, w.keys[them])
	if err != nil {
		t.Fatal(err)
	}
	w.saysJSON(map[string]any{"events": []json.RawMessage{old}, "pdus": []json.RawMessage{old}})
	got, err := w.client.Backfill(t.Context(), them, remote.History{Room: r.known(), Limit: 4})
	if err != nil || len(got.Events) != 1 || len(got.Events[0].PrevEvents) < 100 {
		t.Errorf("backfill: got %v, %+v, %v; want the event", got.Events, got.Refused, err)
	}
	if got, err = w.client.MissingEvents(t.Context(), them, remote.Gap{Room: r.known(), Limit: 4}); err != nil || got.Refused.Malformed != 1 {
		t.Errorf("missing events: got %v, %+v, %v; want it refused", got.Events, got.Refused, err)
	}
}

// More than was asked for is not read.
func TestMoreThanAsked(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	for i := range 5 {
		r.message(fmt.Sprint(i))
	}
	w.saysJSON(map[string]any{"events": raws(r.events...), "pdus": raws(r.events...)})
	got, err := w.client.MissingEvents(t.Context(), them, remote.Gap{Room: r.known(), Limit: 3})
	if err != nil || len(got.Events) != 3 || got.Refused.Excess != 1 {
		t.Errorf("missing events: got %d, %+v, %v", len(got.Events), got.Refused, err)
	}
	if got, err = w.client.Backfill(t.Context(), them, remote.History{Room: r.known(), Limit: 4}); err != nil || len(got.Events) != 4 {
		t.Errorf("backfill: got %d, %v", len(got.Events), err)
	}
	w.script(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"events":[`+string(r.events[0].JSON))
		for {
			if _, err := io.WriteString(rw, ","+string(r.events[0].JSON)); err != nil {
				return
			}
		}
	})
	_, err = w.client.MissingEvents(t.Context(), them, remote.Gap{Room: r.known(), Limit: 3})
	checkError(t, "the same event without end", err, remote.ErrBadAnswer)
}

func TestRequestLimits(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	w.says(`{}`)
	many := make([]matrix.EventID, 1000)
	for i := range many {
		many[i] = matrix.EventID(fmt.Sprint("$", i))
	}
	if _, err := w.client.MissingEvents(t.Context(), them, remote.Gap{Room: r.known(), Limit: 1e9}); err != nil {
		t.Fatal(err)
	}
	if want := `{"earliest_events":[],"latest_events":[],"limit":100,"min_depth":0}`; string(w.lastBody()) != want {
		t.Errorf("missing events: sent %s, want %s", w.lastBody(), want)
	}
	if _, err := w.client.Backfill(t.Context(), them, remote.History{Room: r.known(), From: many, Limit: 1e9}); err != nil {
		t.Fatal(err)
	}
	query := w.asked[1].URL.Query()
	if len(query["v"]) != 50 || query.Get("limit") != "500" {
		t.Errorf("backfill: asked for %d events and %s", len(query["v"]), query.Get("limit"))
	}
}

func TestEvent(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	first, second := r.message("1"), r.message("2")
	for _, c := range []struct {
		name string
		pdus []json.RawMessage
		want matrix.EventID
	}{
		{"the event", raws(first), first.ID},
		{"another event", raws(second), ""},
		{"none", nil, ""},
		{"an unsigned one", []json.RawMessage{flipped(t, first)}, ""},
		{"two", raws(first, second), first.ID},
	} {
		w.saysJSON(map[string]any{"origin": them, "origin_server_ts": 1, "pdus": c.pdus})
		got, err := w.client.Event(t.Context(), them, r.at(first.ID))
		var id matrix.EventID
		if got != nil {
			id = got.ID
		}
		if err != nil || id != c.want {
			t.Errorf("%s: got %q, %v; want %q", c.name, id, err, c.want)
		}
	}
	w.checkAsked("GET /_matrix/federation/v1/event/" + string(first.ID))
}

func TestState(t *testing.T) {
	w := newWorld(t)
	r := w.room("12")
	w.saysJSON(map[string]any{"pdus": raws(r.events...), "auth_chain": raws(r.events[:2]...)})
	got, err := w.client.State(t.Context(), them, r.at("$x"))
	if err != nil {
		t.Fatal(err)
	}
	checkIDs(t, "state", got.State, r.events...)
	checkIDs(t, "auth chain", got.AuthChain, r.events[:2]...)
}

func TestStateIDs(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	w.says(`{"pdu_ids":["$a","$b:x"],"auth_chain_ids":["$c"]}`)
	got, err := w.client.StateIDs(t.Context(), them, r.at("$x"))
	if want := "{[$a $b:x] [$c]}"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	w.checkAsked("GET /_matrix/federation/v1/state_ids/%21room:them.example?event_id=%24x")
	for _, text := range []string{
		`{"pdu_ids":["a"]}`, `{"pdu_ids":[1]}`, `{"pdu_ids":[null]}`, `{"pdu_ids":{}}`, `{"pdu_ids":["$` + strings.Repeat("x", 1000) + `"]}`,
		`{"auth_chain_ids":[""]}`, `[]`, `{"pdu_ids":["$a"],"pdu_ids":["$b"]}`,
		`{"pdu_ids":["$a"` + strings.Repeat(`,"$a"`, 250_000) + `]}`,
	} {
		w.says(text)
		_, err := w.client.StateIDs(t.Context(), them, r.at("$x"))
		checkError(t, fmt.Sprintf("%.40s", text), err, remote.ErrBadAnswer)
	}
}

func TestTimestampToEvent(t *testing.T) {
	w := newWorld(t)
	w.says(`{"event_id":"$a","origin_server_ts":7}`)
	got, err := w.client.TimestampToEvent(t.Context(), them, remote.Moment{Room: "!r:them.example", TimeMS: 5, Backwards: true})
	if want := (remote.EventAtTime{EventID: "$a", OriginServerTS: 7}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	w.checkAsked("GET /_matrix/federation/v1/timestamp_to_event/%21r:them.example?dir=b&ts=5")
	for _, text := range []string{`{}`, `{"event_id":"a","origin_server_ts":7}`, `{"event_id":"$a","origin_server_ts":"7"}`, `[]`} {
		w.says(text)
		_, err := w.client.TimestampToEvent(t.Context(), them, remote.Moment{Room: "!r:them.example"})
		checkError(t, text, err, remote.ErrBadAnswer)
	}
}

func TestCancelled(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	ctx, cancel := context.WithCancel(t.Context())
	w.script(func(rw http.ResponseWriter, q *http.Request) {
		io.WriteString(rw, `{"events":[`)
		rw.(http.Flusher).Flush()
		cancel()
		<-q.Context().Done()
	})
	_, err := w.client.MissingEvents(ctx, them, remote.Gap{Room: r.known(), Limit: 3})
	checkError(t, "cancelled", err, context.Canceled)
}
