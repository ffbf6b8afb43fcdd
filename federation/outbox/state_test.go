package outbox

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/servers"
)

var epoch = time.UnixMilli(1e12)

func fresh() *state { return newState(rand.New(rand.NewPCG(1, 1))) }

// owe notes an event of room 1 at a position.
func (s *state) owe(at storage.Position, to ...matrix.ServerName) {
	ev := &rooms.Event{Event: &event.Event{}, Num: int64(at), RoomNum: 1, Position: at}
	s.read(page{upTo: at, events: []owedEvent{{ev, to}}}, epoch)
}

// take reads what an order asks for, without a database.
func (s *state) take(o order, now time.Time) []storage.Position {
	c := cargo{items: slices.Clone(o.exact)}
	for _, r := range o.reads {
		for r.after < r.upTo && r.limit > 0 {
			r.after++
			r.limit--
			c.items = append(c.items, item{Debt: servers.Debt{Kind: r.kind, Room: r.room, At: r.after}})
		}
		c.reads = append(c.reads, r)
	}
	s.loaded(o, c, now)
	var at []storage.Position
	for _, it := range c.items {
		at = append(at, it.At)
	}
	return at
}

// TestIsolation: a server that refuses some items gets all the others, and those are given up only when others were taken
// in between; whether it keeps up with its rooms or lags behind.
func TestIsolation(t *testing.T) {
	for name, prepare := range map[string]func(d *destination){
		"keeping up": func(*destination) {},
		"lagging":    func(d *destination) { d.fold() },
	} {
		t.Run(name, func(t *testing.T) {
			s, now := fresh(), epoch
			for at := range storage.Position(40) {
				s.owe(at+1, a)
			}
			prepare(s.destinations[a])
			poison := []storage.Position{9, 17, 18}
			var got, dropped []storage.Position
			next := storage.Position(41)
			for range 200 {
				orders, _ := s.start(now)
				for _, o := range orders {
					at := s.take(o, now)
					out := outcome{}
					if slices.ContainsFunc(at, func(p storage.Position) bool { return slices.Contains(poison, p) }) {
						out.verdict = refused
					} else {
						got = append(got, at...)
					}
					for _, it := range s.sent(o, out, now).dropped {
						dropped = append(dropped, it.At)
					}
				}
				if now = now.Add(time.Second); next < 60 {
					s.owe(next, a)
					next++
				}
			}
			slices.Sort(dropped)
			if !slices.Equal(dropped, poison) || len(got) != int(next)-1-len(poison) {
				t.Errorf("got dropped %v, and %d taken, want %v, and %d", dropped, len(got), poison, int(next)-1-len(poison))
			}
		})
	}
}

// TestAllRefused: who refuses everything loses nothing.
func TestAllRefused(t *testing.T) {
	s, now := fresh(), epoch
	for at := range storage.Position(60) {
		s.owe(at+1, a)
	}
	tries := 0
	for range 1000 {
		orders, _ := s.start(now)
		for _, o := range orders {
			tries++
			s.take(o, now)
			if c := s.sent(o, outcome{verdict: refused}, now); len(c.dropped) > 0 {
				t.Fatalf("got %v dropped, want none", c.dropped)
			}
		}
		now = now.Add(10 * time.Second)
	}
	if tries > 250 {
		t.Errorf("got %d tries in three hours, want them to become fewer", tries)
	}
	var got []storage.Position
	for range 100 {
		orders, _ := s.start(now)
		for _, o := range orders {
			got = append(got, s.take(o, now)...)
			s.sent(o, outcome{}, now)
		}
		now = now.Add(time.Minute)
	}
	if len(got) != 60 {
		t.Errorf("when it takes them: got %d items, want 60", len(got))
	}
}

// TestRetryAfter: what a server asks for is kept, within bounds.
func TestRetryAfter(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{
		0: time.Second * 4 / 5, 10 * time.Minute: 10 * time.Minute, 24 * time.Hour: lastDelay,
	} {
		s := fresh()
		s.owe(1, a)
		orders, _ := s.start(epoch)
		s.take(orders[0], epoch)
		s.sent(orders[0], outcome{verdict: unreachable, wait: asked}, epoch)
		if _, next := s.start(epoch); next.Sub(epoch) < want || next.Sub(epoch) > want*3/2 {
			t.Errorf("asked for %v: got a pause of %v, want %v", asked, next.Sub(epoch), want)
		}
	}
}

// TestBudgets: so many transactions are under way at a time, and those that take their time make room.
func TestBudgets(t *testing.T) {
	s := fresh()
	s.owe(1, names(2000, "s")...)
	var started []int
	now := epoch
	for range 4 {
		orders, next := s.start(now)
		started = append(started, len(orders))
		if next.IsZero() {
			break
		}
		now = next
	}
	live := budgets[liveSlot].transactions
	if want := []int{live, maxFlying - live, 0}; !slices.Equal(started[:3], want) {
		t.Errorf("got %v started, want %v", started, want)
	}
	if s.flown() != maxFlying {
		t.Errorf("got %d under way, want %d", s.flown(), maxFlying)
	}
}

