package stateres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/stateres"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
)

// shapes are rooms made to be expensive, of about n events. Each returns the
// states that are to be merged. CVE-2024-31208 was of this kind.
var shapes = []struct {
	name string
	make func(b *big, n int) []statetree.Tree
}{
	{"wide: everybody is in conflict", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		half := func(from int) func() {
			return func() {
				for i := range n / 2 {
					b.join(user(from + i))
				}
			}
		}
		return []statetree.Tree{b.fork(half(0)), b.fork(half(n / 2))}
	}},
	{"dead ends below a hub", func(b *big, n int) []statetree.Tree {
		b.join(user(1))
		b.trunk = b.tree(b.state)
		return []statetree.Tree{
			b.fork(func() {
				for i := range n {
					b.topic(user(1), "", i)
				}
			}),
			b.fork(func() { b.topic(creator, "", -1) }),
		}
	}},
	{"soft-failed dead ends below a hub", func(b *big, n int) []statetree.Tree {
		b.join(user(1))
		b.trunk = b.tree(b.state)
		b.fork(func() { // which no state comes from
			for i := range n {
				b.topic(user(1), fmt.Sprint(i), 0)
			}
		})
		return []statetree.Tree{
			b.fork(func() { b.topic(user(1), "", 1) }),
			b.fork(func() { b.topic(creator, "", 2) }),
		}
	}},
	{"chain of power levels", func(b *big, n int) []statetree.Tree {
		for i := range n {
			b.power(i)
		}
		return b.twoTopics()
	}},
	{"two chains of power levels", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		chain := func() {
			for i := range n / 2 {
				b.power(i)
			}
		}
		return []statetree.Tree{b.fork(chain), b.fork(chain)}
	}},
	{"braid", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		b.admins = append(b.admins, user(1))
		strand := func() {
			for i := range n / 8 {
				b.join(creator)
				b.join(user(1))
				b.power(2 * i)
				b.power(2*i + 1)
			}
		}
		return []statetree.Tree{b.fork(strand), b.fork(strand)}
	}},
	{"all to all", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		mesh := func() {
			for i := range n / 2 {
				last := b.order[max(0, len(b.order)-event.MaxAuthEvents):]
				b.add(spec{typ: "m.room.topic", stateKey: fmt.Sprint(i % 7), sender: creator, content: `{}`, auth: last})
			}
		}
		return []statetree.Tree{b.fork(mesh), b.fork(mesh)}
	}},
	{"ladder that is settled from its top", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		from := len(b.order)
		up := b.fork(func() {
			for i := range n {
				b.add(spec{typ: "x.rung", stateKey: fmt.Sprint(i % 2), sender: creator, content: `{}`, auth: b.order[len(b.order)-2:]})
			}
		})
		low := b.order[from+4]
		return []statetree.Tree{up, b.fork(func() {
			b.add(spec{typ: "x.low", sender: creator, content: `{}`, auth: []*event.Event{b.order[0], b.order[1], b.order[2], low}})
		})}
	}},
	{"an old event against a new one", func(b *big, n int) []statetree.Tree {
		b.trunk = b.tree(b.state)
		b.join(user(1))
		old := b.trunk
		for i := range n {
			b.power(i)
		}
		b.join(user(1))
		return []statetree.Tree{old, b.tree(b.state)}
	}},
}

// twoTopics forks the room once more, and lightly.
func (b *big) twoTopics() []statetree.Tree {
	b.trunk = b.tree(b.state)
	return []statetree.Tree{
		b.fork(func() { b.topic(creator, "", -1) }),
		b.fork(func() { b.topic(creator, "", -2) }),
	}
}

func (b *big) merge(states []statetree.Tree) stateres.Result {
	res, err := stateres.Resolve(context.Background(), b.input(b.room.graph), states)
	if err != nil {
		b.t.Fatalf("Resolve: %v", err)
	}
	return res
}

// TestGrowth_CVE_2024_31208 holds the steps in the graph and the events that are read for a
// room four times as large below five times those for the smaller one. Time
// and memory are in BenchmarkGrowth.
func TestGrowth_CVE_2024_31208(t *testing.T) {
	const n = 500
	for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
		for _, shape := range shapes {
			t.Run(fmt.Sprintf("v%s/%s", version, shape.name), func(t *testing.T) {
				var visits, loads [2]int
				for i, n := range []int{n, 4 * n} {
					b := newBig(t, version)
					states := shape.make(b, n)
					b.loads = 0
					visits[i], loads[i] = b.merge(states).Visits, b.loads
				}
				if visits[1] > 5*visits[0]+100 || loads[1] > 5*loads[0]+100 {
					t.Errorf("%d events: %d steps, %d loads; %d events: %d steps, %d loads: more than five times as many",
						n, visits[0], loads[0], 4*n, visits[1], loads[1])
				}
			})
		}
	}
}

