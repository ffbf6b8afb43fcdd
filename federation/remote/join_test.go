package remote_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/outbound"
)

// member is an event of alice about herself, on top of the room.
func (r *room) member(content string) *event.Event {
	user := string(alice)
	last := r.events[len(r.events)-1]
	return r.build(event.Proto{
		Type: event.TypeMember, StateKey: &user, Sender: alice, RoomID: r.id, Content: []byte(content),
		PrevEvents: []matrix.EventID{last.ID}, AuthEvents: []matrix.EventID{r.events[0].ID}, Depth: 9,
	})
}

const joins = `{"membership":"join"}`

// joinAnswer is that of an honest server; set changes a member.
func (r *room) joinAnswer(set map[string]any) map[string]any {
	answer := map[string]any{"state": raws(r.events...), "auth_chain": raws(r.events[:3]...), "origin": "them.example"}
	for key, value := range set {
		answer[key] = value
	}
	return answer
}

func TestSendJoin(t *testing.T) {
	for _, version := range []matrix.RoomVersion{"1", "3", "6", "10", "11", "12"} {
		w := newWorld(t)
		r := w.room(version)
		join := r.member(joins)
		w.saysJSON(r.joinAnswer(nil))
		got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join})
		if err != nil {
			t.Errorf("version %s: %v", version, err)
			continue
		}
		checkIDs(t, "state of "+string(version), got.State, r.events...)
		checkIDs(t, "auth chain of "+string(version), got.AuthChain, r.events[:3]...)
		if got.Join != join || got.MembersOmitted || got.Refused.Total() != 0 {
			t.Errorf("version %s: got %+v", version, got)
		}
		if body := w.lastBody(); string(body) != string(join.JSON) {
			t.Errorf("version %s: sent %s, want %s", version, body, join.JSON)
		}
	}
}

func TestSendJoinPaths(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	join := r.member(joins)
	at := "/send_join/%21room:them.example/" + string(join.ID)
	w.saysJSON(r.joinAnswer(map[string]any{"members_omitted": true, "servers_in_room": []any{"them.example", "x y", 7, "b.example"}}))
	got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join, OmitMembers: true})
	if err != nil {
		t.Fatal(err)
	}
	w.checkAsked("PUT /_matrix/federation/v2" + at + "?omit_members=true")
	if want := []matrix.ServerName{"them.example", "b.example"}; !got.MembersOmitted || fmt.Sprint(got.Servers) != fmt.Sprint(want) {
		t.Errorf("got %v, %v; want members omitted and %v", got.MembersOmitted, got.Servers, want)
	}

	w.script(func(rw http.ResponseWriter, q *http.Request) {
		if q.URL.Path[:len("/_matrix/federation/v2")] == "/_matrix/federation/v2" {
			saying(404, `{"errcode":"M_UNRECOGNIZED","error":"what?"}`)(rw, q)
			return
		}
		fmt.Fprintf(rw, "[200, %s]", mustJSON(t, r.joinAnswer(nil)))
	})
	if got, err = w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join, OmitMembers: true}); err != nil {
		t.Fatal(err)
	}
	w.checkAsked("PUT /_matrix/federation/v2"+at+"?omit_members=true", "PUT /_matrix/federation/v1"+at)
	checkIDs(t, "state by the first version", got.State, r.events...)

	w.script(saying(403, `{"errcode":"M_FORBIDDEN","error":"no"}`))
	_, err = w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join})
	w.checkAsked("PUT /_matrix/federation/v2" + at)
	checkCode(t, "refusal", remote.Explain(err), matrix.Forbidden)
}

