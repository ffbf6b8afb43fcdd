package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// fakeStore is a database for the step function: it stores groups as the engines do, and fails as its
// random source says.
type fakeStore struct {
	rng    *rand.Rand
	row    logRow
	stored []*Item
	poison map[*Item]bool
	faults bool
}

var errPoison = errors.New("poison")

func (s *fakeStore) apply(t *testing.T, a *attempt) outcome {
	if a.before != s.row {
		t.Fatalf("attempt after %+v, want %+v", a.before, s.row)
	}
	if s.faults {
		switch s.rng.IntN(8) {
		case 0:
			return outcome{verdict: unreachable, err: ErrUnavailable}
		case 1:
			return outcome{verdict: unknown, err: errLost}
		case 2:
			if o := s.store(a); o.verdict == committed {
				return outcome{verdict: unknown, err: errLost}
			}
		case 3:
			if s.rng.IntN(4) == 0 {
				return outcome{verdict: blocked, err: ErrFull}
			}
		}
	}
	if a.before != s.row { // stored above, and then failed: the answer is lost
		return outcome{verdict: unknown, err: errLost}
	}
	return s.store(a)
}

// store stores the group unless it holds poison. Which item it was is sometimes known.
func (s *fakeStore) store(a *attempt) outcome {
	culprits := map[int]error{}
	for i, it := range a.items {
		if s.poison[it] {
			culprits[i] = errPoison
		}
	}
	switch {
	case len(culprits) > 0 && s.rng.IntN(2) == 0:
		return outcome{verdict: refused, culprits: culprits}
	case len(culprits) > 0:
		return outcome{verdict: failed, err: errPoison}
	}
	s.stored = append(s.stored, a.items...)
	s.row = a.after
	return outcome{verdict: committed}
}

// simulation drives the committer over a fakeStore.
type simulation struct {
	store   *fakeStore
	core    committer
	answers map[*Item]answer
	news    []News
	numbers int64
}

func newSimulation(seed uint64) *simulation {
	sim := &simulation{
		store:   &fakeStore{rng: rand.New(rand.NewPCG(seed, 1)), poison: map[*Item]bool{}},
		answers: map[*Item]answer{},
	}
	sim.core.reserve = func() int64 { sim.numbers++; return sim.numbers }
	return sim
}

func (sim *simulation) take(t *testing.T, e effects) {
	for _, a := range e.answers {
		if _, twice := sim.answers[a.item]; twice {
			t.Fatal("an item was answered twice")
		}
		sim.answers[a.item] = a
	}
	sim.news = append(sim.news, e.news...)
}

// commit steps until nothing is left of the group.
func (sim *simulation) commit(t *testing.T, items []*Item) {
	e := sim.core.arrive(items)
	for steps := 0; ; steps++ {
		if steps > 10000 {
			t.Fatal("the committer does not come to an end")
		}
		sim.take(t, e)
		switch {
		case e.fatal != nil:
			t.Fatal(e.fatal)
		case e.settle && sim.store.faults && sim.store.rng.IntN(3) == 0:
			e = sim.core.unsettled(nil)
		case e.settle:
			e = sim.core.settled(sim.store.row, errLost)
		case e.try != nil:
			e = sim.core.tried(sim.store.apply(t, e.try))
		default:
			return
		}
	}
}

func (sim *simulation) item() *Item {
	rng := sim.store.rng
	it := &Item{}
	for range rng.IntN(3) {
		it.News(News{Kind: NewsEvent, Value: it})
	}
	if rng.IntN(2) == 0 {
		it.Chain(int64(rng.IntN(3)), int64(rng.IntN(3)))
	}
	sim.store.poison[it] = rng.IntN(12) == 0
	return it
}

// TestSimulation runs random groups through random faults, and checks what is promised: every item is
// answered once and truthfully, positions follow the order of commits, and chains break as a whole.
func TestSimulation(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			sim := newSimulation(seed)
			sim.store.faults = seed%3 > 0
			var all []*Item
			for range 20 {
				var group []*Item
				for range sim.store.rng.IntN(30) {
					group = append(group, sim.item())
				}
				all = append(all, group...)
				sim.commit(t, group)
			}
			sim.check(t, all)
		})
	}
}

