package main

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/storage/storagetest"
)

var (
	crashRounds = flag.Int("crash.rounds", 3, "how often each server is killed")
	crashSeed   = flag.Uint64("crash.seed", 0, "when it is killed; 0: another time each run")
)

// crashMin is how many messages are acknowledged, at least, before a server is killed.
const crashMin = 1000

// crashDice returns the randomness of a test, and prints its seed.
func crashDice(t *testing.T) *rand.Rand {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -crash.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestKill9 kills a server under load, again and again, and holds what it has afterwards against a log of what it had
// acknowledged.
func TestKill9(t *testing.T) {
	databases := map[string]func(*testing.T) string{
		"sqlite":     func(*testing.T) string { return "sqlite" },
		"postgresql": func(t *testing.T) string { return storagetest.PostgresURL(t) },
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dice := crashDice(t)
			p := newProcess(t, storagetest.Dir(t), database(t))
			p.start(t)
			l := newLoad(t, p.url)
			r := newReader(t, l, p.url)
			for range *crashRounds {
				killUnderLoad(t, p, l, r, dice)
				p.start(t)
				found := l.check(t, "after the restart")
				r.catchUp(t)
				r.check(t, found)
				l.repeat(t, found)
				l.check(t, "after the repetition")
				if t.Failed() {
					return
				}
			}
			t.Logf("%d messages were acknowledged", len(l.acked))
		})
	}
}

// killUnderLoad kills the server at a random moment.
func killUnderLoad(t *testing.T, p *process, l *load, r *reader, dice *rand.Rand) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	group.Go(func() { l.run(ctx) })
	group.Go(func() { r.follow(ctx, t) })
	l.waitFor(t, crashMin)
	time.Sleep(time.Duration(dice.IntN(300_000)) * time.Microsecond) // the moment is what the test is about
	p.kill()
	group.Wait()
}
