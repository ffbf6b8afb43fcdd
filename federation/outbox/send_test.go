package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// overNetwork returns a Sender whose every connection leads to a server.
func overNetwork(t *testing.T, h http.Handler) Sender {
	t.Helper()
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	key, err := signing.Generate(strings.NewReader(strings.Repeat("k", 64)))
	if err != nil {
		t.Fatal(err)
	}
	client, err := outbound.New(outbound.Settings{
		Federation: config.Federation{Enabled: true, InsecureSkipVerify: true, Deny: []string{"denied.example"}},
		ServerName: us, Key: key,
		Connect: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return HTTP(client)
}

func TestHTTP(t *testing.T) {
	tx := Transaction{ID: "a-b", Body: []byte(`{"edus":[],"origin":"us.example","origin_server_ts":1,"pdus":[]}`)}
	sender := overNetwork(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPut || r.URL.Path != "/_matrix/federation/v1/send/a-b" || string(body) != string(tx.Body) {
			t.Errorf("got %s %s %s", r.Method, r.URL, body)
		}
		auth, err := outbound.ParseAuthorization(r.Header.Get("Authorization"))
		if err != nil || auth.Origin != us || auth.Destination != "8.8.8.8:1" {
			t.Errorf("got authorization %v, %v", auth, err)
		}
		fmt.Fprint(w, `{"pdus":{"$1":{},"$2":{"error":"no"},"$3":{"error":7},"$4":[]}}`)
	}))
	got, err := sender.Send(t.Context(), "8.8.8.8:1", tx)
	want := Answer{Errors: map[matrix.EventID]string{"$2": "no"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if err := sender.Permits("denied.example"); err == nil {
		t.Error("a server that is denied: got no error")
	}
	if _, err := sender.Send(t.Context(), "8.8.8.8:1", Transaction{ID: "x", Body: []byte(`{"pdus":[{]}`)}); judge(err).verdict != refused {
		t.Errorf("a body that is not JSON: got %v, want refused", err)
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		err  error
		want outcome
	}{
		{nil, outcome{verdict: delivered}},
		{&outbound.RemoteError{Status: 400}, outcome{verdict: refused}},
		{&outbound.RemoteError{Status: 413}, outcome{verdict: refused}},
		{fmt.Errorf("send: %w", &outbound.RemoteError{Status: 500}), outcome{verdict: refused}},
		{&outbound.RemoteError{Status: 302}, outcome{verdict: unreachable}},
		{&outbound.RemoteError{Status: 401}, outcome{verdict: unreachable}},
		{&outbound.RemoteError{Status: 403}, outcome{verdict: unreachable}},
		{&outbound.RemoteError{Status: 404}, outcome{verdict: unreachable}},
		{&outbound.RemoteError{Status: 429, RetryAfter: time.Minute}, outcome{verdict: unreachable, wait: time.Minute}},
		{&outbound.RemoteError{Status: 502}, outcome{verdict: unreachable}},
		{matrix.Errorf(matrix.BadJSON, "no"), outcome{verdict: refused}},
		{matrix.Errorf(matrix.Forbidden, "no"), outcome{verdict: unreachable}},
		{context.DeadlineExceeded, outcome{verdict: unreachable}},
		{errors.New("no route"), outcome{verdict: unreachable}},
	}
	for _, test := range tests {
		if got := judge(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
	}
}

// FuzzAnswer: whatever a server says, what is kept of it is short, and of events.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"pdus":{"$1":{"error":"x"}}}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"pdus":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for id, said := range readAnswer(text).Errors {
			if len(said) > maxErrorText+3 || said == "" {
				t.Errorf("%s: got %q", id, said)
			}
		}
	})
}

func TestTransactionID(t *testing.T) {
	make := func(change func(c *contents)) string {
		c := contents{ts: 5}
		c.addPDU(letter{at: 36, id: "$1", json: []byte(`{}`)}, 5)
		c.addEDU(letter{at: 35, json: []byte(`{"a":1}`)}, 4)
		change(&c)
		return c.transaction(us, "incarnation").ID
	}
	first := make(func(*contents) {})
	if again := make(func(*contents) {}); again != first || !strings.HasPrefix(first, "10-") {
		t.Errorf("got %s and %s for the same, want 10-...", first, again)
	}
	for name, change := range map[string]func(*contents){
		"another PDU":   func(c *contents) { c.pdus[0].at = 37 },
		"one PDU more":  func(c *contents) { c.addPDU(letter{at: 37}, 0) },
		"another EDU":   func(c *contents) { c.edus[0].json = []byte(`{"a":2}`) },
		"no EDU":        func(c *contents) { c.edus = nil },
		"another time":  func(c *contents) { c.ts = 6 },
		"of the moment": func(c *contents) { c.number = 1 },
	} {
		if got := make(change); got == first {
			t.Errorf("%s: got the same ID %s", name, got)
		}
	}
	c := contents{}
	if c.id("a") == c.id("b") {
		t.Error("the ID does not depend on the incarnation of the database")
	}
}