// BenchmarkAdversarial says what the expensive rooms take. How that grows is
// for BenchmarkGrowth to say.
func BenchmarkAdversarial(b *testing.B) {
	for _, shape := range shapes {
		for _, version := range []matrix.RoomVersion{"11", "12"} {
			for _, n := range []int{2_500, 10_000, 40_000} {
				b.Run(fmt.Sprintf("%s/v%s/%d", shape.name, version, n), func(b *testing.B) {
					room := newBig(b, version)
					states := shape.make(room, n)
					b.ReportAllocs()
					var res stateres.Result
					for b.Loop() {
						res = room.merge(states)
					}
					b.ReportMetric(float64(res.Visits), "visits/op")
					b.ReportMetric(float64(res.Replayed), "replayed/op")
				})
			}
		}
	}
}

// BenchmarkTwenty merges twenty entries in conflict: the same cost whatever
// the size of the room.
func BenchmarkTwenty(b *testing.B) {
	for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
		for _, members := range []int{1_000, 10_000, 50_000, 100_000} {
			b.Run(fmt.Sprintf("v%s/%d", version, members), func(b *testing.B) {
				room := grown(b, version, members, 20, 5)
				benchmarkForks(b, room, 2, 12)
			})
		}
	}
}

// BenchmarkForks is the whole merge of 2 to 20 forks with 50 changes each, and
// of 20 with 10, in a room of 50,000 members and 482 changes of power levels by
// 50 admins.
func BenchmarkForks(b *testing.B) {
	for _, version := range []matrix.RoomVersion{"11", "12"} {
		var room *big
		for _, size := range [][2]int{{2, 50}, {5, 50}, {10, 50}, {20, 50}, {20, 10}} {
			b.Run(fmt.Sprintf("v%s/%dx%d", version, size[0], size[1]), func(b *testing.B) {
				if room == nil {
					room = grown(b, version, 50_000, 482, 50)
				}
				benchmarkForks(b, room, size[0], size[1])
			})
		}
	}
}

func benchmarkForks(b *testing.B, room *big, forks, changes int) {
	room.t = b
	var states []statetree.Tree
	for i := range forks {
		states = append(states, room.fork(func() { room.changes(i, changes) }))
	}
	var res stateres.Result
	b.ReportAllocs()
	for b.Loop() {
		res = room.merge(states)
	}
	b.ReportMetric(float64(res.Conflicts), "conflicts/op")
	b.ReportMetric(float64(res.Visits), "visits/op")
	b.ReportMetric(float64(res.Replayed), "replayed/op")
}

// TestCostIsThatOfTheConflict: a room ten times as large takes the same steps.
func TestCostIsThatOfTheConflict(t *testing.T) {
	var visits, loads []int
	for _, members := range []int{500, 5000} {
		room := grown(t, "11", members, 10, 5)
		states := []statetree.Tree{room.fork(func() { room.changes(1, 10) }), room.fork(func() { room.changes(2, 10) })}
		room.loads = 0
		visits = append(visits, room.merge(states).Visits)
		loads = append(loads, room.loads)
	}
	if visits[1] > visits[0]*3/2 || loads[1] > loads[0]*3/2 {
		t.Errorf("500 members: %d steps, %d loads; 5,000 members: %d steps, %d loads; want about as many", visits[0], loads[0], visits[1], loads[1])
	}
}

func TestBudget(t *testing.T) {
	b := newBig(t, "11")
	states := shapes[1].make(b, 1000)
	room := b.input(b.room.graph)
	room.MaxVisits = 500
	if _, err := stateres.Resolve(t.Context(), room, states); !errors.Is(err, stateres.ErrBudget) {
		t.Errorf("got %v, want ErrBudget", err)
	}
	room.MaxVisits = 100_000
	if _, err := stateres.Resolve(t.Context(), room, states); err != nil {
		t.Errorf("with a wide bound: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := stateres.Resolve(ctx, room, states); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
