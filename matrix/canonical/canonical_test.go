package canonical_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
)

const (
	strict  = canonical.Strict
	lenient = canonical.Lenient
)

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

type vector struct{ Name, Input, Canonical string }

func readVectors(t testing.TB) (valid, invalid []vector) {
	var v struct {
		Valid   []vector
		Invalid []vector `json:"invalid_in_strict_room_versions"`
	}
	readJSON(t, "testdata/canonical-json.json", &v)
	if len(v.Valid) == 0 || len(v.Invalid) == 0 {
		t.Fatal("no vectors read")
	}
	return v.Valid, v.Invalid
}

func TestVectors(t *testing.T) {
	valid, invalid := readVectors(t)
	for _, v := range valid {
		if v.Name == "spec-10" {
			continue // TestNumbersOfOldRooms
		}
		for _, m := range []canonical.Mode{strict, lenient} {
			got, err := canonical.JSON([]byte(v.Input), m)
			if err != nil || string(got) != v.Canonical {
				t.Errorf("%s, mode %d: got %s, %v, want %s", v.Name, m, got, err, v.Canonical)
			}
		}
	}
	for _, v := range invalid {
		if got, err := canonical.JSON([]byte(v.Input), strict); err == nil {
			t.Errorf("%s: got %s, want an error", v.Name, got)
		}
	}
}

// TestNumbersOfOldRooms has the one example of the specification that is not
// canonical by its own grammar. New rooms refuse it. In old ones 1e10 is a
// float, and the code beside the example, which made the hashes of the events
// that exist, writes it with a point.
func TestNumbersOfOldRooms(t *testing.T) {
	const text = `{"a": -0, "b": 1e10}`
	if got, err := canonical.JSON([]byte(text), strict); matrix.CodeOf(err) != matrix.BadJSON {
		t.Errorf("strict: got %s, %v, want %s", got, err, matrix.BadJSON)
	}
	got, err := canonical.JSON([]byte(text), lenient)
	if want := `{"a":0,"b":10000000000.0}`; err != nil || string(got) != want {
		t.Errorf("lenient: got %s, %v, want %s", got, err, want)
	}
}

