package keys_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// asNotary lets a server answer questions for the keys of others with documents, which it signs with its key.
func (p *peer) asNotary(documents func() [][]byte) {
	p.w.serve(p.name, func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			rw.Write(p.document())
			return
		}
		var signed []json.RawMessage
		for _, d := range documents() {
			obj, err := signing.SignJSON(d, p.name, p.key)
			if err != nil {
				p.w.t.Error(err)
			}
			signed = append(signed, obj)
		}
		json.NewEncoder(rw).Encode(map[string]any{"server_keys": signed})
	})
}

const notary = matrix.ServerName("notary.example")

func TestNotary(t *testing.T) {
	change := func(old, new string, d []byte) []byte { return bytes.Replace(d, []byte(old), []byte(new), 1) }
	tests := []struct {
		name string
		set  func(n, p *peer) [][]byte // what the notary has
		want string
	}{
		{"honest", func(_, p *peer) [][]byte { return [][]byte{p.document()} }, right},
		{"knows nothing", func(_, p *peer) [][]byte { return nil }, unavailable},
		{"another server's keys beside", func(n, p *peer) [][]byte { return [][]byte{n.document(), p.document()} }, right},
		{"another server's keys instead", func(n, p *peer) [][]byte { return [][]byte{n.document()} }, unavailable},
		{"changed by the notary", func(_, p *peer) [][]byte {
			return [][]byte{change(`"valid_until_ts":`, `"valid_until_ts":1`, p.document())}
		}, unavailable},
		{"not signed by the server", func(_, p *peer) [][]byte {
			return [][]byte{change(`"signatures":{"p.example"`, `"signatures":{"x.example"`, p.document())}
		}, unavailable},
		{"the notary's key is not the one it publishes", func(n, p *peer) [][]byte {
			n.key = newKey(n.w.t, n.key.ID(), 99)
			return [][]byte{p.document()}
		}, unavailable},
		{"garbage beside", func(_, p *peer) [][]byte { return [][]byte{[]byte(`{"x":1}`), p.document()} }, right},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			n, p := w.peer(notary, 5), w.peer("p.example", 7)
			honest := n.document()
			e := p.event("10", start)
			w.down(p.name)
			documents := test.set(n, p)
			n.asNotary(func() [][]byte { return documents })
			answering := w.handlers[string(notary)]
			w.serve(notary, func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					rw.Write(honest)
					return
				}
				answering(rw, r)
			})
			check(t, "event", w.ring(notary), e, test.want)
		})
	}
}

// The question names what is needed, and until when it must be valid.
func TestNotaryQuestion(t *testing.T) {
	w := newWorld(t)
	n, p := w.peer(notary, 5), w.peer("p.example", 7)
	strict, loose := p.event("10", start), p.event("4", start)
	w.down(p.name)
	var asked []string
	w.serve(n.name, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, string(body))
		io.WriteString(rw, `{"server_keys":[]}`)
	})
	r := w.ring(n.name)
	check(t, "version 4", r, loose, unavailable)
	w.pass(keys.NotaryPause)
	check(t, "version 10", r, strict, unavailable)
	question := `{"server_keys":{"p.example":{"ed25519:k":{"minimum_valid_until_ts":%d}}}}`
	want := []string{fmt.Sprintf(question, 0), fmt.Sprintf(question, start.UnixMilli())}
	if !slices.Equal(asked, want) {
		t.Errorf("got the questions %s, want %s", asked, want)
	}
}

// What a notary says takes no place of what the server itself said.
func TestNotaryReplacesNothing(t *testing.T) {
	w := newWorld(t)
	n, p := w.peer(notary, 5), w.peer("p.example", 7)
	liar := *p
	liar.key = newKey(t, "ed25519:k", 66)
	n.asNotary(func() [][]byte { return [][]byte{liar.document()} })
	r := w.ring(n.name)
	check(t, "at first", r, p.event("10", start), right)
	w.down(p.name)
	w.pass(48 * time.Hour)
	check(t, "the notary's key", r, liar.event("10", w.clock()), unavailable)
	check(t, "the server's key", r, p.event("10", start), right)
	if w.requests(n.name) == 0 {
		t.Error("the notary was not asked")
	}
}

// A notary lengthens what is known, as long as the server is gone.
func TestNotaryLengthens(t *testing.T) {
	w := newWorld(t)
	n, p := w.peer(notary, 5), w.peer("p.example", 7)
	n.asNotary(func() [][]byte { return [][]byte{p.document()} })
	r := w.ring(n.name)
	check(t, "at first", r, p.event("10", start), right)
	w.down(p.name)
	w.pass(48 * time.Hour)
	check(t, "two days later", r, p.event("10", w.clock()), right)
}

