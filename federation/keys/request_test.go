package keys_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// request is one that p has signed.
func (p *peer) request(method, uri, content string) keys.Request {
	p.w.t.Helper()
	signed := outbound.SignedRequest{Method: method, URI: uri, Origin: p.name, Destination: us}
	if content != "" {
		c, err := canonical.JSON([]byte(content), canonical.Lenient)
		if err != nil {
			p.w.t.Fatal(err)
		}
		signed.Content = c
	}
	return keys.Request{
		Method: method, URI: uri, Authorization: []string{signed.Sign(p.key).String()}, Content: []byte(content),
	}
}

// CVE-2024-6301, and all that somebody can do with a request that he has seen or made up.
func TestCVE_2024_6301_Authenticate(t *testing.T) {
	const uri = "/_matrix/federation/v1/send/%C3%A9?x=a%20b"
	w := newWorld(t)
	a, b, denied := w.peer("a.example", 7), w.peer("b.example", 8), w.peer("denied.example", 9)
	self := &peer{w: w, name: us, key: newKey(t, "ed25519:us", 1)}
	forged := *a
	forged.key = b.key
	retired := *a
	retired.key = newKey(t, "ed25519:old", 10)
	a.old["ed25519:old"] = map[string]any{
		"key": signing.EncodeBase64(retired.key.Public()), "expired_ts": start.Add(time.Hour).UnixMilli(),
	}
	down := w.peer("down.example", 11)
	w.down(down.name)
	// with changes a good request.
	with := func(change func(*keys.Request)) keys.Request {
		r := a.request("PUT", uri, `{"n":1.50, "b":"é"}`)
		change(&r)
		return r
	}
	header := func(change func(*outbound.Authorization)) keys.Request {
		return with(func(r *keys.Request) {
			parsed, err := outbound.ParseAuthorization(r.Authorization[0])
			if err != nil {
				t.Fatal(err)
			}
			change(&parsed)
			r.Authorization[0] = parsed.String()
		})
	}
	elsewhere := outbound.SignedRequest{Method: "PUT", URI: uri, Origin: a.name, Destination: b.name}.Sign(a.key)
	elsewhere.Destination = us
	undirected := `X-Matrix origin=a.example,key="ed25519:k",sig="` +
		outbound.SignedRequest{Method: "GET", URI: uri, Origin: a.name, Destination: us}.Sign(a.key).Signature + `"`
	tests := []struct {
		name    string
		request keys.Request
		want    string // origin, or error code
	}{
		{"good", with(func(*keys.Request) {}), "a.example"},
		{"without content", a.request("GET", uri, ""), "a.example"},
		{"from an old server, without destination", keys.Request{Method: "GET", URI: uri, Authorization: []string{undirected}}, "a.example"},
		{"content in other words", with(func(r *keys.Request) { r.Content = []byte(`{"b":"\u00e9","n":1.5}`) }), "a.example"},
		{"two keys, one of them good", with(func(r *keys.Request) {
			r.Authorization = append(forged.request("PUT", uri, `{}`).Authorization, r.Authorization...)
		}), "a.example"},
		{"no authorization", with(func(r *keys.Request) { r.Authorization = nil }), "M_UNAUTHORIZED"},
		{"another scheme", with(func(r *keys.Request) { r.Authorization = []string{"Bearer x"} }), "M_UNAUTHORIZED"},
		{"other method", with(func(r *keys.Request) { r.Method = "POST" }), "M_UNAUTHORIZED"},
		{"other path", with(func(r *keys.Request) { r.URI = "/_matrix/federation/v1/send/x" }), "M_UNAUTHORIZED"},
		{"path decoded", with(func(r *keys.Request) { r.URI = "/_matrix/federation/v1/send/é?x=a b" }), "M_UNAUTHORIZED"},
		{"path encoded in another way", with(func(r *keys.Request) { r.URI = "/_matrix/federation/v1/send/%c3%a9?x=a%20b" }), "M_UNAUTHORIZED"},
		{"without the query", with(func(r *keys.Request) { r.URI = "/_matrix/federation/v1/send/%C3%A9" }), "M_UNAUTHORIZED"},
		{"other content", with(func(r *keys.Request) { r.Content = []byte(`{}`) }), "M_UNAUTHORIZED"},
		{"content taken away", with(func(r *keys.Request) { r.Content = nil }), "M_UNAUTHORIZED"},
		{"content added", keys.Request{Method: "GET", URI: uri, Authorization: a.request("GET", uri, "").Authorization, Content: []byte(`{}`)}, "M_UNAUTHORIZED"},
		{"content that is no JSON", with(func(r *keys.Request) { r.Content = []byte(`{`) }), "M_NOT_JSON"},
		{"other destination", header(func(h *outbound.Authorization) { h.Destination = b.name }), "M_UNAUTHORIZED"},
		{"signed for another server", with(func(r *keys.Request) { r.Authorization = []string{elsewhere.String()} }), "M_UNAUTHORIZED"},
		{"other origin", header(func(h *outbound.Authorization) { h.Origin = b.name }), "M_UNAUTHORIZED"},
		{"key of another server", forged.request("PUT", uri, `{}`), "M_UNAUTHORIZED"},
		{"key that is not there", header(func(h *outbound.Authorization) { h.Key = "ed25519:z" }), "M_UNAUTHORIZED"},
		{"key that is not used any more", retired.request("PUT", uri, `{}`), "M_UNAUTHORIZED"},
		{"signature that is none", header(func(h *outbound.Authorization) { h.Signature = "AAAA" }), "M_UNAUTHORIZED"},
		{"two servers", with(func(r *keys.Request) {
			r.Authorization = append(r.Authorization, b.request("PUT", uri, `{}`).Authorization...)
		}), "M_UNAUTHORIZED"},
		{"of ourselves", self.request("PUT", uri, `{}`), "M_UNAUTHORIZED"},
		{"of a server that is down", down.request("PUT", uri, `{}`), "M_UNAUTHORIZED"},
		{"of a server that is denied", denied.request("PUT", uri, `{}`), "M_FORBIDDEN"},
	}
	r := w.ring()
	for _, test := range tests {
		got, err := r.Authenticate(t.Context(), test.request)
		if err != nil {
			got = matrix.ServerName(matrix.CodeOf(err))
		}
		if string(got) != test.want {
			t.Errorf("%s: got %s (%v), want %s", test.name, got, err, test.want)
		}
	}
	if got := w.requests(denied.name); got != 0 {
		t.Errorf("the denied server was asked %d times, want not at all", got)
	}
}

