package storage

import (
	"slices"
	"testing"
)

func TestStatistics(t *testing.T) {
	s := newStatistics()
	rows := func(table string, n int) []*tableRows {
		return []*tableRows{{table: &Table{name: table}, rows: make([]row, n)}}
	}
	s.add(rows("early", 5*firstLook))
	if got := s.take(); got != nil {
		t.Errorf("before it is known what there is: got %v, want nothing", got)
	}
	s.begin(map[string]int64{"young": -1, "old": 1000, "large": lastLook})
	for _, c := range []struct {
		table string
		rows  int
		due   bool
	}{
		{"young", firstLook - 1, false}, {"young", 1, true},
		{"young", firstLook - 1, false}, {"young", 1, true},
		{"young", firstLook, false}, {"young", firstLook, true},
		{"old", 999, false}, {"old", 1, true},
		{"large", lastLook, false},
		{"made since", firstLook, true},
	} {
		s.add(rows(c.table, c.rows))
		woken := len(s.due) == 1
		if got := slices.Contains(s.take(), c.table); got != c.due || woken != c.due {
			t.Errorf("%s after %d more: looked at %v, woken %v, want %v", c.table, c.rows, got, woken, c.due)
		}
		if woken {
			<-s.due
		}
	}
}