func TestNumbersLikePython(t *testing.T) {
	var vectors []vector
	readJSON(t, "testdata/python-numbers.json", &vectors)
	for _, v := range vectors {
		got, err := canonical.JSON([]byte(v.Input), lenient)
		if err != nil || string(got) != v.Canonical {
			t.Errorf("%s: got %s, %v, want %s", v.Input, got, err, v.Canonical)
		}
		again, err := canonical.JSON(got, lenient)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s: a second time got %s, %v", got, again, err)
		}
	}
}

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		name, input, strict, lenient string
	}{
		{"scalars", ` [true , false,null,"",0,-1] `, `[true,false,null,"",0,-1]`, `[true,false,null,"",0,-1]`},
		{"empty", "{ \n} ", `{}`, `{}`},
		{"prefix sorts first", `{"ab":1,"a":2,"":3}`, `{"":3,"a":2,"ab":1}`, `{"":3,"a":2,"ab":1}`},
		{"prefix and low characters", `{"a!":1,"a ":2,"a":3}`, `{"a":3,"a ":2,"a!":1}`, `{"a":3,"a ":2,"a!":1}`},
		{"escaped keys sort by what they mean", `{"\u0062":1,"a":2}`, `{"a":2,"b":1}`, `{"a":2,"b":1}`},
		{"escaped keys in order", `{"\n":1,"\"":2,"#":3,"\\":4,"]":5}`, `{"\n":1,"\"":2,"#":3,"\\":4,"]":5}`, `{"\n":1,"\"":2,"#":3,"\\":4,"]":5}`},
		{"backslash among letters", `{"a":1,"\\":2,"Z":3}`, `{"Z":3,"\\":2,"a":1}`, `{"Z":3,"\\":2,"a":1}`},
		{"disorder within order", `{"a":{"d":1,"c":{"f":1,"e":2}},"b":[{"z":1,"y":2}]}`,
			`{"a":{"c":{"e":2,"f":1},"d":1},"b":[{"y":2,"z":1}]}`, `{"a":{"c":{"e":2,"f":1},"d":1},"b":[{"y":2,"z":1}]}`},
		{"order within disorder", `{"b":{"c":1,"d":{}},"a":[{},[]]}`, `{"a":[{},[]],"b":{"c":1,"d":{}}}`, `{"a":[{},[]],"b":{"c":1,"d":{}}}`},
		{"disorder and changes", `{ "b" : "\/" , "a" : { "d" : "\u0041" , "c" : [ ] } }`, `{"a":{"c":[],"d":"A"},"b":"/"}`, `{"a":{"c":[],"d":"A"},"b":"/"}`},
		{"surrogate pair", `"\uD83D\uDE00"`, `"😀"`, `"😀"`},
		{"short escapes", `"\u0022\u005C\u002F\u000A\u001F\u001f"`, `"\"\\/\n\u001f\u001f"`, `"\"\\/\n\u001f\u001f"`},
		{"replacement character", `"\ufffd"`, "\"\ufffd\"", "\"\ufffd\""},
		{"same key twice", `{"a":1,"b":2,"a":3}`, "", `{"a":3,"b":2}`},
		{"same key in two writings", `{"a":1,"\u0061":[{"c":1,"b":1}]}`, "", `{"a":[{"b":1,"c":1}]}`},
		{"first of the same keys nested", `{"a":{"y":1,"x":{"w":1,"v":1}},"a":0,"A":{"y":1,"x":2}}`, "", `{"A":{"x":2,"y":1},"a":0}`},
		{"largest integers", `[9007199254740991,-9007199254740991]`, `[9007199254740991,-9007199254740991]`, `[9007199254740991,-9007199254740991]`},
		{"beyond", `[9007199254740992]`, "", `[9007199254740992]`},
		{"far beyond", `[-123456789012345678901234567890]`, "", `[-123456789012345678901234567890]`},
		{"negative zero", `-0`, "", `0`},
		{"float", `1.50`, "", `1.5`},
		{"float in disorder", `{"b":1E2,"a":-0.0}`, "", `{"a":-0.0,"b":100.0}`},
	} {
		for m, want := range map[canonical.Mode]string{strict: c.strict, lenient: c.lenient} {
			got, err := canonical.JSON([]byte(c.input), m)
			if want == "" && matrix.CodeOf(err) != matrix.BadJSON {
				t.Errorf("%s, mode %d: got %s, %v, want %s", c.name, m, got, err, matrix.BadJSON)
			}
			if want != "" && (err != nil || string(got) != want) {
				t.Errorf("%s, mode %d: got %s, %v, want %s", c.name, m, got, err, want)
			}
		}
	}
}

