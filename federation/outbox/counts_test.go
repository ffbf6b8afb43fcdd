package outbox

import (
	"testing"
	"time"
)

func TestCounts(t *testing.T) {
	running(t, func(v *village, w *wire, box *Outbox) {
		r := v.room("r", "well.example", "dead.example")
		w.silence(true, "dead.example")
		v.say(r, "hello")
		box.Wake()
		pass(10 * time.Minute)
		want := Counts{Destinations: 1, Failing: 1}
		got := box.Counts()
		got.UnderWay = 0 // another try may be under way
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}, "well.example", "dead.example")
}