// Every event of the answer that is no good is left out, wherever it stands.
func TestSendJoinRefuses(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	good := raws(r.events...)
	topic := r.state("m.room.topic", "", `{"topic":"x"}`)
	stranger := matrix.UserID("@u:stranger.example")
	foreign := w.room("10")
	foreign.id = "!other:them.example"
	for _, c := range []struct {
		name string
		raw  string
		want remote.Refused
	}{
		{"good", string(topic.JSON), remote.Refused{}},
		{"flipped bit", string(flipped(t, topic)), remote.Refused{Unsigned: 1}},
		{"no signature", string(edit(t, topic, "signatures", `{}`)), remote.Refused{Unsigned: 1}},
		{"no signatures", string(canonical.AppendWithout(nil, topic.JSON, "signatures")), remote.Refused{Malformed: 1}},
		{"other sender", string(edit(t, topic, "sender", `"@eve:them.example"`)), remote.Refused{Unsigned: 1}},
		{"of another room", string(foreign.state("m.room.topic", "", `{}`).JSON), remote.Refused{Foreign: 1}},
		{"key not to be had", string(r.build(event.Proto{Type: "x", StateKey: new(string), Sender: stranger, RoomID: r.id,
			Content: []byte(`{}`), PrevEvents: ids(r.events[:1]), AuthEvents: ids(r.events[:1]), Depth: 5}).JSON),
			remote.Refused{Unverified: 1}},
		{"not a state event", string(r.message("hello").JSON), remote.Refused{Foreign: 1}},
		{"null", `null`, remote.Refused{Malformed: 1}},
		{"a number", `17`, remote.Refused{Malformed: 1}},
		{"an empty object", `{}`, remote.Refused{Malformed: 1}},
		{"mismatched brackets", `{"a":[}]`, remote.Refused{Malformed: 1}},
		{"larger than any event", `"` + string(oversized()) + `"`, remote.Refused{Malformed: 1}},
		{"an ID", `"` + string(topic.ID) + `"`, remote.Refused{Malformed: 1}},
	} {
		text := `{"state":[` + c.raw
		for _, raw := range good {
			text += "," + string(raw)
		}
		w.says(text + `],"auth_chain":[]}`)
		got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		want := 4
		if c.want.Total() == 0 {
			want++
		}
		if got.Refused != c.want || len(got.State) != want {
			t.Errorf("%s: refused %+v, want %+v; %d events of state, want %d", c.name, got.Refused, c.want, len(got.State), want)
		}
	}
}

func oversized() []byte {
	b := make([]byte, 600<<10)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

// A changed content comes through as what redaction leaves of the event, as everywhere.
func TestSendJoinRedacts(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	topic := r.state("m.room.topic", "", `{"topic":"x"}`)
	list := append(raws(r.events[:4]...), edit(t, topic, "content", `{"topic":"forged"}`))
	w.saysJSON(r.joinAnswer(map[string]any{"state": list}))
	got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
	if err != nil {
		t.Fatal(err)
	}
	if last := got.State[len(got.State)-1]; last.ID != topic.ID || !last.Redacted || string(last.Content) != `{}` {
		t.Errorf("got %s", last.JSON)
	}
}

func TestSendJoinHostile(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	other := w.room("10")
	version10 := r.build(event.Proto{Type: event.TypeCreate, StateKey: new(string), Sender: bob, RoomID: r.id, Depth: 1,
		Content: []byte(`{"room_version":"10"}`)})
	second := r.build(event.Proto{Type: event.TypeCreate, StateKey: new(string), Sender: bob, RoomID: r.id, Depth: 2,
		Content: []byte(`{"room_version":"11"}`)})
	for _, c := range []struct {
		name string
		set  map[string]any
	}{
		{"no state", map[string]any{"state": []any{}}},
		{"state is null", map[string]any{"state": nil}},
		{"state is an object", map[string]any{"state": map[string]any{}}},
		{"state is a string", map[string]any{"state": "x"}},
		{"auth chain is a number", map[string]any{"auth_chain": 1e9}},
		{"no create event", map[string]any{"state": raws(r.events[1:]...)}},
		{"create event of another room", map[string]any{"state": append(raws(other.events[0]), raws(r.events[1:]...)...)}},
		{"unsigned create event", map[string]any{
			"state": append([]json.RawMessage{flipped(t, r.events[0])}, raws(r.events[1:]...)...), "auth_chain": nil,
		}},
		{"two create events", map[string]any{"state": raws(append(r.events[:4:4], second)...)}},
		{"create event of another version", map[string]any{"state": append(raws(version10), raws(r.events[1:]...)...)}},
		{"members omitted unasked", map[string]any{"members_omitted": true, "servers_in_room": []string{"them.example"}}},
		{"members omitted is a string", map[string]any{"members_omitted": "yes"}},
		{"servers is an object", map[string]any{"servers_in_room": map[string]any{}}},
	} {
		w.saysJSON(r.joinAnswer(c.set))
		_, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
		checkError(t, c.name, err, remote.ErrBadAnswer)
	}
	w.saysJSON(r.joinAnswer(map[string]any{"members_omitted": true}))
	_, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins), OmitMembers: true})
	checkError(t, "members omitted without servers", err, remote.ErrBadAnswer)
	for _, text := range []string{``, `[]`, `[200]`, `null`, `{"state":[`, `{"state":[],"state":[]}`} {
		w.says(text)
		_, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
		checkError(t, text, err, remote.ErrBadAnswer)
	}
}

// Events that are in both lists, or several times in one, come once in each.
func TestSendJoinDuplicates(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	twice := append(raws(r.events...), raws(r.events...)...)
	w.saysJSON(r.joinAnswer(map[string]any{"state": twice, "auth_chain": twice}))
	got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
	if err != nil {
		t.Fatal(err)
	}
	checkIDs(t, "state", got.State, r.events...)
	checkIDs(t, "auth chain", got.AuthChain, r.events...)
	if got.State[0] != got.AuthChain[0] {
		t.Error("the same event is in memory twice")
	}
}