func TestRefusedInBothModes_CVE_2020_26890(t *testing.T) {
	for code, texts := range map[matrix.ErrorCode][]string{
		matrix.NotJSON: {
			"", " ", "x", "{", "[", `"`, `"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a" 1}`, `{1:2}`,
			"[1", "[1,", "[1,]", "[,]", "[1 2]", "]", "}", ",", "tru", "truE", "nul", "nulll", "NaN", "Infinity", "-Infinity", "-", "+1", "01",
			"-01", "1.", ".5", "1.e1", "1e", "1e+", "0x1", "1_0", "1 2", "{}{}", "{}x", "\"\n\"", "\"\x00\"", "\"\x1f\"", `"\x"`, `"\`, `"\"`,
			`"\u"`, `"\u12"`, `"\u123g"`, `"\u 123"`, `"\U0041"`, "\"\xff\"", "\"\xed\xa0\x80\"", "\"\xc0\x80\"", "\"\xf4\x90\x80\x80\"",
			"\ufeff{}", "\u00a01", "\v1", "{}\x00", "'a'", "// c\n1", "[1,//\n2]",
		},
		matrix.BadJSON: {
			`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\ud800x"`, `"\ud800\u0041"`, `"\udc00\ud800"`, `{"\ud800":1}`, `"\ud800\`, "1e400", "-1e400",
			"-" + strings.Repeat("1", 4301), strings.Repeat("1", 4301),
		},
	} {
		for _, text := range texts {
			for _, m := range []canonical.Mode{strict, lenient} {
				got, err := canonical.Append([]byte("before"), []byte(text), m)
				if matrix.CodeOf(err) != code {
					t.Errorf("%.40q, mode %d: got %v, want %s", text, m, err, code)
				}
				if string(got) != "before" {
					t.Errorf("%.40q, mode %d: got %q back, want what was there before", text, m, got)
				}
			}
		}
	}
}

func TestDepth(t *testing.T) {
	for _, c := range []struct {
		mode canonical.Mode
		most int
	}{{strict, 100}, {lenient, 1000}} {
		for _, nest := range [][2]string{{"[", "]"}, {`{"b":0,"a":`, "}"}} {
			for depth, ok := range map[int]bool{c.most: true, c.most + 1: false, 200_000: false} {
				text := strings.Repeat(nest[0], depth) + "0" + strings.Repeat(nest[1], depth)
				_, err := canonical.JSON([]byte(text), c.mode)
				if (err == nil) != ok {
					t.Errorf("mode %d, %d of %s: got error %v, want accepted %v", c.mode, depth, nest[0], err, ok)
				}
			}
		}
	}
}

func TestAppendKeepsWhatWasThere(t *testing.T) {
	for _, text := range []string{`{"a":1}`, ` {"a":1}`, `{"b":1,"a":2}`, ` {"b":1, "a":2}`} {
		want, err := canonical.JSON([]byte(text), strict)
		if err != nil {
			t.Fatal(err)
		}
		got, err := canonical.Append(append(make([]byte, 0, 4), "x:"...), []byte(text), strict)
		if err != nil || string(got) != "x:"+string(want) {
			t.Errorf("%s: got %s, %v, want x:%s", text, got, err, want)
		}
	}
}

// TestConcurrent has good and bad texts use the pooled scanners in turns.
func TestConcurrent(t *testing.T) {
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for seed := range uint64(20) {
				g := generator{rand.New(rand.NewPCG(seed, 3))}
				text := g.value(0)
				_, _ = canonical.JSON([]byte(`{"b":[1,{"z":"\/","y":`+text), lenient)
				compareWithOracle(t, []byte(text))
			}
		})
	}
	group.Wait()
}

// TestManyMembers goes past where the sort changes its way.
func TestManyMembers(t *testing.T) {
	for n := range 40 {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"%d":%d`, i*7919%41, i))
		}
		compareWithOracle(t, []byte("{"+strings.Join(members, ",")+"}"))
		members = append(members, `"\u0030":"again"`, `"0":"and again"`)
		compareWithOracle(t, []byte("{"+strings.Join(members, ",")+"}"))
	}
}

func TestMarshal(t *testing.T) {
	got, err := canonical.Marshal(map[string]any{"b": "<&>\u2028", "a": []int{1}, "c": struct {
		Z int `json:"z"`
		Y int `json:"y,omitempty"`
	}{1, 0}})
	if want := `{"a":[1],"b":"<&>` + "\u2028" + `","c":{"z":1}}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	for _, v := range []any{1.5, 1 << 53, func() {}} {
		if got, err := canonical.Marshal(v); err == nil {
			t.Errorf("%T: got %s, want an error", v, got)
		}
	}
}

// compareWithOracle checks Append against the slow oracle, in both modes.
func compareWithOracle(t *testing.T, src []byte) {
	t.Helper()
	for _, m := range []canonical.Mode{strict, lenient} {
		want, wantErr := oracleJSON(src, m)
		got, err := canonical.JSON(src, m)
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != want {
			t.Errorf("%q, mode %d: got %s, %v, want %s, %v", src, m, got, err, want, wantErr)
		}
		if err != nil {
			continue
		}
		if again, err := canonical.JSON(got, m); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%q, mode %d: canonical form %s became %s, %v", src, m, got, again, err)
		}
	}
}

// TestAgainstOracle makes texts of many shapes from fixed seeds.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(1000) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		compareWithOracle(t, []byte(g.value(0)))
	}
}

// A generator writes JSON as carelessly as it may be written.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) space() string { return g.pick("", "", "", "", " ", "\n\t") }

func (g generator) value(depth int) string {
	if depth > 4 || g.IntN(3) == 0 {
		return g.pick("true", "null", "0", "-1", "12", "9007199254740991", g.text(), g.text(), g.text(), g.unusual())
	}
	n := g.IntN(6)
	if g.IntN(20) == 0 {
		n += 30
	}
	parts := make([]string, n)
	for i := range parts {
		parts[i] = g.space() + g.value(depth+1) + g.space()
	}
	if g.IntN(3) == 0 {
		return "[" + strings.Join(parts, ",") + "]"
	}
	for i := range parts {
		parts[i] = g.space() + g.text() + g.space() + ":" + parts[i]
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (g generator) unusual() string {
	return g.pick("0", "1", "2", "3", "4", "5", "6", "7", "-0", "1.5", "1e3", "9007199254740992", `"\ud800"`)
}

func (g generator) text() string {
	out := `"`
	for range g.IntN(12) {
		out += g.pick("a", "b", "Z", "!", " ", "é", "日", "😀", "\ufffe", `\n`, `\"`, `\\`, `\/`, `\u0061`, `\u00e9`, `\ud83d\ude00`, `\u0000`, "abcdefgh")
	}
	return out + `"`
}

func FuzzAppend(f *testing.F) {
	valid, invalid := readVectors(f)
	for _, v := range append(valid, invalid...) {
		f.Add([]byte(v.Input))
	}
	for seed := range uint64(20) {
		f.Add([]byte(generator{rand.New(rand.NewPCG(seed, 1))}.value(0)))
	}
	f.Fuzz(compareWithOracle)
}

// A message as servers send it, 700 bytes with the keys as they come.
const message = `{"auth_events":["$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg","$acR1l0raoZnm60CBwAVgqbZqoOxmYU81xysh1u7XcJk"],"prev_events":["$8FjSVXzvUAbYSHQ3pxvCZyaQ1Y0vkuSsN9NOB5v9pNU"],"type":"m.room.message","room_id":"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM","sender":"@alice:example.org","content":{"msgtype":"m.text","body":"Shall we meet at the \"usual\" place around noon?","m.mentions":{}},"depth":1234,"origin_server_ts":1760000000000,"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"signatures":{"example.org":{"ed25519:a_Rqnc":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}},"unsigned":{"age":5}}`

func sortedMessage(t testing.TB) []byte {
	sorted, err := canonical.JSON([]byte(message), strict)
	if err != nil {
		t.Fatal(err)
	}
	return sorted
}

func BenchmarkAppend(b *testing.B) {
	spaced := []byte(strings.ReplaceAll(message, ":", " : "))
	dst := make([]byte, 0, 2*len(message))
	for _, c := range []struct {
		name string
		src  []byte
	}{{"unsorted", []byte(message)}, {"sorted", sortedMessage(b)}, {"spaced", spaced}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.src)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := canonical.Append(dst, c.src, strict); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAppendHostile has the texts on which a pass that sorts at every
// level, or compares keys too often, would take far more than a pass.
func BenchmarkAppendHostile(b *testing.B) {
	const size = 1 << 20
	deep := strings.Repeat(`{"b":0,"a":`, 999) + `"` + strings.Repeat("x", size) + `"` + strings.Repeat("}", 999)
	var wide, escaped strings.Builder
	for i := range size / 16 {
		fmt.Fprintf(&wide, `"%08d":0,`, (i*7919)%(size/16))
		fmt.Fprintf(&escaped, `"\u0061%08d":0,`, (i*7919)%(size/16))
	}
	for name, text := range map[string]string{
		"deep": deep, "wide": "{" + wide.String() + `"":0}`, "escaped": "{" + escaped.String() + `"":0}`,
		"floats": "[" + strings.Repeat("1.10,", size/5) + "1]",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := canonical.JSON([]byte(text), lenient); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		var v map[string]any
		if err := json.Unmarshal([]byte(message), &v); err != nil {
			b.Fatal(err)
		}
		if _, err := json.Marshal(v); err != nil {
			b.Fatal(err)
		}
	}
}