func (sim *simulation) check(t *testing.T, all []*Item) {
	if got := len(sim.answers); got != len(all) {
		t.Fatalf("%d items answered, want %d", got, len(all))
	}
	stored := map[*Item]bool{}
	for _, it := range sim.store.stored {
		if stored[it] {
			t.Fatal("an item was stored twice")
		}
		stored[it] = true
	}
	failed := map[int64]int64{} // highest generation that failed, by key
	for i, it := range all {
		a := sim.answers[it]
		if stored[it] != (a.err == nil) {
			t.Fatalf("item %d: stored %v, answered %v", i, stored[it], a.err)
		}
		if sim.store.poison[it] && a.err == nil {
			t.Fatalf("item %d is poison, and was stored", i)
		}
		if !it.chained {
			continue
		}
		g, broken := failed[it.chain.key]
		if broken && it.chain.generation <= g && a.err == nil {
			t.Fatalf("item %d of chain %v was stored after one had failed", i, it.chain)
		}
		if a.err != nil && (!broken || it.chain.generation > g) {
			failed[it.chain.key] = it.chain.generation
		}
	}
	for i, n := range sim.news {
		if n.Position != Position(i+1) {
			t.Fatalf("news %d has position %d", i+1, n.Position)
		}
	}
	if got := Position(len(sim.news)); got != sim.store.row.position {
		t.Fatalf("%d pieces of news, and the log is at %d", got, sim.store.row.position)
	}
}

func chained(key, generation int64) *Item {
	it := &Item{}
	it.Chain(key, generation)
	return it
}