// A request's key must be good now, whatever it was once.
func TestAuthenticateWithAKeyThatEnded(t *testing.T) {
	w := newWorld(t)
	a := w.peer("a.example", 7)
	r := w.ring()
	request := a.request("GET", "/", "")
	authenticate := func(what string, want string) {
		t.Helper()
		got, err := r.Authenticate(t.Context(), request)
		if err != nil {
			got = matrix.ServerName(matrix.CodeOf(err))
		}
		if string(got) != want {
			t.Errorf("%s: got %s (%v), want %s", what, got, err, want)
		}
	}
	authenticate("at first", "a.example")
	w.pass(25 * time.Hour)
	authenticate("asked again after its end", "a.example")
	w.serve(a.name, http.NotFound)
	w.pass(25 * time.Hour)
	authenticate("not confirmed after its end", "M_UNAUTHORIZED")
}

// A key that its server has replaced without a word signs no requests any more, once that is known; its events of
// before stay good, also after a restart.
func TestKeyThatWasDropped(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t)
		a := w.peer("a.example", 7)
		stolen := *a
		r := newRing(t, w.settings(db))
		if _, err := r.Authenticate(t.Context(), stolen.request("GET", "/", "")); err != nil {
			t.Errorf("before: got %v, want no error", err)
		}
		w.pass(time.Hour)
		a.key = newKey(t, "ed25519:new", 8)
		if _, err := r.Authenticate(t.Context(), a.request("GET", "/", "")); err != nil {
			t.Errorf("the new key: got %v, want no error", err)
		}
		for _, r := range []*keys.Ring{r, newRing(t, w.settings(db))} {
			_, err := r.Authenticate(t.Context(), stolen.request("GET", "/", ""))
			if got := matrix.CodeOf(err); got != matrix.Unauthorized {
				t.Errorf("the old key: got %v, want %s", err, matrix.Unauthorized)
			}
			check(t, "event of before", r, stolen.event("10", start), right)
			check(t, "event of after", r, stolen.event("10", start.Add(2*time.Hour)), wrong)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b)
	r, request := w.ring(), w.peer("a.example", 7).request("PUT", "/_matrix/federation/v1/send/1", `{"pdus":[],"edus":[]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Authenticate(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
