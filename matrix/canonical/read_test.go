package canonical_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/matrix/canonical"
)

func TestGet(t *testing.T) {
	const obj = `{"":0,"\n":1,"\"q\"":2,"\\":3,"a":{"b":{"c":[1,{"d":"}"}]}},"e":"x","f":null,"日":"本"}`
	for _, c := range []struct {
		want string
		path []string
	}{
		{obj, nil},
		{"0", []string{""}},
		{"1", []string{"\n"}},
		{"2", []string{`"q"`}},
		{"3", []string{`\`}},
		{`[1,{"d":"}"}]`, []string{"a", "b", "c"}},
		{`"x"`, []string{"e"}},
		{"null", []string{"f"}},
		{`"本"`, []string{"日"}},
		{"", []string{"d"}},
		{"", []string{"a", "c"}},
		{"", []string{"e", "x"}},
		{"", []string{"a", "b", "c", "d"}},
		{"", []string{`\n`}},
	} {
		got := canonical.Get([]byte(obj), c.path...)
		if string(got) != c.want || (got == nil) != (c.want == "") {
			t.Errorf("%q: got %q, want %q", c.path, got, c.want)
		}
	}
}

func TestFields(t *testing.T) {
	for obj, want := range map[string][]string{
		`{}`:                                     nil,
		`[]`:                                     nil,
		`{"a":[1,2],"b":{"c":"}\""},"type":"x"}`: {"a", "[1,2]", "b", `{"c":"}\""}`, "type", `"x"`},
		`{"\n\\\u001f":-1,"😀":true}`:             {"\n\\\x1f", "-1", "😀", "true"},
	} {
		var got []string
		for key, raw := range canonical.Fields([]byte(obj)) {
			got = append(got, key, string(raw))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", obj, got, want)
		}
	}
	for key := range canonical.Fields([]byte(`{"a":1,"b":2}`)) {
		if key != "a" {
			t.Errorf("got %q after the loop was left, want only a", key)
		}
		break
	}
}

func TestElements(t *testing.T) {
	for arr, want := range map[string][]string{
		`[]`:                              nil,
		`{}`:                              nil,
		`[1,"a,]",[2,[3]],{"b":[]},null]`: {"1", `"a,]"`, "[2,[3]]", `{"b":[]}`, "null"},
	} {
		var got []string
		for raw := range canonical.Elements([]byte(arr)) {
			got = append(got, string(raw))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", arr, got, want)
		}
	}
}

func TestScalars(t *testing.T) {
	for raw, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\"\\\b\f\n\r\t\u0000"`: "\"\\\b\f\n\r\t\x00", `"日本"`: "日本",
	} {
		if got, ok := canonical.String([]byte(raw)); !ok || got != want {
			t.Errorf("%s: got %q, %v, want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"", `"`, "1", "null", "{}"} {
		if got, ok := canonical.String([]byte(raw)); ok {
			t.Errorf("%s: got the string %q, want none", raw, got)
		}
	}
	for raw, want := range map[string]int64{
		"0": 0, "-5": -5, "9007199254740991": 1<<53 - 1, "-9223372036854775808": -1 << 63, "9223372036854775807": 1<<63 - 1,
	} {
		if got, ok := canonical.Int([]byte(raw)); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"", "-", "1.0", "1e2", "01", "+1", `"1"`, "null", "true", "9223372036854775808"} {
		if got, ok := canonical.Int([]byte(raw)); ok {
			t.Errorf("%s: got the integer %d, want none", raw, got)
		}
	}
}

func TestAppendString(t *testing.T) {
	for s, want := range map[string]string{
		"": `""`, "a/<>&": `"a/<>&"`, "\"\\\b\t\n\f\r\x00\x1f\x7f": `"\"\\\b\t\n\f\r\u0000\u001f` + "\x7f\"",
		"日😀\u2028": "\"日😀\u2028\"", "a\xffb\xed\xa0\x80": "\"a\ufffdb\ufffd\ufffd\ufffd\"",
	} {
		if got := canonical.AppendString([]byte("x"), s); string(got) != "x"+want {
			t.Errorf("%q: got %s, want x%s", s, got, want)
		}
	}
}

func TestEdit(t *testing.T) {
	for _, c := range []struct{ obj, key, with, without string }{
		{`{}`, "b", `{"b":0}`, `{}`},
		{`{"b":{"x":1}}`, "b", `{"b":0}`, `{}`},
		{`{"a":1}`, "b", `{"a":1,"b":0}`, `{"a":1}`},
		{`{"c":1}`, "b", `{"b":0,"c":1}`, `{"c":1}`},
		{`{"a":1,"b":2,"c":3}`, "b", `{"a":1,"b":0,"c":3}`, `{"a":1,"c":3}`},
		{`{"a":1,"bb":2}`, "b", `{"a":1,"b":0,"bb":2}`, `{"a":1,"bb":2}`},
		{`{"\n":1,"!":2}`, "", `{"":0,"\n":1,"!":2}`, `{"\n":1,"!":2}`},
		{`{"Z":1,"a":2}`, "[", `{"Z":1,"[":0,"a":2}`, `{"Z":1,"a":2}`},
		{`{"[":1,"\\":2,"]":3}`, "^", `{"[":1,"\\":2,"]":3,"^":0}`, `{"[":1,"\\":2,"]":3}`},
	} {
		if got := canonical.AppendWith([]byte("x"), []byte(c.obj), c.key, []byte("0")); string(got) != "x"+c.with {
			t.Errorf("%s with %s: got %s, want x%s", c.obj, c.key, got, c.with)
		}
		if got := canonical.AppendWithout([]byte("x"), []byte(c.obj), "zz", c.key); string(got) != "x"+c.without {
			t.Errorf("%s without %s: got %s, want x%s", c.obj, c.key, got, c.without)
		}
	}
	got := canonical.AppendWith(nil, []byte(`{"[":1,"\\":2,"]":3}`), `\`, []byte("0"))
	if want := `{"[":1,"\\":0,"]":3}`; string(got) != want {
		t.Errorf("key to escape: got %s, want %s", got, want)
	}
}

// checkReaders compares what the readers find with what encoding/json decodes.
func checkReaders(t *testing.T, src []byte) {
	t.Helper()
	for range canonical.Elements(src) { // no panic, whatever the text
	}
	canonical.Get(src, "a", "b")
	for key, raw := range canonical.Fields(src) {
		canonical.String(raw)
		canonical.Get(src, key)
	}
	obj, err := canonical.JSON(src, lenient)
	if err != nil {
		return
	}
	var want map[string]json.RawMessage
	if json.Unmarshal(obj, &want) != nil {
		return
	}
	found := 0
	for key, raw := range canonical.Fields(obj) {
		found++
		if !bytes.Equal(raw, want[key]) || !bytes.Equal(raw, canonical.Get(obj, key)) {
			t.Errorf("%s: key %q: got %s, by Get %s, want %s", obj, key, raw, canonical.Get(obj, key), want[key])
		}
		checkEdits(t, obj, key, raw)
	}
	if found != len(want) {
		t.Errorf("%s: got %d members, want %d", obj, found, len(want))
	}
}

// checkEdits takes a member out of obj and puts it in again.
func checkEdits(t *testing.T, obj []byte, key string, raw []byte) {
	t.Helper()
	without := obj
	if !bytes.ContainsAny([]byte(key), "\\\"") && canonicalKey(key) {
		without = canonical.AppendWithout(nil, obj, key)
		if canonical.Get(without, key) != nil {
			t.Errorf("%s: %q is still in %s", obj, key, without)
		}
	}
	if again := canonical.AppendWith(nil, without, key, raw); !bytes.Equal(again, obj) {
		t.Errorf("%s: %q taken out and put in gave %s", obj, key, again)
	}
}

func canonicalKey(key string) bool {
	return utf8.ValidString(key) && string(canonical.AppendString(nil, key)) == `"`+key+`"`
}

func TestReadersAgainstEncodingJSON(t *testing.T) {
	for seed := range uint64(2000) {
		checkReaders(t, []byte(generator{rand.New(rand.NewPCG(seed, 2))}.value(0)))
	}
}

func FuzzReaders(f *testing.F) {
	f.Add([]byte(message))
	for _, text := range []string{`{"a":`, `{"a"`, `{"a\`, `[{"`, `{"a":[}`, `["\u`, `{"a":"\`, `{"a":1,"a"`} {
		f.Add([]byte(text))
	}
	f.Fuzz(checkReaders)
}

func BenchmarkFields(b *testing.B) {
	obj := sortedMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		for range canonical.Fields(obj) {
		}
	}
}

func BenchmarkGet(b *testing.B) {
	obj := sortedMessage(b)
	b.ReportAllocs()
	for b.Loop() {
		if canonical.Get(obj, "content", "msgtype") == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	dst := make([]byte, 0, 200)
	b.ReportAllocs()
	for b.Loop() {
		canonical.AppendString(dst, "a display name of some length, with \"quotes\"")
	}
}