func TestChain(t *testing.T) {
	sim := newSimulation(1)
	before, bad, after := chained(7, 1), chained(7, 1), chained(7, 1)
	other, again, late := chained(8, 1), chained(7, 2), chained(7, 1)
	sim.store.poison[bad] = true
	sim.commit(t, []*Item{before, bad, after, other})
	sim.commit(t, []*Item{again, late})
	for _, c := range []struct {
		name string
		item *Item
		want error
	}{
		{"before the failure", before, nil}, {"the failure", bad, errPoison}, {"after the failure", after, ErrChain},
		{"another chain", other, nil}, {"a new generation", again, nil}, {"the old generation, later", late, ErrChain},
	} {
		if got := sim.answers[c.item].err; got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestPoisonCostsLittle counts the attempts that one poison item of unknown place causes.
func TestPoisonCostsLittle(t *testing.T) {
	sim := newSimulation(1)
	items := make([]*Item, 64)
	for i := range items {
		items[i] = &Item{}
	}
	attempts := 0
	e := sim.core.arrive(items)
	for e.try != nil {
		attempts++
		o := outcome{verdict: committed}
		for _, it := range e.try.items {
			if it == items[37] {
				o = outcome{verdict: failed, err: errPoison}
			}
		}
		e = sim.core.tried(o)
		sim.take(t, e)
	}
	if attempts > 13 {
		t.Errorf("%d attempts, want at most 13", attempts)
	}
	for i, it := range items {
		if err := sim.answers[it].err; (err != nil) != (i == 37) {
			t.Errorf("item %d: got %v", i, err)
		}
	}
}

// TestUnreachable: a database that does not answer is tried for about ten seconds, and then once for each group.
func TestUnreachable(t *testing.T) {
	sim := newSimulation(1)
	down := outcome{verdict: unreachable, err: ErrUnavailable}
	waited := func() (d time.Duration) {
		e := sim.core.arrive([]*Item{{}})
		for e.try != nil {
			e = sim.core.tried(down)
			d += e.delay
		}
		if len(e.answers) != 1 || e.answers[0].err != ErrUnavailable {
			t.Fatalf("answers %v, want ErrUnavailable", e.answers)
		}
		return d
	}
	if d := waited(); d < 8*time.Second || d > 12*time.Second {
		t.Errorf("gave up after %v, want about 10 s", d)
	}
	if d := waited(); d != 0 {
		t.Errorf("while it is down, gave up after %v, want at once", d)
	}
	sim.commit(t, []*Item{{}})
	if sim.core.down {
		t.Error("a commit did not end the outage")
	}
}

// TestUndecided: nobody is answered before the log row was read, but new items that depend on nothing are refused in time.
func TestUndecided(t *testing.T) {
	for _, stored := range []bool{false, true} {
		sim := newSimulation(1)
		first, second, free, bound := chained(1, 1), &Item{}, &Item{}, chained(1, 1)
		e := sim.core.arrive([]*Item{first, second})
		if stored {
			sim.store.store(e.try)
		}
		e = sim.core.tried(outcome{verdict: unknown, err: errLost})
		arriving := []*Item{free, bound}
		for range maxTries + 1 {
			if !e.settle {
				t.Fatal("does not ask for the log row")
			}
			e = sim.core.unsettled(arriving)
			arriving = nil
			sim.take(t, e)
		}
		if len(sim.answers) != 1 || sim.answers[free].err != ErrUnavailable {
			t.Fatalf("answers during the outage: %v, want one, ErrUnavailable", sim.answers)
		}
		e = sim.core.settled(sim.store.row, errLost)
		sim.take(t, e)
		if (e.try != nil && e.try.items[0] == first) == stored {
			t.Errorf("stored %v: next attempt %v", stored, e.try)
		}
		if _, ok := sim.answers[first]; ok != stored {
			t.Errorf("stored %v: answered %v", stored, ok)
		}
	}
}

func TestFenced(t *testing.T) {
	sim := newSimulation(1)
	sim.core.arrive([]*Item{{}})
	sim.core.tried(outcome{verdict: unknown, err: errLost})
	if e := sim.core.settled(logRow{group: 9}, errLost); e.fatal != errFenced {
		t.Errorf("a log moved by somebody else: got %v, want %v", e.fatal, errFenced)
	}
}

func TestBrokenChainsAreBounded(t *testing.T) {
	var b chains
	for i := range int64(maxBroken + 10) {
		b.add(chained(i, 1))
	}
	if len(b.generation) != maxBroken || len(b.order) != maxBroken {
		t.Errorf("%d and %d chains kept, want %d", len(b.generation), len(b.order), maxBroken)
	}
	if b.has(chain{0, 1}) || !b.has(chain{maxBroken, 1}) {
		t.Error("the oldest were to be forgotten, not the newest")
	}
}

// TestAbandon: who waits when the process stops is answered, and is told apart whether the write may be stored.
func TestAbandon(t *testing.T) {
	tried, waits, later := &Item{}, &Item{}, &Item{}
	begin := func() *simulation {
		sim := newSimulation(1)
		sim.core.arrive([]*Item{tried, waits})
		sim.core.tried(outcome{verdict: failed, err: errPoison}) // now each is tried alone
		return sim
	}
	sim := begin()
	if got := sim.core.held(); got != 1 {
		t.Errorf("held: got %d items, want the one that waits", got)
	}
	for _, a := range sim.core.abandon() {
		if !errors.Is(a.err, ErrClosed) {
			t.Errorf("nothing was sent: got %v, want ErrClosed", a.err)
		}
	}
	sim = begin()
	sim.core.tried(outcome{verdict: unknown, err: errLost})
	sim.core.unsettled([]*Item{later})
	got := map[*Item]error{}
	for _, a := range sim.core.abandon() {
		got[a.item] = a.err
	}
	if len(got) != 3 || got[tried] != errUndecided || got[waits] != ErrClosed || got[later] != ErrClosed {
		t.Errorf("after a lost COMMIT: got %v, want one undecided, two closed", got)
	}
	if more := sim.core.abandon(); len(more) != 0 {
		t.Errorf("got %d answers a second time", len(more))
	}
}