// In room versions 1 and 2 the sender chooses IDs: of two events with one ID the first counts.
func TestSendJoinChosenIDs(t *testing.T) {
	w := newWorld(t)
	r := w.room("1")
	topic := r.state("m.room.topic", "", `{"topic":"first"}`)
	forged := edit(t, topic, "state_key", `"other"`)
	list := append(raws(r.events...), forged)
	w.saysJSON(r.joinAnswer(map[string]any{"state": list}))
	got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
	if err != nil {
		t.Fatal(err)
	}
	checkIDs(t, "state", got.State, r.events...)
	if last := got.State[4]; *last.StateKey != "" {
		t.Errorf("got the state key %q of the second", *last.StateKey)
	}
}

func TestSendJoinRestricted(t *testing.T) {
	w := newWorld(t)
	r := w.room("10")
	join := r.member(`{"membership":"join","join_authorised_via_users_server":"@bob:them.example"}`)
	signed, err := join.Sign(them, w.keys[them])
	if err != nil {
		t.Fatal(err)
	}
	byOther, err := join.Sign(them, newKey(t, "ed25519:them", 50))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		good bool
	}{
		{"signed", signed.JSON, true},
		{"signed, with other content", edit(t, signed, "content", `{"membership":"ban"}`), true},
		{"signed, and much besides", edit(t, signed, "unsigned", `{"x":1}`), true},
		{"not signed", join.JSON, false},
		{"signed with another key", byOther.JSON, false},
		{"not an event", []byte(`[]`), false},
		{"null", []byte(`null`), false},
	} {
		w.saysJSON(r.joinAnswer(map[string]any{"event": json.RawMessage(c.raw)}))
		got, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join})
		if !c.good {
			checkError(t, c.name, err, remote.ErrBadAnswer)
			continue
		}
		// It must be our event with one more signature, byte by byte.
		if err != nil || string(got.Join.JSON) != string(signed.JSON) {
			t.Errorf("%s: got %v, %v; want %s", c.name, got.Join, err, signed.JSON)
		}
	}
	w.saysJSON(r.joinAnswer(nil))
	_, err = w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: join})
	checkError(t, "no event", err, remote.ErrBadAnswer)
}

// An answer without end stops at its limit, and the memory that it takes is bounded long before.
func TestSendJoinEndless(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = 'x'
	}
	w.script(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, `{"state":["`)
		for {
			if _, err := rw.Write(junk); err != nil {
				return
			}
		}
	})
	_, err := w.client.SendJoin(t.Context(), them, remote.JoinRequest{Join: r.member(joins)})
	checkError(t, "a string without end", err, outbound.ErrTooLarge)
	checkCode(t, "what a client sees", remote.Explain(err), matrix.Unknown)
}

func TestSendLeave(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	leave := r.member(`{"membership":"leave"}`)
	at := "/send_leave/%21room:them.example/" + string(leave.ID)
	w.says(`{}`)
	if err := w.client.SendLeave(t.Context(), them, leave); err != nil {
		t.Error(err)
	}
	w.checkAsked("PUT /_matrix/federation/v2" + at)
	w.script(func(rw http.ResponseWriter, q *http.Request) {
		if q.URL.Path[:len("/_matrix/federation/v2")] == "/_matrix/federation/v2" {
			saying(404, `not found`)(rw, q)
			return
		}
		io.WriteString(rw, `[200,{}]`)
	})
	if err := w.client.SendLeave(t.Context(), them, leave); err != nil {
		t.Error(err)
	}
	w.checkAsked("PUT /_matrix/federation/v2"+at, "PUT /_matrix/federation/v1"+at)
	w.script(saying(404, `{"errcode":"M_NOT_FOUND","error":"no such room"}`))
	checkCode(t, "no such room", remote.Explain(w.client.SendLeave(t.Context(), them, leave)), matrix.NotFound)
	w.checkAsked("PUT /_matrix/federation/v2" + at)
}

func TestSendKnock(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	knock := r.member(`{"membership":"knock"}`)
	stripped := json.RawMessage(`{"type":"m.room.name","state_key":"","sender":"@bob:them.example","content":{"name":"x"}}`)
	w.saysJSON(map[string]any{"knock_room_state": append(raws(r.events[0], r.events[3]), stripped, flipped(t, r.events[2]))})
	got, err := w.client.SendKnock(t.Context(), them, knock)
	if err != nil {
		t.Fatal(err)
	}
	w.checkAsked("PUT /_matrix/federation/v1/send_knock/%21room:them.example/" + string(knock.ID))
	checkIDs(t, "state", got.Events, r.events[0], r.events[3])
	if want := (remote.Refused{Malformed: 1, Unsigned: 1}); got.Refused != want {
		t.Errorf("refused: got %+v, want %+v", got.Refused, want)
	}
}
