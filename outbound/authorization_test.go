package outbound_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/outbound"
)

// vectors are derived from those of https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors
type vectors struct {
	Seed     string        `json:"signing_key_seed_base64"`
	KeyID    signing.KeyID `json:"key_id"`
	Requests []struct {
		Method, URI         string
		Origin, Destination matrix.ServerName
		Content             json.RawMessage
		SignedBytes         string `json:"signed_bytes"`
		Signature           string
		Authorization       string
	} `json:"x_matrix_requests"`
	Headers []struct {
		Header string
		OK     bool
		Values map[string]string
	} `json:"x_matrix_header_parsing"`
}

func readVectors(t testing.TB) (v vectors, key signing.Key) {
	t.Helper()
	text, err := os.ReadFile("../matrix/signing/testdata/json-signing.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	seed, err := signing.DecodeBase64(v.Seed)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = signing.NewKey(v.KeyID, seed); err != nil {
		t.Fatal(err)
	}
	return v, key
}

func TestSignVectors(t *testing.T) {
	v, key := readVectors(t)
	if len(v.Requests) == 0 || len(v.Headers) == 0 {
		t.Fatal("no vectors read")
	}
	for _, r := range v.Requests {
		request := outbound.SignedRequest{Method: r.Method, URI: r.URI, Origin: r.Origin, Destination: r.Destination}
		if string(r.Content) != "null" {
			content, err := canonical.JSON(r.Content, canonical.Strict)
			if err != nil {
				t.Fatal(err)
			}
			request.Content = content
		}
		if got := string(request.Message()); got != r.SignedBytes {
			t.Errorf("%s: got the message %s, want %s", r.URI, got, r.SignedBytes)
		}
		got := request.Sign(key)
		if got.String() != r.Authorization {
			t.Errorf("%s: got %s, want %s", r.URI, got, r.Authorization)
		}
		if again, err := outbound.ParseAuthorization(r.Authorization); err != nil || again != got {
			t.Errorf("%s: got %v, %v when read again, want %v", r.URI, again, err, got)
		}
	}
	for _, h := range v.Headers {
		got, err := outbound.ParseAuthorization(h.Header)
		if (err == nil) != h.OK {
			t.Errorf("%s: got %v, want ok %t", h.Header, err, h.OK)
		}
		for name, want := range h.Values {
			if said := valueOf(got, name); said != want {
				t.Errorf("%s: got %s %q, want %q", h.Header, name, said, want)
			}
		}
	}
}

func valueOf(a outbound.Authorization, name string) string {
	return map[string]string{
		"origin": string(a.Origin), "destination": string(a.Destination), "key": string(a.Key), "sig": a.Signature,
	}[name]
}

func TestParseAuthorization(t *testing.T) {
	good := outbound.Authorization{Origin: "a:1", Destination: "b", Key: "ed25519:k", Signature: "s+/="}
	tests := []struct {
		name, header string
		ok           bool
	}{
		{"as we write it", good.String(), true},
		{"any order", `X-Matrix sig="s+/=",key="ed25519:k",destination="b",origin="a:1"`, true},
		{"scheme in another case", `x-mAtRiX origin="a:1",destination="b",key="ed25519:k",sig="s+/="`, true},
		{"nothing in quotes", `X-Matrix origin=a:1,destination=b,key=ed25519:k,sig=s+/=`, true},
		{"white space", "X-Matrix \t origin = a:1\t, ,destination=\"b\" ,key=ed25519:k,sig=s+/= ", true},
		{"other parameters", `X-Matrix origin=a:1,destination=b,x="y,\"=",key=ed25519:k,sig=s+/=`, true},
		{"empty", ``, false},
		{"scheme alone", `X-Matrix`, false},
		{"another scheme", `X-Matrixorigin=a:1,key=ed25519:k,sig=s`, false},
		{"no origin", `X-Matrix key=ed25519:k,sig=s`, false},
		{"origin that is none", `X-Matrix origin="a/b",key=ed25519:k,sig=s`, false},
		{"origin twice", `X-Matrix origin=a:1,destination=b,key=ed25519:k,sig=s,origin=c`, false},
		{"origin twice, once in upper case", `X-Matrix origin=a:1,ORIGIN=c,key=ed25519:k,sig=s`, false},
		{"destination that is none", `X-Matrix origin=a:1,destination="",key=ed25519:k,sig=s`, false},
		{"no key", `X-Matrix origin=a:1,sig=s`, false},
		{"key of another algorithm", `X-Matrix origin=a:1,key=rsa:k,sig=s`, false},
		{"no signature", `X-Matrix origin=a:1,key=ed25519:k`, false},
		{"empty signature", `X-Matrix origin=a:1,key=ed25519:k,sig=""`, false},
		{"quote that does not end", `X-Matrix origin=a:1,key=ed25519:k,sig="s`, false},
		{"backslash at the end", `X-Matrix origin=a:1,key=ed25519:k,sig="s\`, false},
		{"quote inside", `X-Matrix origin=a:1,key=ed25519:k,sig=s"s`, false},
		{"no comma", `X-Matrix origin=a:1,key=ed25519:k,sig="s"x=y`, false},
		{"no comma but a space", `X-Matrix origin=a:1 key=ed25519:k,sig=s`, false},
		{"no name", `X-Matrix origin=a:1,="x",key=ed25519:k,sig=s`, false},
		{"no value", `X-Matrix origin=a:1,x,key=ed25519:k,sig=s`, false},
		{"very long", `X-Matrix origin=a:1,key=ed25519:k,sig=` + strings.Repeat("s", 5000), false},
	}
	for _, test := range tests {
		got, err := outbound.ParseAuthorization(test.header)
		if test.ok && (err != nil || got != good) {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, good)
		}
		if !test.ok && matrix.CodeOf(err) != matrix.Unauthorized {
			t.Errorf("%s: got %+v, %v, want %s", test.name, got, err, matrix.Unauthorized)
		}
	}
}

// FuzzAuthorization: what was read can be written, and read again.
func FuzzAuthorization(f *testing.F) {
	v, _ := readVectors(f)
	for _, h := range v.Headers {
		f.Add(h.Header)
	}
	f.Add(`X-Matrix origin=a:1,destination="[::1]",x="\"\\",key=ed25519:k,sig=s+/=`)
	f.Fuzz(func(t *testing.T, header string) {
		a, err := outbound.ParseAuthorization(header)
		if err != nil {
			if matrix.CodeOf(err) != matrix.Unauthorized {
				t.Errorf("%q: got %v, want %s", header, err, matrix.Unauthorized)
			}
			return
		}
		if a.Destination == "" || strings.ContainsAny(a.Signature, `"\`) {
			return // never written by us
		}
		if again, err := outbound.ParseAuthorization(a.String()); err != nil || again != a {
			t.Errorf("%q: got %+v, %v when read again, want %+v", header, again, err, a)
		}
	})
}

// FuzzMessage: whatever the texts, what is signed is canonical JSON.
func FuzzMessage(f *testing.F) {
	f.Add("GET", "/a?b=%20", "a", []byte(`{"b":1,"a":[]}`))
	f.Fuzz(func(t *testing.T, method, uri, server string, content []byte) {
		content, err := canonical.JSON(content, canonical.Strict)
		if err != nil {
			content = nil
		}
		msg := outbound.SignedRequest{
			Method: method, URI: uri, Origin: "a", Destination: matrix.ServerName(server), Content: content,
		}.Message()
		again, err := canonical.JSON(msg, canonical.Strict)
		if err == nil && string(again) != string(msg) {
			t.Errorf("got %s, which is not canonical", msg)
		}
	})
}
