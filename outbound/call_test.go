package outbound_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

const peer = matrix.ServerName("9.0.0.1")

// answering is an internet with one homeserver, and a client on it.
func answering(t testing.TB, h http.HandlerFunc) (*internet, *outbound.Client) {
	t.Helper()
	n := newInternet(t)
	n.serve("9.0.0.1:8448", h, "9.0.0.1")
	return n, n.client()
}

// What arrives is what was signed, byte for byte.
func TestCallIsSigned(t *testing.T) {
	uri := outbound.Path("_matrix", "federation", "v1", "event", "$a/b?c%") + "?x=%20y&z=+"
	n := newInternet(t)
	s := n.settings()
	n.serve("9.0.0.1:8448", func(w http.ResponseWriter, r *http.Request) {
		a, err := outbound.ParseAuthorization(r.Header.Get("Authorization"))
		if err != nil {
			t.Errorf("got the authorization %q: %v", r.Header.Get("Authorization"), err)
			return
		}
		content, _ := io.ReadAll(r.Body)
		msg := outbound.SignedRequest{
			Method: r.Method, URI: r.RequestURI, Origin: a.Origin, Destination: a.Destination, Content: content,
		}.Message()
		if err := signing.Verify(msg, a.Signature, s.Key.Public()); err != nil || a.Origin != us || a.Destination != peer {
			t.Errorf("got %+v over %s, which does not verify: %v", a, msg, err)
		}
		if r.Proto != "HTTP/2.0" || r.Header.Get("User-Agent") != "test" || r.RequestURI != uri {
			t.Errorf("got %s, user agent %q and %s, want HTTP/2.0, test and %s", r.Proto, r.Header.Get("User-Agent"), r.RequestURI, uri)
		}
		w.Write(content)
	}, "9.0.0.1")
	call := outbound.Call{To: peer, Method: http.MethodPut, URI: uri, Content: []byte(` {"b": 1.50, "a": "<é"} `)}
	got, err := newClient(t, s).Bytes(t.Context(), call)
	if want := `{"a":"<é","b":1.5}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestUnsignedCall(t *testing.T) {
	_, c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("got the authorization %q, want none", got)
		}
		io.WriteString(w, `{"server":{"name":"x"}}`)
	})
	var got struct{ Server struct{ Name string } }
	err := c.JSON(t.Context(), outbound.Call{To: peer, URI: version, Unsigned: true}, &got)
	if err != nil || got.Server.Name != "x" {
		t.Errorf("got %+v, %v, want the name x", got, err)
	}
	if err := c.JSON(t.Context(), outbound.Call{To: peer, URI: version, Unsigned: true}, &[]int{}); err == nil {
		t.Error("an object into a list: got no error")
	}
}

func TestRemoteErrors(t *testing.T) {
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   outbound.RemoteError
	}{
		{"of the protocol", answerError(403, `{"errcode":"M_FORBIDDEN","error":"no","room_version":"9"}`),
			outbound.RemoteError{Status: 403, Code: matrix.Forbidden, Message: "no"}},
		{"not JSON", answerError(502, `<html>`), outbound.RemoteError{Status: 502}},
		{"wrong types", answerError(500, `{"errcode":1}`), outbound.RemoteError{Status: 500}},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://10.0.0.1/", http.StatusFound)
		}, outbound.RemoteError{Status: 302}},
		{"retry_after_ms", answerError(429, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}`),
			outbound.RemoteError{Status: 429, Code: matrix.LimitExceeded, RetryAfter: 2500 * time.Millisecond}},
		{"retry_after_ms for ever", answerError(429, `{"retry_after_ms":1e300}`),
			outbound.RemoteError{Status: 429, RetryAfter: 24 * time.Hour}},
		{"Retry-After before retry_after_ms", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			answerError(429, `{"retry_after_ms":2500}`)(w, r)
		}, outbound.RemoteError{Status: 429, RetryAfter: 7 * time.Second}},
		{"a long text", answerError(400, `{"error":"`+strings.Repeat("é", 1000)+`"}`),
			outbound.RemoteError{Status: 400, Message: strings.Repeat("é", 250) + "..."}},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			endless(w, r)
		}, outbound.RemoteError{Status: 500}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n, c := answering(t, test.answer)
			_, err := ask(t, c, peer)
			var got *outbound.RemoteError
			test.want.Server = peer
			if !errors.As(err, &got) || *got != test.want {
				t.Errorf("got %v, want %v", err, &test.want)
			}
			if n.wasDialled("10.0.0.1") {
				t.Error("the redirect was followed")
			}
		})
	}
}

