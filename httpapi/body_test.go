package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix"
)

type input struct {
	Text  string               `json:"text"`
	Count int                  `json:"count"`
	Deep  struct{ A []string } `json:"deep"`
	Raw   json.RawMessage      `json:"raw"`
	User  strict               `json:"user"`
}

// strict refuses what does not begin with @.
type strict string

func (s *strict) UnmarshalJSON(raw []byte) error {
	switch {
	case string(raw) == `"odd"`:
		return errors.New("odd indeed")
	case !strings.HasPrefix(string(raw), `"@`):
		return matrix.Errorf(matrix.InvalidParam, "user must begin with @")
	}
	*s = strict(raw)
	return nil
}

func echo(_ context.Context, _ *Call, in *input) (*answer, error) {
	return say("%s %d %v %s", in.Text, in.Count, in.Deep.A, in.Raw)
}

func bodyRoutes(r *Router) {
	r.Post("/json", Open(nil, echo))
	r.Post("/map", Open(nil, func(_ context.Context, _ *Call, in *map[string]json.RawMessage) (*answer, error) {
		return say("%d", len(*in))
	}))
	r.Post("/small", MaxBody(10, Open(nil, echo)))
	r.Post("/none", Open(nil, func(context.Context, *Call, *None) (*None, error) { return nil, nil }))
	r.Post("/raw", MaxBody(10_000, Open(nil, func(_ context.Context, _ *Call, in *RawBody) (*answer, error) {
		return say("%d %.20q", len(*in), *in)
	})))
	r.Post("/stream", MaxBody(10, Open(nil, func(_ context.Context, _ *Call, in *Body) (*answer, error) {
		all, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		return say("%d %s", in.Length, all)
	})))
	r.Post("/authed", Authed(known, nil, echo))
}

func TestBodies(t *testing.T) {
	h, _ := serverOf(t, Settings{}, bodyRoutes)
	deep := strings.Repeat("[", 20_000)
	tests := []struct {
		name, path, body string
		status           int
		code             matrix.ErrorCode
		want             string // in the error, or the text of the answer
	}{
		{"object", "/json", `{"text":"a","count":2,"deep":{"A":["x"]},"raw":{"b" : 1}}`, 200, "", `a 2 [x] {"b" : 1}`},
		{"nothing", "/json", ``, 200, "", ` 0 [] `},
		{"space", "/json", " \r\n\t", 200, "", ` 0 [] `},
		{"space around", "/json", " {\"text\":\"a\"}\n", 200, "", `a 0 [] `},
		{"map", "/map", `{"a":1,"b":2}`, 200, "", `2`},
		{"map of nothing", "/map", ``, 200, "", `0`},
		{"escaped NUL", "/json", `{"text":"\u0000"}`, 200, "", "\x00 0 [] "},
		{"no JSON", "/json", `text=a`, 400, matrix.NotJSON, "at byte"},
		{"broken off", "/json", `{"text":"a"`, 400, matrix.NotJSON, "unexpected end"},
		{"two", "/json", `{} {}`, 400, matrix.NotJSON, "after top-level value"},
		{"UTF-8", "/json", "{\"text\":\"\xff\"}", 400, matrix.NotJSON, "UTF-8"},
		{"byte order mark", "/json", "\uFEFF{}", 400, matrix.NotJSON, ""},
		{"deep", "/json", deep, 400, matrix.NotJSON, "depth"},
		{"array", "/json", `[]`, 400, matrix.BadJSON, "must be a JSON object, not array"},
		{"text", "/json", `"x"`, 400, matrix.BadJSON, "must be a JSON object, not string"},
		{"null", "/json", `null`, 400, matrix.BadJSON, "must be a JSON object"},
		{"null for a map", "/map", `null`, 400, matrix.BadJSON, "must be a JSON object"},
		{"field", "/json", `{"count":"x"}`, 400, matrix.BadJSON, "count must be an integer, not string"},
		{"fraction", "/json", `{"count":1.5}`, 400, matrix.BadJSON, "count must be an integer, not number 1.5"},
		{"large number", "/json", `{"count":1e99}`, 400, matrix.BadJSON, "count must be an integer"},
		{"text field", "/json", `{"text":{}}`, 400, matrix.BadJSON, "text must be a string, not object"},
		{"deep field", "/json", `{"deep":{"A":5}}`, 400, matrix.BadJSON, "deep.A must be an array, not number"},
		{"own error", "/json", `{"user":"x"}`, 400, matrix.InvalidParam, "user must begin with @"},
		{"own odd error", "/json", `{"user":"odd"}`, 400, matrix.BadJSON, "odd indeed"},
		{"limit", "/small", `{"raw":12}`, 200, "", " 0 [] 12"},
		{"beyond", "/small", `{"raw":123}`, 413, matrix.TooLarge, "10 bytes"},
		{"none reads nothing", "/none", strings.Repeat("x", 2<<20), 200, "", ""},
		{"raw", "/raw", "\xff{ ", 200, "", `3 "\xff{ "`},
		{"raw nothing", "/raw", "", 200, "", `0 ""`},
		{"raw, large", "/raw", strings.Repeat("x", 10_000), 200, "", `10000 "xxxxxxxxxxxxxxxxxxxx"`},
		{"raw beyond", "/raw", strings.Repeat("x", 10_001), 413, matrix.TooLarge, ""},
		{"stream", "/stream", "0123456789", 200, "", "10 0123456789"},
		{"stream beyond", "/stream", "0123456789a", 413, matrix.TooLarge, ""},
		{"default limit", "/json", `{"text":"` + strings.Repeat("x", DefaultMaxBody) + `"}`, 413, matrix.TooLarge, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := ask(t, h, "POST "+test.path, test.body)
			switch {
			case test.code != "":
				wantError(t, w, test.status, test.code, test.want)
			case test.path == "/none":
				wantAnswer(t, w, 200, "{}")
			default:
				var got answer
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Text != test.want {
					t.Errorf("got %d %s, want %q", w.Code, w.Body, test.want)
				}
			}
		})
	}
}

