package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// raw is JSON text, or what pretends to be.
type raw string

// nasty are values that are wrong in most places, some of them no JSON at all.
var nasty = []raw{
	`null`, `true`, `0`, `-1`, `1.5`, `1e400`, `9007199254740993`, `99999999999999999999`,
	`""`, `"x"`, `"\u0000"`, `"a\u0000b"`, `"\ud800"`, "\"\xff\"", `"@x:localhost"`, `"!x:localhost"`, `"$x"`,
	raw(`"` + strings.Repeat("y", 300) + `"`), raw(`"` + strings.Repeat("é", 40_000) + `"`),
	`[]`, `[null]`, `["\u0000"]`, `[[[]]]`, `{}`, `{"":""}`, `{"a":1,"a":2}`, `{"\u0000":1}`, `{"@x:localhost":1e9}`,
	deep(`[`, `]`), deep(`{"a":`, `}`),
}

func deep(open, end string) raw {
	const depth = 10_000
	return raw(strings.Repeat(open, depth) + "1" + strings.Repeat(end, depth))
}

// nastyBodies are whole bodies.
var nastyBodies = append([]raw{
	``, ` `, `{`, `}`, `{"a"`, `{"a":1}{`, `{"a":1},`, "\xff\xfe", "\xef\xbb\xbf{}", "{\"\xff\":1}", `{"a":NaN}`, `{'a':1}`, "{\"a\":\"\x00\"}",
	raw(`{"body":"` + strings.Repeat("z", 900_000) + `"}`), raw(`[` + strings.Repeat(`{},`, 100_000) + `{}]`), manyKeys(),
	"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}, nasty...)

func manyKeys() raw {
	var b strings.Builder
	b.WriteString(`{"a":0`)
	for i := range 30_000 {
		b.WriteString(`,"k` + strconv.Itoa(i) + `":` + strconv.Itoa(i))
	}
	b.WriteString(`}`)
	return raw(b.String())
}

// mutations calls f with variants of v, in each of which one value at any depth is replaced by a nasty one, left out,
// given twice, or joined by an unknown one.
func mutations(v any, f func(raw)) {
	mutate(v, func(text string) { f(raw(text)) })
}

// mutate calls yield with the text of v, one variant at a time.
func mutate(v any, yield func(string)) {
	for _, n := range nasty {
		yield(string(n))
	}
	switch v := v.(type) {
	case map[string]any:
		mutateMembers(v, yield)
	case []any:
		for i, inner := range v {
			mutate(inner, func(text string) {
				yield(array(v, i, text))
			})
		}
		if len(v) > 0 {
			one := encode(v[0])
			yield(`[` + one + strings.Repeat(`,`+one, 2000) + `]`)
		}
	}
}

func mutateMembers(v map[string]any, yield func(string)) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		mutate(v[name], func(text string) {
			yield(object(v, name, `:`+text))
		})
		yield(object(v, name, ""))                                              // left out
		yield(object(v, name, `:`+encode(v[name])+`,`+encode(name)+`:`+`null`)) // twice
	}
	yield(object(v, "\x00", `:1`))
}

// object is v with what stands behind the name of one member replaced; without that member if it is empty.
func object(v map[string]any, name, rest string) string {
	members := []string{}
	if rest != "" {
		members = append(members, encode(name)+rest)
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		if key != name {
			members = append(members, encode(key)+`:`+encode(v[key]))
		}
	}
	return `{` + strings.Join(members, `,`) + `}`
}

func array(v []any, at int, text string) string {
	items := make([]string, len(v))
	for i, inner := range v {
		items[i] = encode(inner)
	}
	items[at] = text
	return `[` + strings.Join(items, `,`) + `]`
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came out of JSON
	}
	return string(text)
}