func answerError(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "-5": 0, "x": 0, "99999999999999999999": 24 * time.Hour,
		start.Add(time.Minute).Format(http.TimeFormat): time.Minute, start.Add(-time.Minute).Format(http.TimeFormat): 0,
	} {
		if got := outbound.RetryAfter(http.Header{"Retry-After": {value}}, start); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

// Slow and endless answers end at their limits.
func TestHostileAnswers(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"endless", endless, outbound.ErrTooLarge},
		{"too large, and says so", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1025")
			w.Write(make([]byte, 1025))
		}, outbound.ErrTooLarge},
		{"compressed", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zeros(t, 1<<20))
		}, outbound.ErrTooLarge},
		{"no answer", hang(stop), context.DeadlineExceeded},
		{"no end", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			hang(stop)(w, r)
		}, context.DeadlineExceeded},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, c := answering(t, test.answer)
			call := outbound.Call{To: peer, URI: version, MaxBytes: 1024}
			if test.want == context.DeadlineExceeded {
				call.Timeout = 200 * time.Millisecond
			}
			_, err := c.Bytes(t.Context(), call)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	_, c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
	})
	if _, err := ask(t, c, peer); err == nil {
		t.Error("100 kB of headers: got no error")
	}
}

func TestAnswerOfExactlyTheLimit(t *testing.T) {
	_, c := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1024)) })
	got, err := c.Bytes(t.Context(), outbound.Call{To: peer, URI: version, MaxBytes: 1024})
	if err != nil || len(got) != 1024 {
		t.Errorf("got %d bytes, %v, want 1024", len(got), err)
	}
}

// A large answer is read as it comes.
func TestAnswerIsStreamed(t *testing.T) {
	proceed := make(chan struct{})
	_, c := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "%d\n", i)
			w.(http.Flusher).Flush()
			<-proceed
		}
	})
	answer, err := c.Call(t.Context(), outbound.Call{To: peer, URI: version})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	for want := range 3 {
		var got int
		if _, err := fmt.Fscanln(answer.Body, &got); err != nil || got != want {
			t.Errorf("got %d, %v, want %d", got, err, want)
		}
		proceed <- struct{}{}
	}
}

func TestCallsThatAreNotMade(t *testing.T) {
	n, c := answering(t, homeserver)
	off := n.settings()
	off.Federation.Enabled = false
	denied := n.settings()
	denied.Federation.Deny = []string{string(peer)}
	tests := []struct {
		name string
		c    *outbound.Client
		call outbound.Call
	}{
		{"to ourselves", c, outbound.Call{To: us, URI: version}},
		{"federation is off", newClient(t, off), outbound.Call{To: peer, URI: version}},
		{"denied", newClient(t, denied), outbound.Call{To: peer, URI: version}},
		{"URI with a space", c, outbound.Call{To: peer, URI: version + " x"}},
		{"URI with a fragment", c, outbound.Call{To: peer, URI: version + "#x"}},
		{"URI that is not escaped", c, outbound.Call{To: peer, URI: "/_matrix/é"}},
		{"URI that is another host", c, outbound.Call{To: peer, URI: ".example/x"}},
		{"URI that is a user's", c, outbound.Call{To: peer, URI: "@10.0.0.1/x"}},
		{"no URI", c, outbound.Call{To: peer}},
		{"content that is no JSON", c, outbound.Call{To: peer, Method: "PUT", URI: version, Content: []byte("{")}},
		{"empty content", c, outbound.Call{To: peer, Method: "PUT", URI: version, Content: []byte{}}},
		{"method that is none", c, outbound.Call{To: peer, Method: "A B", URI: version}},
	}
	for _, test := range tests {
		if answer, err := test.c.Call(t.Context(), test.call); err == nil {
			answer.Close()
			t.Errorf("%s: got an answer, want an error", test.name)
		}
	}
	for _, denying := range []*outbound.Client{tests[1].c, tests[2].c} {
		if err := denying.Permits(peer); matrix.CodeOf(err) != matrix.Forbidden {
			t.Errorf("got %v, want %s", err, matrix.Forbidden)
		}
	}
	if len(n.dialled) > 0 {
		t.Errorf("got connections to %v, want none", n.dialled)
	}
}