// TestHeardBeforeOthers: who has spoken does not stand in line behind those that are most likely down.
func TestHeardBeforeOthers(t *testing.T) {
	s, now := fresh(), epoch
	all := names(400, "s")
	s.owe(1, all...)
	for range 3 { // all fail, again and again
		for {
			orders, _ := s.start(now)
			if len(orders) == 0 {
				break
			}
			for _, o := range orders {
				s.take(o, now)
				s.sent(o, outcome{verdict: unreachable}, now)
			}
		}
		now = now.Add(10 * time.Second)
	}
	s.start(now) // the probes begin, and hang
	inLine := 0
	for _, name := range all {
		if s.destinations[name].phase != ready {
			continue
		}
		inLine++
		if !s.heard(name, now) {
			t.Errorf("%s: hearing of it changed nothing", name)
		}
		if orders, _ := s.start(now); len(orders) != 1 || orders[0].server != name {
			t.Errorf("%s was heard of: got %v started, want it", name, orders)
		}
	}
	if inLine < 300 {
		t.Errorf("got %d destinations that stood in line, want more than 300", inLine)
	}
	if s.heard("unknown.example", now) {
		t.Error("a server to which nothing is owed: got news")
	}
}

// TestFailuresAreForgotten: of a destination to which nothing is owed, and to which nothing is said for long.
func TestFailuresAreForgotten(t *testing.T) {
	s, now := fresh(), epoch
	s.types([]matrix.ServerName{a}, typist{"!r", "@u"}, true, now)
	orders, _ := s.start(now)
	s.take(orders[0], now)
	s.sent(orders[0], outcome{verdict: unreachable}, now)
	s.types([]matrix.ServerName{a}, typist{"!r", "@u"}, true, now.Add(time.Minute))
	if orders, _ := s.start(now.Add(time.Minute)); len(orders) > 0 {
		t.Error("typing is sent to a server that does not answer")
	}
	s.save()
	if _, next := s.start(now); next.Sub(now) < forgetting {
		t.Errorf("got the next look after %v, want %v", next.Sub(now), forgetting)
	}
	s.start(now.Add(2 * forgetting))
	if s.save(); len(s.destinations) > 0 {
		t.Errorf("got %v, want nothing left", s.destinations)
	}
}

// TestRowsAreFew: events for those that are down are no reason to write, and neither are those that are delivered.
func TestRowsAreFew(t *testing.T) {
	s, now := fresh(), epoch
	dead := names(20, "dead")
	all := append(slices.Clone(dead), a)
	s.owe(1, all...)
	rows := 0
	for i := range storage.Position(100) {
		orders, _ := s.start(now)
		for _, o := range orders {
			s.take(o, now)
			out := outcome{}
			if o.server != a {
				out.verdict = unreachable
			}
			s.sent(o, out, now)
		}
		if i == 50 {
			rows = 0 // from now on it goes on as before
		}
		s.owe(i+2, all...)
		w := s.save()
		rows += len(w.Lags) + len(w.Caught) + len(w.Settled) + len(w.Destinations)
		for _, d := range w.Destinations {
			if len(d.Items) > 0 && d.Server != a {
				t.Errorf("%s: got the items %v stored, want the plan alone", d.Server, d.Items)
			}
		}
	}
	if rows > 100 {
		t.Errorf("got %d rows written for 50 events that nobody missed, want those of one destination", rows)
	}
}

// TestPositionAloneWaits: that all was delivered at once is stored a minute later, or with what else there is to store.
func TestPositionAloneWaits(t *testing.T) {
	s, now := fresh(), epoch
	at := storage.Position(0)
	say := func(verdict verdict) {
		t.Helper()
		at++
		s.owe(at, a)
		orders, _ := s.start(now)
		for _, o := range orders {
			s.take(o, now)
			s.sent(o, outcome{verdict: verdict}, now)
		}
	}
	due := func() bool {
		t.Helper()
		next := s.saveAt(now)
		if next.IsZero() || next.After(now) {
			return false
		}
		w, due := s.saveDue(now)
		if due && w.Position != at {
			t.Errorf("got the position %d stored, want %d", w.Position, at)
		}
		return due
	}
	for second := range 60 {
		say(delivered)
		now = now.Add(saveDelay)
		if due() {
			t.Fatalf("stored after %d seconds, though nothing is left to do", second+1)
		}
	}
	if len(s.destinations) > 0 || len(s.dirty) > 0 {
		t.Errorf("%d destinations are remembered that have all, want none", len(s.destinations))
	}
	now = now.Add(saveDelay)
	if !due() || due() {
		t.Error("want the position stored after a minute, once")
	}
	now = now.Add(time.Hour)
	if due() {
		t.Error("stored though nothing has happened")
	}
	say(delivered)
	say(unreachable)
	if now = now.Add(saveDelay); !due() {
		t.Error("what is left to do is not stored after a second")
	}
}

func BenchmarkNote(b *testing.B) {
	s := fresh()
	all := names(1000, "s")
	at := storage.Position(0)
	for b.Loop() {
		at++
		s.owe(at, all...)
		for {
			orders, _ := s.start(epoch)
			if len(orders) == 0 {
				break
			}
			for _, o := range orders {
				s.loaded(o, cargo{items: o.exact}, epoch)
				s.sent(o, outcome{}, epoch)
			}
		}
		s.save()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(all)), "ns/delivery")
}