// TestUnknownLength sends bodies whose length is not announced.
func TestUnknownLength(t *testing.T) {
	h, _ := serverOf(t, Settings{}, bodyRoutes)
	for _, test := range []struct {
		path, body string
		status     int
	}{
		{"/json", `{"text":"a"}`, 200}, {"/json", ``, 200}, {"/small", `{"raw":123}`, 413},
		{"/raw", strings.Repeat("x", 10_001), 413}, {"/raw", strings.Repeat("x", 10_000), 200},
		{"/stream", "0123456789", 200}, {"/stream", "0123456789a", 413},
	} {
		r := httptest.NewRequest("POST", test.path, io.MultiReader(strings.NewReader(test.body)))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s with %d bytes: got %d %s, want %d", test.path, len(test.body), w.Code, w.Body, test.status)
		}
	}
}

// untouchable is a body that nobody may read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestStrangersAreNotRead(t *testing.T) {
	h, _ := serverOf(t, Settings{}, bodyRoutes)
	for _, path := range []string{"/authed", "/nowhere", "/none"} {
		r := httptest.NewRequest("POST", path, untouchable{t})
		r.ContentLength = 100
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	r := httptest.NewRequest("POST", "/json", untouchable{t})
	r.ContentLength = DefaultMaxBody + 1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	wantError(t, w, 413, matrix.TooLarge, "")
}

func TestBodyBreaksOff(t *testing.T) {
	h, log := serverOf(t, Settings{}, bodyRoutes)
	for _, path := range []string{"/json", "/raw", "/stream"} {
		r := httptest.NewRequest("POST", path, io.MultiReader(strings.NewReader(`{"te`), &broken{given: true}))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		wantError(t, w, 400, matrix.NotJSON, "broke off")
	}
	if strings.Contains(log.String(), "ERROR") {
		t.Errorf("log: got %s, want no errors for what a client did", log)
	}
}

// TestBuffersAreNotShared decodes one body after another into the same buffer.
func TestBuffersAreNotShared(t *testing.T) {
	var first, second input
	buf := []byte(`{"text":"aaaa","raw":"aaaa","deep":{"A":["aaaa"]}}`)
	if err := Decode(buf, &first); err != nil {
		t.Fatal(err)
	}
	copy(buf, `{"text":"bbbb","raw":"bbbb","deep":{"A":["bbbb"]}}`)
	if err := Decode(buf, &second); err != nil {
		t.Fatal(err)
	}
	if first.Text != "aaaa" || string(first.Raw) != `"aaaa"` || first.Deep.A[0] != "aaaa" {
		t.Errorf("the first body became %+v", first)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"text":"\ud800","count":1}`, `null`, `[`, "{\"a\":\"\xff\"}", `{"deep":{"A":[""]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in input
		err := Decode(raw, &in)
		var e *matrix.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("got %v, want an error for the client", err)
		}
		if err == nil && !utf8.Valid(raw) {
			t.Error("invalid UTF-8 was accepted")
		}
		if err == nil && !utf8.ValidString(in.Text) {
			t.Errorf("text is %q", in.Text)
		}
	})
}
