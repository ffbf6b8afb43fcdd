package stateres_test

import (
	"flag"
	"testing"

	"pgregory.net/rapid"

	"github.com/myelin-chat/myelin/event"
)

// TestMain makes the generated rooms the same in each run; -rapid.seed=0
// (random) or any other number changes them.
func TestMain(m *testing.M) {
	flag.Set("rapid.seed", "1")
	flag.Set("rapid.nofailfile", "true")
	m.Run()
}

// TestOracle compares stateres with the literal reading of the specification
// over generated rooms: twelve versions times -rapid.checks rooms, 100 unless
// said. The long run, of 10,000 each, is make oracle.
func TestOracle(t *testing.T) {
	for _, v := range event.Versions() {
		t.Run(string(v.ID), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				numbers := make(map[int]*rapid.Generator[int])
				c := func(n int) int {
					if numbers[n] == nil {
						numbers[n] = rapid.IntRange(0, n-1)
					}
					return numbers[n].Draw(rt, "choice")
				}
				g := generate(rt, v, c, 5+c(40))
				g.check()
			})
		})
	}
}

// FuzzResolve makes a room of a fuzzer's bytes.
func FuzzResolve(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add([]byte("state resolution must not depend on what anybody makes of it"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			t.Skip("a room as large as that shows nothing new")
		}
		c := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			b := int(data[0])
			data = data[1:]
			return b % n
		}
		v := event.Versions()[c(12)]
		g := generate(t, v, c, min(40, 1+len(data)/8))
		g.check()
	})
}