// Lone requests go over HTTP/1.1, others over HTTP/2 where the server has it.
func TestProtocols(t *testing.T) {
	for lone, want := range map[bool]string{false: "HTTP/2.0", true: "HTTP/1.1"} {
		_, c := answering(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
		call := outbound.Call{To: peer, Method: http.MethodPut, URI: version, Content: []byte(`{}`), Lone: lone}
		if got, err := c.Bytes(t.Context(), call); string(got) != want || err != nil {
			t.Errorf("lone %v: got %s, %v, want %s", lone, got, err, want)
		}
	}
}

// A connection that died while it was kept does not cost a PUT its answer.
func TestKeptConnectionThatDied(t *testing.T) {
	n := newInternet(t)
	server := n.serve("9.0.0.1:8448", homeserver, "9.0.0.1")
	server.TLS.NextProtos = []string{"http/1.1"}
	c := n.client()
	for range 3 {
		call := outbound.Call{To: peer, Method: http.MethodPut, URI: version, Content: []byte(`{}`)}
		if _, err := c.Bytes(t.Context(), call); err != nil {
			t.Errorf("got %v, want an answer", err)
		}
		server.CloseClientConnections()
	}
}

func TestServersPermit(t *testing.T) {
	allow := config.Federation{Allow: []string{"good.example", "*.tree.example", "port.example:8448"}}
	deny := config.Federation{Deny: []string{"Bad.example", "*.tree.example", "port.example:8448"}}
	both := config.Federation{Allow: []string{"*.example"}, Deny: []string{"bad.example"}}
	tests := []struct {
		name   string
		rules  config.Federation
		server matrix.ServerName
		want   bool
	}{
		{"no rules", config.Federation{}, "a.example", true},
		{"allowed", allow, "good.example", true},
		{"allowed with a port", allow, "good.example:99", true},
		{"not allowed", allow, "other.example", false},
		{"below a tree", allow, "a.b.tree.example", true},
		{"the tree itself", allow, "tree.example", false},
		{"like a tree", allow, "atree.example", false},
		{"only with that port", allow, "port.example:8448", true},
		{"with another port", allow, "port.example:99", false},
		{"denied", deny, "bad.example", false},
		{"denied in another case", deny, "BAD.example", false},
		{"denied with a dot", deny, "bad.example.", false},
		{"denied with a dot and port", deny, "bad.example.:99", false},
		{"denied below a tree", deny, "x.tree.example:1", false},
		{"not denied", deny, "notbad.example", true},
		{"with another port than the denied", deny, "port.example", true},
		{"denied before allowed", both, "bad.example", false},
		{"allowed and not denied", both, "good.example", true},
	}
	for _, test := range tests {
		if got := outbound.ServersPermit(test.rules, test.server); got != test.want {
			t.Errorf("%s: %s: got %t, want %t", test.name, test.server, got, test.want)
		}
	}
}

func TestCertificateAuthorities(t *testing.T) {
	n := newInternet(t)
	s := n.settings()
	n.serve("9.0.0.1:8448", homeserver, "9.0.0.1")
	s.Federation.CAFile = ""
	if _, err := ask(t, newClient(t, s), peer); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("authorities of the system: got %v, want an error of the certificate", err)
	}
	s.Federation.InsecureSkipVerify = true
	if _, err := ask(t, newClient(t, s), peer); err != nil {
		t.Errorf("any certificate: got %v, want an answer", err)
	}
	s.Federation.CAFile = filepath.Join(t.TempDir(), "none.pem")
	if _, err := outbound.New(s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: got %v, want %v", err, os.ErrNotExist)
	}
	if err := os.WriteFile(s.Federation.CAFile, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := outbound.New(s); err == nil {
		t.Error("a file without certificates: got no error")
	}
}

// transaction is one of 50 PDUs, each of about size bytes.
func transaction(size int) []byte {
	pdu, _ := json.Marshal(map[string]any{"type": "m.room.message", "content": map[string]any{"body": strings.Repeat("x", size)}})
	return []byte(`{"edus":[],"origin":"us.example","pdus":[` + strings.TrimSuffix(strings.Repeat(string(pdu)+",", 50), ",") + `]}`)
}

func BenchmarkSignRequest(b *testing.B) {
	c := newInternet(b).client()
	for name, content := range map[string][]byte{"without content": nil, "transaction of 50 PDUs": transaction(1000)} {
		b.Run(name, func(b *testing.B) {
			call := outbound.Call{To: "a.example", Method: http.MethodPut, URI: "/_matrix/federation/v1/send/1", Content: content}
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.NewRequest(b.Context(), call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseAuthorization(b *testing.B) {
	header := outbound.Authorization{Origin: "a", Destination: "b", Key: "ed25519:1", Signature: strings.Repeat("A", 86)}.String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := outbound.ParseAuthorization(header); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCall is the whole way there and back over a kept connection, both ends in this process.
func BenchmarkCall(b *testing.B) {
	for _, lone := range []bool{false, true} {
		b.Run(fmt.Sprintf("lone=%v", lone), func(b *testing.B) {
			_, c := answering(b, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Write(bytes.Repeat([]byte(" "), 100))
			})
			call := outbound.Call{To: peer, Method: http.MethodPut, URI: version, Content: []byte(`{}`), Lone: lone}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Bytes(b.Context(), call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
