package roomserver

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed alone, and print what happens in it")
	simUntil = flag.Int("sim.actions", simActions, "of that seed, let users and liars do only so many things")
	simAll   = flag.Bool("sim.all", false, "go on after a seed that fails")
	simBrief = flag.Bool("sim.brief", false, "tell of a seed that fails the first fault only, and look for no shorter run")
	simFirst = flag.Uint64("sim.first", 1, "the first of the seeds that the simulation runs through")
	simSeeds = flag.Uint64("sim.seeds", 0, "how many seeds the simulation runs through; 0: MYELIN_SIM_SEEDS, or a few")
)

// fewSeeds is how many seeds a plain run of the tests goes through.
const fewSeeds = 6

// TestSimulation plays servers that talk with each other over a bad network, some of which lie, and which crash:
// all of it in one thread, and all of it as a seed has it. When the network is whole again and on each server
// somebody has spoken until nothing changes, all honest servers must have the same rooms, and what they have must
// be what the rules say.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		r := simulate(t, *simSeed, simOptions{actions: *simUntil, graph: true})
		for _, line := range r.trace {
			fmt.Println(line)
		}
		r.report(t)
		return
	}
	seeds := *simSeeds
	if seeds == 0 {
		seeds = fewSeeds
		if n, err := strconv.ParseUint(os.Getenv("MYELIN_SIM_SEEDS"), 10, 64); err == nil {
			seeds = n
		}
	}
	next, last := *simFirst, *simFirst+seeds
	var mu sync.Mutex
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == last || t.Failed() && !*simAll {
			return 0, false
		}
		next++
		return next - 1, true
	}
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for seed, ok := take(); ok; seed, ok = take() {
					r := simulate(t, seed, simOptions{actions: simActions})
					if *simBrief && seed%100 == 0 {
						fmt.Println("at", seed)
					}
					switch {
					case len(r.failures) == 0:
					case *simBrief:
						fmt.Printf("seed %d: %s\n", seed, r.failures[0]) // at once: the run may be long
						t.Fail()
					default:
						shrink(t, r).report(t)
					}
				}
			})
		}
	})
}

// TestSimulationRepeats runs a seed twice: it must be the same to the byte.
func TestSimulationRepeats(t *testing.T) {
	for seed := *simFirst; seed < *simFirst+2; seed++ {
		one := simulate(t, seed, simOptions{actions: simActions})
		two := simulate(t, seed, simOptions{actions: simActions})
		for i := range min(len(one.trace), len(two.trace)) {
			if one.trace[i] != two.trace[i] {
				t.Fatalf("seed %d differs from itself in line %d: %q, %q", seed, i, one.trace[i], two.trace[i])
			}
		}
		if one.hash != two.hash || len(one.trace) < 100 {
			t.Errorf("seed %d: got hash %x of %d lines, then %x of %d", seed, one.hash, len(one.trace), two.hash, len(two.trace))
		}
	}
}

// shrink looks for a shorter run of a seed that fails, too: one in which users do less.
func shrink(t *testing.T, failed simResult) simResult {
	low, high := 0, failed.options.actions
	for low < high {
		middle := (low + high) / 2
		if r := simulate(t, failed.seed, simOptions{actions: middle}); len(r.failures) > 0 {
			failed, high = r, middle
		} else {
			low = middle + 1
		}
	}
	return failed
}

// report fails the test with what a run has found.
func (r simResult) report(t *testing.T) {
	t.Helper()
	if len(r.failures) == 0 {
		return
	}
	const most = 60
	trace := r.trace[max(0, len(r.trace)-most):]
	for _, line := range trace {
		t.Log(line)
	}
	for i, failure := range r.failures {
		if i == 10 {
			t.Errorf("and %d more", len(r.failures)-i)
			break
		}
		t.Error(failure)
	}
	t.Errorf("seed %d, after %d things done: repeat it with -run 'TestSimulation$' -sim.seed=%[1]d -sim.actions=%[2]d", r.seed, r.options.actions)
}
