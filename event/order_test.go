package event

import (
	"testing"

	"github.com/myelin-chat/myelin/matrix"
)

func TestOrdered(t *testing.T) {
	ids := func(events []*Event) (text string) {
		for _, ev := range events {
			text += string(ev.ID)
		}
		return text
	}
	for _, c := range []struct {
		name, events, want string
	}{
		{"a row, backwards", "cb ba a", "abc"},
		{"apart", "b a", "ba"},
		{"a diamond", "dbc ca ba a", "abcd"},
		{"a circle", "ab ba", "ba"},
		{"of itself", "aa", "a"},
		{"what is not there", "ax", "a"},
	} {
		var events []*Event
		word := ""
		flush := func() {
			if word == "" {
				return
			}
			ev := &Event{ID: matrix.EventID(word[:1])}
			for _, prev := range word[1:] {
				ev.PrevEvents = append(ev.PrevEvents, matrix.EventID(prev))
			}
			events, word = append(events, ev), ""
		}
		for _, r := range c.events + " " {
			if r == ' ' {
				flush()
				continue
			}
			word += string(r)
		}
		got := ordered(events, func(ev *Event, yield func(matrix.EventID)) {
			for _, id := range ev.PrevEvents {
				yield(id)
			}
		})
		if ids(got) != c.want {
			t.Errorf("%s: got %s, want %s", c.name, ids(got), c.want)
		}
	}
}