// A notary that is down, or that never knows, is not asked at every signature.
func TestNotaryIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	n, p := w.peer(notary, 5), w.peer("p.example", 7)
	e := p.event("10", start)
	w.down(p.name)
	for name, h := range map[string]http.HandlerFunc{
		"down":          http.NotFound,
		"not a notary":  func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, `[1]`) },
		"knows nothing": func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, `{"server_keys":[]}`) },
	} {
		w.serve(n.name, h)
		r := w.ring(n.name)
		w.requests(n.name)
		for range 5 {
			w.pass(keys.NotaryPause / 10)
			check(t, name, r, e, unavailable)
		}
		if got := w.requests(n.name); got != 1 {
			t.Errorf("%s: got %d requests, want 1", name, got)
		}
		w.pass(keys.NotaryPause)
		check(t, name, r, e, unavailable)
		if got := w.requests(n.name); got != 1 {
			t.Errorf("%s, later: got %d requests, want 1", name, got)
		}
	}
}

// For many servers at once the notary is asked first, in one request.
func TestManyServersAtOnce(t *testing.T) {
	w := newWorld(t)
	n := w.peer(notary, 5)
	var events []*event.Event
	var documents [][]byte
	for i := range keys.ManyServers + 1 {
		p := w.peer(matrix.ServerName(fmt.Sprintf("s%d.example", i)), byte(i+10))
		events = append(events, p.event("10", start))
		if i > 0 {
			documents = append(documents, p.document())
			w.down(p.name)
		}
	}
	n.asNotary(func() [][]byte { return documents })
	for i, err := range w.ring(n.name).VerifyEvents(t.Context(), events) {
		if err != nil {
			t.Errorf("event %d: got %v, want no error", i, err)
		}
	}
	if got := w.requests(n.name); got != 2 {
		t.Errorf("got %d requests to the notary, want 2: for its own keys, and for all others", got)
	}
	if got := w.requests("s0.example"); got != 1 {
		t.Errorf("got %d requests to the server that the notary does not know, want 1", got)
	}
}

// Two notaries that do not know each other do not ask each other for ever.
func TestNotariesInACircle(t *testing.T) {
	w := newWorld(t)
	a, b, p := w.peer("na.example", 5), w.peer("nb.example", 6), w.peer("p.example", 7)
	e := p.event("10", start)
	document := p.document()
	w.down(p.name)
	for _, n := range []*peer{a, b} {
		answer := func(rw http.ResponseWriter, r *http.Request) {
			signed, _ := signing.SignJSON(document, n.name, n.key)
			fmt.Fprintf(rw, `{"server_keys":[%s]}`, signed)
		}
		w.serve(n.name, func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				http.NotFound(rw, r)
				return
			}
			answer(rw, r)
		})
	}
	check(t, "event", w.ring(a.name, b.name), e, unavailable)
	if got := w.requests(a.name) + w.requests(b.name); got > 8 {
		t.Errorf("got %d requests to the notaries, want at most 8", got)
	}
}

// answer is what a notary tells: for each document its server and the servers that signed it, all of them rightly.
func answer(t *testing.T, text []byte, by map[matrix.ServerName]signing.Key) []string {
	t.Helper()
	if _, err := canonical.JSON(text, canonical.Strict); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var list []string
	for d := range canonical.Elements(canonical.Get(text, "server_keys")) {
		name, _ := canonical.String(canonical.Get(d, "server_name"))
		signers := slices.Sorted(maps.Keys(fieldsOf(canonical.Get(d, "signatures"))))
		for _, signer := range signers {
			k := by[matrix.ServerName(signer)]
			if err := signing.VerifyJSON(d, matrix.ServerName(signer), k.ID(), k.Public()); err != nil {
				t.Errorf("%s: the signature of %s: %v", d, signer, err)
			}
		}
		list = append(list, name+" by "+strings.Join(signers, " "))
	}
	slices.Sort(list)
	return list
}

func fieldsOf(obj []byte) map[string][]byte { return maps.Collect(canonical.Fields(obj)) }

func TestQuery(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		a, b := w.peer("a.example", 7), w.peer("b.example", 8)
		r := newRing(t, w.settings(db))
		by := map[matrix.ServerName]signing.Key{us: newKey(t, "ed25519:us", 1), a.name: a.key, b.name: b.key}
		query := func(what, body string, want ...string) {
			t.Helper()
			text, err := r.Query(t.Context(), []byte(body))
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			if got := answer(t, text, by); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		query("of nobody", `{"server_keys":{}}`)
		query("of one", `{"server_keys":{"a.example":{"ed25519:k":{}}}}`, "a.example by a.example us.example")
		query("of several", `{"server_keys":{"b.example":{},"a.example":{},"down.example":{},"no/server":{}}}`,
			"a.example by a.example us.example", "b.example by b.example us.example")
		query("of us", `{"server_keys":{"us.example":{}}}`, "us.example by us.example")
		if got := w.requests(a.name); got != 1 {
			t.Errorf("got %d requests, want 1", got)
		}
		w.down(a.name)
		w.pass(100 * time.Hour)
		query("of one that is gone", `{"server_keys":{"a.example":{"ed25519:k":{"minimum_valid_until_ts":99999999999999}}}}`,
			"a.example by a.example us.example")
		query("of one that is denied", `{"server_keys":{"denied.example":{}}}`)
		text, err := r.QueryServer(t.Context(), "b.example", 0)
		if got, want := answer(t, text, by), []string{"b.example by b.example us.example"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("GET: got %q, %v, want %q", got, err, want)
		}
	})
}

