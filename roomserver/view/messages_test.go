package view_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/roomserver/view"
)

func (w *world) page(name string, p view.PageQuery) (string, view.Page) {
	w.t.Helper()
	page, err := w.open(name).Messages(w.t.Context(), w.db, p)
	must(w.t, err)
	return story(page.Events), page
}

func TestMessages(t *testing.T) {
	w := newWorld(t, "12", "joined")
	start := view.At(w.db.Position())
	w.tell("1 2 3 4 5")
	end := view.At(w.db.Position())
	third := view.Gap{Anchor: start.Anchor + 3}
	beforeThird := view.Gap{Anchor: start.Anchor + 3, Sub: -1}
	for _, c := range []struct {
		name  string
		query view.PageQuery
		want  string
		more  bool
	}{
		{"back", view.PageQuery{From: end, Backward: true, Limit: 2}, "5 4", true},
		{"back from the middle", view.PageQuery{From: third, Backward: true, Limit: 2}, "3 2", true},
		{"back from before an event", view.PageQuery{From: beforeThird, Backward: true, Limit: 2}, "2 1", true},
		{"back to", view.PageQuery{From: end, To: &third, Backward: true, Limit: 9}, "5 4", false},
		{"back to what lies ahead", view.PageQuery{From: third, To: &end, Backward: true, Limit: 9}, "", false},
		{"forth", view.PageQuery{From: start, Limit: 2}, "1 2", true},
		{"forth from before an event", view.PageQuery{From: beforeThird, Limit: 9}, "3 4 5", false},
		{"forth to", view.PageQuery{From: start, To: &third, Limit: 9}, "1 2 3", false},
		{"forth to the beginning", view.PageQuery{From: start, To: &view.Gap{}, Limit: 9}, "", false},
		{"forth to just all", view.PageQuery{From: start, Limit: 5}, "1 2 3 4 5", false},
		{"beyond the end", view.PageQuery{From: end, Limit: 9}, "", false},
		{"none", view.PageQuery{From: start}, "", true},
		{"cut at a leave", view.PageQuery{From: end, Backward: true, Limit: 2}.Within(view.Sight{Until: third.Anchor}), "3 2", true},
		{"cut going forth", view.PageQuery{From: start, Limit: 9}.Within(view.Sight{Until: third.Anchor}), "1 2 3", false},
		{"cut with an end before", view.PageQuery{From: start, To: &beforeThird, Limit: 9}.Within(view.Sight{Until: third.Anchor}), "1 2", false},
		{"not cut", view.PageQuery{From: start, Limit: 9}.Within(view.Sight{}), "1 2 3 4 5", false},
	} {
		got, page := w.page("alice", c.query)
		if got != c.want || page.More != c.more {
			t.Errorf("%s: got %q, more %v; want %q, %v", c.name, got, page.More, c.want, c.more)
		}
	}
}

// Pages go on over what is hidden, and come to an end.
func TestMessagesPassHidden(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.tell("0 join 1 leave " + strings.Repeat("x ", 60) + "join 2")
	var got []string
	from := view.At(w.db.Position())
	for range 100 {
		text, page := w.page("bob", view.PageQuery{From: from, Backward: true, Limit: 1})
		got = append(got, strings.Fields(text)...)
		if from = page.End; !page.More {
			break
		}
	}
	if g := strings.Join(got, " "); g != "2 join leave 1 join joined" {
		t.Errorf("walked back: got %q, want 2 join leave 1 join joined", g)
	}
}

func TestMessagesFilter(t *testing.T) {
	w := newWorld(t, "12", "joined")
	w.tell("1 join 2 leave 3")
	filter, err := view.ParseRoomEventFilter([]byte(`{"types":["m.room.message"],"not_senders":["@bob:example.org"]}`))
	must(t, err)
	if got, _ := w.page("alice", view.PageQuery{Limit: 9, Filter: filter}); got != "1 2 3" {
		t.Errorf("filtered: got %q, want 1 2 3", got)
	}
}

// However the pages are cut, they hold the same.
func TestMessagesAnySize(t *testing.T) {
	w := newWorld(t, "12", "shared")
	var said []string
	for i := range 80 {
		said = append(said, fmt.Sprint("m", i))
	}
	w.tell(strings.Join(said, " "))
	for _, backward := range []bool{false, true} {
		want := append([]string{"shared"}, said...)
		if backward {
			slices.Reverse(want)
		}
		for _, size := range []int{1, 2, 31, 32, 33, 86, 1000} {
			q := view.PageQuery{Backward: backward, Limit: size}
			if backward {
				q.From = view.At(w.db.Position())
			}
			var got []string
			for more := true; more; {
				text, page := w.page("alice", q)
				got = append(got, strings.Fields(text)...)
				q.From, more = page.End, page.More
			}
			if !slices.Equal(got, want) {
				t.Errorf("backward %v, pages of %d: got %v, want %v", backward, size, got, want)
			}
		}
	}
}

func BenchmarkMessages(b *testing.B) {
	w := newWorld(b, "12", "shared")
	w.tell("join " + strings.Repeat("x ", 200))
	from := view.At(w.db.Position())
	v := w.open("bob")
	for b.Loop() {
		if _, err := v.Messages(b.Context(), w.db, view.PageQuery{From: from, Backward: true, Limit: 20}); err != nil {
			b.Fatal(err)
		}
	}
}
