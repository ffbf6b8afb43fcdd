package outbound_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/outbound"
)

// zeros is a small text that decompresses to so many bytes.
func zeros(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// most is what a kind of request may be permitted at most.
var most = outbound.Rules{MaxBytes: 1000, Timeout: 20 * time.Second, Redirects: 3, PlainHTTP: true}

// web is an internet with a page at www.example, by plain HTTP.
func web(t *testing.T, page http.HandlerFunc) *internet {
	t.Helper()
	n := newInternet(t)
	n.name("www.example", "8.0.0.1")
	n.name("inside.example", "10.0.0.1")
	n.serve("8.0.0.1:80", page)
	return n
}

func TestDo(t *testing.T) {
	n := web(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.Header.Get("X-Test")+" "+r.UserAgent()+" "+string(body))
	})
	answer, err := n.client().Do(t.Context(), outbound.Request{
		Method: "POST", URL: "http://www.example/", Header: http.Header{"X-Test": {"x"}}, Body: []byte("body"), Rules: most,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := answer.Bytes()
	if got, want := string(text), "POST x test body"; err != nil || got != want || answer.Status != http.StatusTeapot {
		t.Errorf("got %d %q, %v, want 418 %q", answer.Status, got, err, want)
	}
}

// Each hop of a redirect meets the same rules and the same policy: CVE-2023-32683, CVE-2021-21273 and -21392.
func TestCVE_2023_32683_Redirects(t *testing.T) {
	https, once := most, most
	https.PlainHTTP, once.Redirects = false, 0
	tests := []struct {
		name, url string
		rules     outbound.Rules
		to        string // where /redirect leads
		want      string // in the error; empty: none
	}{
		{"followed", "http://www.example/redirect", most, "/page", ""},
		{"an answer like any other", "http://www.example/redirect", once, "/page", ""},
		{"inside", "http://www.example/redirect", most, "http://10.0.0.1/", "no connections"},
		{"inside by name", "http://www.example/redirect", most, "http://inside.example/", "no connections"},
		{"this machine", "http://www.example/redirect", most, "http://[::ffff:127.0.0.1]:8008/", "no connections"},
		{"this machine, unspecified", "http://www.example/redirect", most, "http://0.0.0.0/", "no connections"},
		{"this machine, octal", "http://www.example/redirect", most, "http://0177.0.0.1/", "no such host"},
		{"another scheme", "http://www.example/redirect", most, "ftp://www.example/", "ftp"},
		{"a file", "http://www.example/redirect", most, "file:///etc/passwd", "file"},
		{"circle", "http://www.example/redirect", most, "/redirect", "circle"},
		{"too many", "http://www.example/redirect", most, "/redirect?0", "redirects"},
		{"plain HTTP where it will not do", "http://www.example/page", https, "", "not a URL that is asked"},
		{"no host", "http:///page", most, "", "not a URL that is asked"},
		{"no URL", "%", most, "", "not a URL that is asked"},
		{"inside at once", "http://10.0.0.1/", most, "", "no connections"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := web(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Referer() != "" {
					t.Errorf("got the referer %q, want none", r.Referer())
				}
				if r.URL.Path == "/redirect" {
					to := test.to
					if strings.Contains(to, "?") {
						to += r.URL.RawQuery + "0"
					}
					http.Redirect(w, r, to, http.StatusTemporaryRedirect)
				}
			})
			answer, err := n.client().Do(t.Context(), outbound.Request{URL: test.url, Rules: test.rules})
			if err == nil {
				answer.Close()
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			for _, inside := range []string{"10.0.0.1", "127.0.0.1", "0.0.0.0"} {
				if n.wasDialled(inside) {
					t.Errorf("got a connection to %s, want none", inside)
				}
			}
		})
	}
}

// Credentials do not follow a redirect to another host.
func TestCredentialsStay(t *testing.T) {
	n := web(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://other.example/", http.StatusFound)
	})
	n.name("other.example", "8.0.0.2")
	n.serve("8.0.0.2:80", func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "" {
			t.Errorf("got the authorization %q, want none", got)
		}
	})
	answer, err := n.client().Do(t.Context(), outbound.Request{
		URL: "http://www.example/", Header: http.Header{"Authorization": {"Bearer secret"}}, Rules: most,
	})
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
}

// The environment of the process does not decide where requests go.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://8.0.0.9:3128")
	t.Setenv("HTTPS_PROXY", "http://8.0.0.9:3128")
	n := web(t, func(http.ResponseWriter, *http.Request) {})
	answer, err := n.client().Do(t.Context(), outbound.Request{URL: "http://www.example/", Rules: most})
	if err != nil {
		t.Fatal(err)
	}
	answer.Close()
	if n.wasDialled("8.0.0.9") {
		t.Error("the proxy was dialled")
	}
}

func TestBodiesEnd(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for name, test := range map[string]struct {
		page http.HandlerFunc
		want error
	}{
		"endless": {endless, outbound.ErrTooLarge},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(zeros(t, 1<<20))
		}, outbound.ErrTooLarge},
	} {
		answer, err := web(t, test.page).client().Do(t.Context(), outbound.Request{URL: "http://www.example/", Rules: most})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := answer.Bytes(); !errors.Is(err, outbound.ErrTooLarge) || len(got) > 1000 {
			t.Errorf("%s: got %d bytes, %v, want at most 1000 and %v", name, len(got), err, outbound.ErrTooLarge)
		}
	}
}
