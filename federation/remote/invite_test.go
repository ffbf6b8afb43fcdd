package remote_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// invite is one of alice's, to bob.
func (r *room) invite() *event.Event {
	user := string(bob)
	return r.build(event.Proto{
		Type: event.TypeMember, StateKey: &user, Sender: alice, RoomID: r.id, Content: []byte(`{"membership":"invite"}`),
		PrevEvents: ids(r.events[3:]), AuthEvents: ids(r.events[:1]), Depth: 9,
	})
}

func TestInvite(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	invite := r.invite()
	signed, err := invite.Sign(them, w.keys[them])
	if err != nil {
		t.Fatal(err)
	}
	byOther, err := invite.Sign("other.example", w.keys[them])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		answer string
		good   bool
	}{
		{"signed", `{"event":` + string(signed.JSON) + `}`, true},
		{"signed, but changed", `{"event":` + string(edit(t, signed, "content", `{"membership":"ban"}`)) + `}`, true},
		{"not signed", `{"event":` + string(invite.JSON) + `}`, false},
		{"signed by another", `{"event":` + string(byOther.JSON) + `}`, false},
		{"nothing", `{}`, false},
		{"a list", `[200,{}]`, false},
		{"a string", `{"event":"x"}`, false},
	} {
		w.says(c.answer)
		got, err := w.client.Invite(t.Context(), remote.Invite{Event: invite, State: r.events[:2]})
		if !c.good {
			checkError(t, c.name, err, remote.ErrBadAnswer)
			continue
		}
		if err != nil || string(got.JSON) != string(signed.JSON) {
			t.Errorf("%s: got %v, %v; want %s", c.name, got, err, signed.JSON)
		}
	}
	w.checkAskedOf(t, "PUT /_matrix/federation/v2/invite/%21room:them.example/"+string(invite.ID))
	var body remote.InviteRequest
	if err := json.Unmarshal(w.lastBody(), &body); err != nil {
		t.Fatal(err)
	}
	if body.RoomVersion != "11" || string(body.Event) != string(invite.JSON) || len(body.State) != 2 {
		t.Errorf("sent %s", w.lastBody())
	}
}

// checkAskedOf checks the last request alone.
func (w *world) checkAskedOf(t *testing.T, want string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.asked[len(w.asked)-1]
	if got := last.Method + " " + last.RequestURI; got != want {
		t.Errorf("request: got %s, want %s", got, want)
	}
}

func TestInviteFirstVersion(t *testing.T) {
	for _, c := range []struct {
		version matrix.RoomVersion
		asked   int
	}{{"1", 2}, {"2", 2}, {"3", 1}, {"11", 1}} {
		w := newWorld(t)
		r := w.room(c.version)
		invite := r.invite()
		signed, err := invite.Sign(them, w.keys[them])
		if err != nil {
			t.Fatal(err)
		}
		w.script(func(rw http.ResponseWriter, q *http.Request) {
			if strings.HasPrefix(q.URL.Path, "/_matrix/federation/v2") {
				saying(404, `{}`)(rw, q)
				return
			}
			fmt.Fprintf(rw, `[200,{"event":%s}]`, signed.JSON)
		})
		got, err := w.client.Invite(t.Context(), remote.Invite{Event: invite, State: r.events[:1]})
		if len(w.asked) != c.asked {
			t.Errorf("version %s: %d requests, want %d", c.version, len(w.asked), c.asked)
		}
		if c.asked == 1 {
			checkCode(t, "version "+string(c.version), remote.Explain(err), matrix.Unknown)
			continue
		}
		if err != nil || string(got.JSON) != string(signed.JSON) {
			t.Errorf("version %s: got %v, %v", c.version, got, err)
		}
		var body remote.InviteRequestV1
		if err := json.Unmarshal(w.lastBody(), &body); err != nil || len(body.Unsigned.State) != 1 {
			t.Errorf("version %s: sent %s", c.version, w.lastBody())
		}
		if _, err := event.Parse(r.version, w.lastBody()); err != nil {
			t.Errorf("version %s: the body is no event: %v", c.version, err)
		}
	}
}

