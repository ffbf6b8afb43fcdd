package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// read reads an object with a list "a", a value "b" and others.
func readSample(from io.Reader) (list []string, value string, err error) {
	s := newStream(from)
	err = s.object(map[string]func() error{
		"a": func() error {
			return s.array(20, func(raw []byte) error {
				list = append(list, string(raw))
				return nil
			})
		},
		"b": func() error {
			raw, err := s.value(20)
			value = string(raw)
			return err
		},
	})
	if err == nil {
		err = s.finish()
	}
	return list, value, err
}

func TestStream(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // list, value
	}{
		{`{}`, "[] "},
		{`null`, "[] "},
		{` { "a" : [ 1 , "two" , {"three":[3,"]}\""]} ] , "b" : null } `, `[1 "two" {"three":[3,"]}\""]}] null`},
		{`{"b":-1.5e3,"a":[]}`, "[] -1.5e3"},
		{`{"b":"","a":null}`, `[] ""`},
		{`{"c":{"a":[1]},"b":true,"d":[[{}]],"e":"\\"}`, "[] true"},
		{`{"a":["` + strings.Repeat("x", 30) + `",[" \\\" "],2]}`, `[ [" \\\" "] 2] `},
		{`{"\u0061":[7]}`, "[7] "},
		{`{"` + strings.Repeat("n", 1000) + `":[],"b":1}`, "[] 1"},
	} {
		for name, from := range readers(c.text) {
			list, value, err := readSample(from)
			if err != nil {
				t.Errorf("%s, %s: %v", c.text, name, err)
			}
			if got := fmt.Sprint(list, " ", value); got != c.want {
				t.Errorf("%s, %s: got %s, want %s", c.text, name, got, c.want)
			}
		}
	}
}

func readers(text string) map[string]io.Reader {
	return map[string]io.Reader{
		"whole":          strings.NewReader(text),
		"byte by byte":   iotest.OneByteReader(strings.NewReader(text)),
		"with its end":   iotest.DataErrReader(strings.NewReader(text)),
		"empty in parts": iotest.HalfReader(strings.NewReader(text)),
	}
}

func TestStreamMalformed(t *testing.T) {
	for _, text := range []string{
		``, ` `, `[]`, `nul`, `nullx`, `1`, `{`, `{"a"`, `{"a":`, `{"a":[`, `{"a":[1`, `{"a":[1,`, `{"a":[1]`, `{"a":[1],`, `{"a":[1],}`,
		`{"a":[,]}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":{}}`, `{"a":1}`, `{"a":"x"}`, `{"a":nul}`, `{"a":nope}`, `{"b":}`, `{"b":,"a":[]}`, `{a:1}`,
		`{"a":[]}}`, `{"a":[]} {}`, `{"a":[],"a":[]}`, `{"b":1,"b":2}`, `{"b" 1}`, `{"b":"x}`, `{"b":"x\"}`, `{"b":{"c":1}`,
		`{"c":}`, `{1:2}`, `{"\x":1}`, `{"b":1`, `{"b":1 2}`,
	} {
		for name, from := range readers(text) {
			if _, _, err := readSample(from); !errors.Is(err, ErrBadAnswer) {
				t.Errorf("%s, %s: got error %v, want %v", text, name, err, ErrBadAnswer)
			}
		}
	}
}

// Errors of the connection are not taken for an end.
func TestStreamBroken(t *testing.T) {
	broken := errors.New("broken")
	for _, text := range []string{``, `{"a":[1`, `{"b":"x`, `{}`} {
		_, _, err := readSample(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("%q: got error %v, want %v", text, err, broken)
		}
	}
	if _, _, err := readSample(silent{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: got %v, want %v", err, io.ErrNoProgress)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// What is too long is passed over, and never held.
func TestStreamHoldsLittle(t *testing.T) {
	long := io.MultiReader(
		strings.NewReader(`{"c":"`), io.LimitReader(endless{}, 4<<20), strings.NewReader(`","a":[[`),
		strings.NewReader(`"`), io.LimitReader(endless{}, 4<<20), strings.NewReader(`"],1]}`),
	)
	s := newStream(long)
	var got []string
	err := s.object(map[string]func() error{"a": func() error {
		return s.array(1000, func(raw []byte) error {
			got = append(got, string(raw))
			return nil
		})
	}})
	if err != nil || !slices.Equal(got, []string{"", "1"}) {
		t.Errorf("got %q, %v; want an empty element and 1", got, err)
	}
	if held := cap(s.buf) + cap(s.kept); held > streamBufferBytes+4096 {
		t.Errorf("held %d bytes", held)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// A text that encoding/json takes is read in the same way, and the size of the pieces that it comes in makes no
// difference.
func FuzzStream(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a":[1,"two",{"three":[3,"]}\""]}],"b":null}`, `{"a":null,"b":"\\"}`, `{"a":[{}`, `{"b":}`, `{"a":[1],"c":[[]]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, value, err := readSample(bytes.NewReader(text))
		list2, value2, err2 := readSample(iotest.OneByteReader(bytes.NewReader(text)))
		if !slices.Equal(list, list2) || value != value2 || (err == nil) != (err2 == nil) {
			t.Fatalf("whole: %q %q %v; byte by byte: %q %q %v", list, value, err, list2, value2, err2)
		}
		checkAgainstStandard(t, text, list, err)
	})
}

func checkAgainstStandard(t *testing.T, text []byte, list []string, err error) {
	t.Helper()
	var want struct {
		A []json.RawMessage `json:"a"`
	}
	if json.Unmarshal(text, &want) != nil || bytes.Count(text, []byte(`"a"`))+bytes.Count(text, []byte(`"A"`)) != 1 ||
		bytes.ContainsAny(text, `\`) || bytes.Count(text, []byte(`"b"`)) > 1 || bytes.Contains(text, []byte(`"A"`)) {
		return
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("null")) {
		return
	}
	if err != nil {
		t.Fatalf("refused what is JSON: %v", err)
	}
	if len(list) != len(want.A) {
		t.Fatalf("got %q, want %d elements", list, len(want.A))
	}
	for i, raw := range want.A {
		if len(raw) <= 20 && list[i] != string(raw) {
			t.Errorf("element %d: got %s, want %s", i, list[i], raw)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	element := `{"content":{"membership":"join","displayname":"Somebody"},"sender":"@somebody:server.example","pad":"` +
		strings.Repeat("x", 700) + `"}`
	text := []byte(`{"a":[` + strings.Repeat(element+",", 4999) + element + `]}`)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		s := newStream(bytes.NewReader(text))
		n := 0
		err := s.object(map[string]func() error{"a": func() error {
			return s.array(maxElementBytes, func([]byte) error { n++; return nil })
		}})
		if err != nil || n != 5000 {
			b.Fatal(n, err)
		}
	}
}
