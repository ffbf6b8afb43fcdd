package view_test

import (
	"math"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

func TestParseGap(t *testing.T) {
	for text, want := range map[string]view.Gap{
		"t0_0":                   {},
		"t7_0":                   {Anchor: 7},
		"t7_-3":                  {Anchor: 7, Sub: -3},
		"t9223372036854775807_0": {Anchor: math.MaxInt64},
		"sabc_12_3_boot_4":       {Anchor: 12}, // of a sync
	} {
		got, err := view.ParseGap(text)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
		if text[0] == 't' && got.String() != text {
			t.Errorf("%q: written again as %q", text, got)
		}
	}
}

func TestParseGapRefuses(t *testing.T) {
	for _, text := range []string{
		"", "t", "t1", "t_", "t1_", "t_1", "t-1_0", "t1_1", "t1_0_0", "x1_0", "1_0", "T1_0", "t1_0 ", "t 1_0", "t1.5_0",
		"t9223372036854775808_0", "s", "s1", "sabc_x_0_b_0", "sabc_1_0_b", "sabc_-1_0_b_0", "sabc_1_0_b_0_0", strings.Repeat("t", 10_000), "\x00", "t1_0\x00",
	} {
		got, err := view.ParseGap(text)
		if matrix.CodeOf(err) != matrix.InvalidParam {
			t.Errorf("%.40q: got %v, %v, want M_INVALID_PARAM", text, got, err)
		} else if len(err.Error()) > 400 {
			t.Errorf("%.40q: got an error of %d bytes", text, len(err.Error()))
		}
	}
}

func TestGapOfEvents(t *testing.T) {
	live := &rooms.Event{Order: rooms.Order{Anchor: 7}}
	filled := &rooms.Event{Order: rooms.Order{Anchor: 7, Sub: -2}}
	for _, c := range []struct {
		name     string
		got      view.Gap
		want     string
		position storage.Position
	}{
		{"after live", view.After(live), "t7_0", 7},
		{"before live", view.Before(live), "t7_-1", 6},
		{"after backfilled", view.After(filled), "t7_-2", 6},
		{"before backfilled", view.Before(filled), "t7_-3", 6},
		{"at", view.At(9), "t9_0", 9},
	} {
		if c.got.String() != c.want || c.got.Position() != c.position {
			t.Errorf("%s: got %s at %d, want %s at %d", c.name, c.got, c.got.Position(), c.want, c.position)
		}
	}
}

func TestSyncToken(t *testing.T) {
	token := view.SyncToken{Incarnation: "abc", Position: 12, ToDevice: 3, Boot: "boot", Ephemeral: 4}
	if got := token.String(); got != "sabc_12_3_boot_4" {
		t.Errorf("got %q, want sabc_12_3_boot_4", got)
	}
	if got, err := view.ParseSyncToken(token.String()); err != nil || got != token {
		t.Errorf("read again: got %v, %v, want %v", got, err, token)
	}
	for _, text := range []string{"", "s", "t1_0", "sabc_12_3_boot", "sabc_12_3_boot_x", "sabc_12_-3_boot_4", "abc_12_3_boot_4", "sabc_12_3_boot_4_5"} {
		if got, err := view.ParseSyncToken(text); matrix.CodeOf(err) != matrix.InvalidParam {
			t.Errorf("%q: got %v, %v, want M_INVALID_PARAM", text, got, err)
		}
	}
}

func FuzzParseGap(f *testing.F) {
	for _, text := range []string{"t7_-3", "t0_0", "sabc_12_3_boot_4", "t", "t1_1", "s____"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := view.ParseGap(text)
		if err != nil {
			if matrix.CodeOf(err) != matrix.InvalidParam {
				t.Errorf("%q: got %v, want M_INVALID_PARAM", text, err)
			}
			return
		}
		if g.Anchor < 0 || g.Sub > 0 {
			t.Errorf("%q: got %v, which is no gap", text, g)
		}
		if again, err := view.ParseGap(g.String()); err != nil || again != g {
			t.Errorf("%q: read as %v, then as %v, %v", text, g, again, err)
		}
	})
}

func FuzzParseSyncToken(f *testing.F) {
	for _, text := range []string{"sabc_12_3_boot_4", "s_0_0__0", "t1_0", "s____", "s_9223372036854775808_0__0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := view.ParseSyncToken(text)
		if err != nil {
			if matrix.CodeOf(err) != matrix.InvalidParam {
				t.Errorf("%q: got %v, want M_INVALID_PARAM", text, err)
			}
			return
		}
		if token.Position < 0 || token.ToDevice < 0 || token.Ephemeral < 0 {
			t.Errorf("%q: got %v, with a negative number", text, token)
		}
		if again, err := view.ParseSyncToken(token.String()); err != nil || again != token {
			t.Errorf("%q: read as %v, then as %v, %v", text, token, again, err)
		}
	})
}
