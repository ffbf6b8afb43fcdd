package roomserver_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// rivals are branches of members of which each takes the power from all others, and what each says then.
func rivals(w *wire, n int) (events []*event.Event, want string) {
	all := make(map[string]int)
	for i := range n {
		all[fmt.Sprintf("member%d:elsewhere.org", i)] = 90
	}
	base := w.set(bobThere, "m.room.power_levels", w.levels(all), w.base)
	events = append(events, base)
	for i := range n {
		who := fmt.Sprintf("member%d:elsewhere.org", i)
		mine := maps.Clone(all)
		mine[who], mine[fmt.Sprintf("member%d:elsewhere.org", (i+1)%n)] = 89, 90
		grab := w.set(who, "m.room.power_levels", w.levels(mine), base)
		events = append(events, grab, w.topic(who, fmt.Sprint("of ", i), grab))
	}
	return events, "" // which of them stands at what time is not the same for all
}

// outcasts are events of somebody whom the room has banned, from before the ban, each by another state.
func outcasts(w *wire, n int) (events []*event.Event, want string) {
	mallory := "member0:elsewhere.org"
	last := w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{mallory: 50}), w.base)
	events = append(events, last, w.member(bobThere, mallory, "ban", last))
	for i := range n {
		last = w.topic(mallory, fmt.Sprint("mine ", i), last)
		events = append(events, last)
	}
	return events, "aa" + strings.Repeat("s", n)
}

// alternating are outcasts between which others go on, each in a branch of its own.
func alternating(w *wire, n int) (events []*event.Event, want string) {
	outs, _ := outcasts(w, n/2)
	events, want = slices.Clone(outs[:2]), "aa"
	for i, out := range outs[2:] {
		events = append(events, w.say(fmt.Sprintf("member%d:elsewhere.org", i+1), "branch", w.base), out)
		want += "as"
	}
	return events, want
}

// Who sends what has to be judged by states in conflict makes a step resolve them a few times, however much it is. The room
// comes to be what it is where each came alone.
func TestResolutionsOfAStepAreBounded(t *testing.T) {
	for name, script := range map[string]func(*wire, int) ([]*event.Event, string){
		"rivals": rivals, "outcasts": outcasts, "alternating": alternating,
	} {
		for _, n := range []int{8, 40} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				const most = 2*owner.MaxLooks + 2
				w := found(t, storagetest.Open(t, storagetest.SQLite), "11", n+2)
				in := w.answer(w.base)
				if err := w.s.Adopt(t.Context(), in); err != nil {
					t.Fatal(err)
				}
				w.tie(w.room.ID)
				events, want := script(w, n)
				before := roomserver.Resolutions(w.s)
				got := w.outcomes(events...)
				if times := roomserver.Resolutions(w.s) - before; times > most {
					t.Errorf("%d events: states were resolved %d times, want %d at most", len(events), times, most)
				}
				if want != "" && got != want {
					t.Errorf("outcomes: got %s, want %s", got, want)
				}
				w.audit()
				if got, want := stateIDs(t, w.s, w.room.ID), w.alone(in, events); !slices.Equal(got, want) {
					t.Errorf("state: got %v, want %v", got, want)
				}
			})
		}
	}
}

// Who was apart from us for long tells of many who were invited meanwhile, came, and spoke: all of it is shown, however much
// comes at once.
func TestNewcomersOfABranch(t *testing.T) {
	const n = 20
	w := found(t, storagetest.Open(t, storagetest.SQLite), "11", 1)
	private := w.set(bobThere, "m.room.join_rules", `{"join_rule":"invite"}`, w.base)
	if err := w.s.Adopt(t.Context(), w.answer(w.member(bobThere, "alice", "invite", private))); err != nil {
		t.Fatal(err)
	}
	w.tie(w.room.ID)
	w.must(roomserver.Accepted, w.topic(bobThere, "another branch", w.base))
	var events []*event.Event
	last := w.base
	for i := range n {
		who := fmt.Sprintf("new%d:elsewhere.org", i)
		invite := w.member(bobThere, who, "invite", last)
		join := w.join(who, invite)
		last = w.say(who, "here I am", join)
		events = append(events, invite, join, last)
	}
	if got, want := w.outcomes(events...), strings.Repeat("aaa", n); got != want {
		t.Errorf("outcomes: got %s, want %s", got, want)
	}
	w.audit()
}

// What one server sends in vain is not held against what others send with it.
func TestVainLooksAreOfOneServer(t *testing.T) {
	w := found(t, storagetest.Open(t, storagetest.SQLite), "11", 1)
	mallory := "mallory:third.org"
	base := w.join(mallory, w.base)
	base = w.set(bobThere, "m.room.power_levels", w.levels(map[string]int{mallory: 50}), base)
	if err := w.s.Adopt(t.Context(), w.answer(base)); err != nil {
		t.Fatal(err)
	}
	w.tie(w.room.ID)
	base = w.set(bobThere, "m.room.join_rules", `{"join_rule":"invite"}`, w.base)
	w.must(roomserver.Accepted, base)
	w.must(roomserver.Accepted, w.member(bobThere, mallory, "ban", base))
	var events []*event.Event
	last := base
	for i := range 2 * owner.MaxLooks {
		last = w.topic(mallory, fmt.Sprint("mine ", i), last)
		events = append(events, last)
	}
	last = base
	for i := range 2 * owner.MaxLooks {
		who := fmt.Sprintf("new%d:elsewhere.org", i)
		last = w.join(who, w.member(bobThere, who, "invite", last))
		events = append(events, w.remote.events[last.PrevEvents[0]], last)
	}
	want := strings.Repeat("s", 2*owner.MaxLooks) + strings.Repeat("aa", 2*owner.MaxLooks)
	if got := w.outcomes(events...); got != want {
		t.Errorf("outcomes: got %s, want %s", got, want)
	}
	w.audit()
}

// alone is the state of the room where each event came by itself.
func (w *wire) alone(in roomserver.JoinAnswer, events []*event.Event) []string {
	w.t.Helper()
	set := settings(w.t, storagetest.Open(w.t, storagetest.SQLite))
	set.Remote, set.Key = w.remote, w.key
	s := roomserver.New(set)
	if err := s.Adopt(w.t.Context(), in); err != nil {
		w.t.Fatal(err)
	}
	for _, ev := range events {
		s.Receive(w.t.Context(), elsewhere, w.room.ID, []*event.Event{ev})
	}
	return stateIDs(w.t.(*testing.T), s, w.room.ID)
}