func TestInviteOfNobody(t *testing.T) {
	w := newWorld(t)
	w.says(`{}`)
	_, err := w.client.Invite(t.Context(), remote.Invite{Event: w.room("11").member(joins)})
	checkCode(t, "a join", err, matrix.BadJSON)
	w.checkAsked()
}

func TestExchangeThirdPartyInvite(t *testing.T) {
	w := newWorld(t)
	w.says(`{}`)
	err := w.client.ExchangeThirdPartyInvite(t.Context(), them, remote.ThirdPartyInvite{
		Type: event.TypeMember, RoomID: "!r:them.example", Sender: bob, StateKey: alice,
		Content: json.RawMessage(`{"membership":"invite","third_party_invite":{}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.checkAsked("PUT /_matrix/federation/v1/exchange_third_party_invite/%21r:them.example")
	want := `{"content":{"membership":"invite","third_party_invite":{}},"room_id":"!r:them.example","sender":"@bob:them.example",` +
		`"state_key":"@alice:us.example","type":"m.room.member"}`
	if got := string(w.lastBody()); got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

func TestPolicySign(t *testing.T) {
	w := newWorld(t)
	r := w.room("11")
	e := r.invite()
	policy := newKey(t, remote.PolicyKey, 30)
	signed, err := e.Sign(them, policy)
	if err != nil {
		t.Fatal(err)
	}
	ask := remote.PolicyServer{Name: them, Key: policy.Public()}
	answer := func(s matrix.ServerName, id signing.KeyID, k signing.Key) string {
		other, err := e.Sign(s, k)
		if err != nil {
			t.Fatal(err)
		}
		var obj struct {
			Signatures map[matrix.ServerName]map[signing.KeyID]string `json:"signatures"`
		}
		if err := json.Unmarshal(other.JSON, &obj); err != nil {
			t.Fatal(err)
		}
		return string(mustJSON(t, map[matrix.ServerName]any{s: map[signing.KeyID]string{id: obj.Signatures[s][k.ID()]}}))
	}
	w.says(answer(them, remote.PolicyKey, policy))
	got, err := w.client.PolicySign(t.Context(), ask, e)
	if err != nil || string(got.JSON) != string(signed.JSON) {
		t.Errorf("got %v, %v; want %s", got, err, signed.JSON)
	}
	w.checkAsked("POST /_matrix/policy/v1/sign")
	for name, text := range map[string]string{
		"nothing": `{}`, "a list": `[]`, "not JSON": `{`, "a number": `{"them.example":{"ed25519:policy_server":1}}`,
		"short":          `{"them.example":{"ed25519:policy_server":"AAAA"}}`,
		"another server": answer("other.example", remote.PolicyKey, policy),
		"another key ID": answer(them, "ed25519:x", policy),
		"another key":    answer(them, remote.PolicyKey, newKey(t, remote.PolicyKey, 31)),
	} {
		w.says(text)
		_, err := w.client.PolicySign(t.Context(), ask, e)
		checkError(t, name, err, remote.ErrBadAnswer)
	}
	w.script(saying(400, `{"errcode":"M_FORBIDDEN","error":"spam"}`))
	_, err = w.client.PolicySign(t.Context(), ask, e)
	checkCode(t, "refused", remote.Explain(err), matrix.Forbidden)
	w.says(`{}`)
	_, err = w.client.PolicySign(t.Context(), ask, r.state("m.room.policy", "", `{"via":"them.example"}`))
	checkCode(t, "the event that names the policy server", err, matrix.BadState)
	w.checkAsked()
	_, err = w.client.PolicySign(t.Context(), remote.PolicyServer{Name: them, Key: nil}, e)
	if err == nil {
		t.Error("no key: got no error")
	}
}