// What is asked of the server again, and what is answered from what is known.
func TestQueryFreshness(t *testing.T) {
	until := func(d time.Duration) string {
		return fmt.Sprintf(`{"server_keys":{"a.example":{"ed25519:k":{"minimum_valid_until_ts":%d}}}}`, start.Add(d).UnixMilli())
	}
	tests := []struct {
		name  string
		pass  time.Duration
		query string
		want  int // requests to the server
	}{
		{"fresh", time.Hour, `{"server_keys":{"a.example":{"ed25519:k":{}}}}`, 0},
		{"fresh, no key named", time.Hour, `{"server_keys":{"a.example":{}}}`, 0},
		{"half of its life is over", 13 * time.Hour, `{"server_keys":{"a.example":{"ed25519:k":{}}}}`, 1},
		{"half of its life is over, no key named", 13 * time.Hour, `{"server_keys":{"a.example":{}}}`, 1},
		{"valid for long enough", time.Hour, until(23 * time.Hour), 0},
		{"not valid for long enough", time.Hour, until(25 * time.Hour), 1},
		{"another key", time.Hour, `{"server_keys":{"a.example":{"ed25519:z":{}}}}`, 1},
		{"another key, a moment later", time.Second / 2, `{"server_keys":{"a.example":{"ed25519:z":{}}}}`, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			a := w.peer("a.example", 7)
			r := w.ring()
			check(t, "event", r, a.event("10", start), right)
			w.requests(a.name)
			w.pass(test.pass)
			text, err := r.Query(t.Context(), []byte(test.query))
			if err != nil || !bytes.Contains(text, []byte(`"server_name":"a.example"`)) {
				t.Errorf("got %s, %v, want the keys of a.example", text, err)
			}
			if got := w.requests(a.name); got != test.want {
				t.Errorf("got %d requests, want %d", got, test.want)
			}
		})
	}
}

// A key that its server does not mention any more is told with the document that last did.
func TestQueryForAForgottenKey(t *testing.T) {
	w := newWorld(t)
	a := w.peer("a.example", 7)
	r := w.ring()
	check(t, "the first key", r, a.event("10", start), right)
	old := a.key
	a.key = newKey(t, "ed25519:new", 8)
	w.pass(keys.PauseAfterAnswer)
	check(t, "the second key", r, a.event("10", start), right)
	for id, by := range map[string]signing.Key{"ed25519:k": old, "ed25519:new": a.key} {
		text, err := r.Query(t.Context(), []byte(`{"server_keys":{"a.example":{"`+id+`":{}}}}`))
		if err != nil {
			t.Fatal(err)
		}
		got := answer(t, text, map[matrix.ServerName]signing.Key{us: newKey(t, "ed25519:us", 1), a.name: by})
		if !slices.Equal(got, []string{"a.example by a.example us.example"}) {
			t.Errorf("%s: got %q, want one document of a.example", id, got)
		}
	}
}

func TestQueriesThatAreNone(t *testing.T) {
	r := newWorld(t).ring()
	many := map[string]any{}
	for i := range 501 {
		many[fmt.Sprintf("s%d.example", i)] = map[string]any{}
	}
	tooMany, err := json.Marshal(map[string]any{"server_keys": many})
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]matrix.ErrorCode{
		``: matrix.NotJSON, `{`: matrix.NotJSON, `{}`: matrix.BadJSON, `[]`: matrix.BadJSON, `{"server_keys":[]}`: matrix.BadJSON,
		string(tooMany): matrix.TooLarge,
	} {
		if text, err := r.Query(t.Context(), []byte(body)); matrix.CodeOf(err) != want {
			t.Errorf("%.40s: got %s, %v, want %s", body, text, err, want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	f.Add([]byte(`{"server_keys":{"a.example":{"ed25519:k":{"minimum_valid_until_ts":1}},"x/":{},"b":1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := keys.ParseQuery(body)
		if err != nil && matrix.CodeOf(err) == matrix.Unknown || n > 500 {
			t.Errorf("%q: got %d servers, %v, want at most 500 or an error to answer with", body, n, err)
		}
	})
}
