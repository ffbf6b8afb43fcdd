package network

import (
	"testing"
	"time"
)

// The pauses between tries double up to six hours.
func TestTriesBecomeRarer(t *testing.T) {
	tries := map[time.Duration]int{} // by how long it is unheard, to the hour
	for m := range 48 * 60 {
		if at := time.Duration(m) * time.Minute; isDue(at, at-time.Minute) {
			tries[at.Truncate(time.Hour)]++
		}
	}
	if tries[0] < 5 || tries[0] > 10 {
		t.Errorf("%d tries in the first hour, want 5 to 10", tries[0])
	}
	total := 0
	for _, n := range tries {
		total += n
	}
	if total > 25 {
		t.Errorf("%d tries in two days, want no more than 25", total)
	}
	for h := 6; h < 48; h += 7 {
		n := 0
		for i := range 7 {
			n += tries[time.Duration(h-6+i)*time.Hour]
		}
		if n == 0 {
			t.Errorf("no try between hour %d and %d", h-6, h)
		}
	}
}

// Who looks late has missed nothing.
func TestTriesAreMadeUp(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		unheard, last time.Duration
		want          bool
	}{
		{0, -time.Minute, true}, {30 * time.Second, -30 * time.Second, true}, {time.Minute, 0, true},
		{65 * time.Minute, 64 * time.Minute, false}, {65 * time.Minute, 63 * time.Minute, true}, {95 * time.Minute, 25 * time.Minute, true},
		{20 * hour, 19 * hour, false}, {20 * hour, 10 * hour, true},
	} {
		if got := isDue(c.unheard, c.last); got != c.want {
			t.Errorf("after %v, looked at last after %v: got %v, want %v", c.unheard, c.last, got, c.want)
		}
	}
}
