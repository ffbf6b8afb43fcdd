package storage

import (
	"testing"
	"unicode/utf8"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "\x00", "\x01", "\x01x", "\x01x0", "\xff\xfe", "\xed\xa0\x80", "é\x00\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := escapeText(s)
		if got := unescapeText(e); got != s {
			t.Errorf("%q became %q and then %q", s, e, got)
		}
		for _, r := range e {
			if r == 0 {
				t.Errorf("%q became %q, which holds NUL", s, e)
			}
		}
		if !utf8.ValidString(e) {
			t.Errorf("%q became %q, which is not UTF-8", s, e)
		}
		unescapeText(s) // what we did not write must not panic
	})
}

func TestEscapeLeavesTextAlone(t *testing.T) {
	const s = "hello, wörld ✓ \u007f\t\n"
	if n := testing.AllocsPerRun(10, func() { unescapeText(escapeText(s)) }); n != 0 || escapeText(s) != s {
		t.Errorf("plain text cost %v allocations and became %q", n, escapeText(s))
	}
}

func BenchmarkEscape(b *testing.B) {
	s := string(make([]byte, 0, 700))
	for len(s) < 700 {
		s += "plain text "
	}
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		escapeText(s)
	}
}
