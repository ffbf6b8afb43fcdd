package roomserver

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation of this seed alone")
	simSeeds = flag.Uint64("sim.seeds", 12, "how many seeds the simulation runs through")
)

// TestSimulation plays owners through a row of steps that a seed chooses: commits that are held back,
// commits that fail, rooms that are unloaded, restarts. What was acknowledged must be there, once and in
// order; what was not must not be; and what is kept beside the events must agree with them.
func TestSimulation(t *testing.T) {
	first, last := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, last = *simSeed, *simSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newSimulation(t, seed).run(150) })
	}
}

type simulation struct {
	t       *testing.T
	rand    *rand.Rand
	db      *storage.DB
	server  *Server
	rooms   []rooms.Room
	flying  []simFlight
	acked   map[int64][]string // messages by room
	release func()
	now     time.Time
	said    int
}

type simFlight struct {
	*flight
	room int64
	text string // empty if it says nothing
}

const takenKey = 1 // a transaction that was sent: whatever uses it again fails at the commit

func newSimulation(t *testing.T, seed uint64) *simulation {
	db := storagetest.Open(t, storagetest.SQLite)
	sim := &simulation{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), db: db, server: testServer(t, db),
		acked: make(map[int64][]string), now: time.Now(),
	}
	for range 3 {
		sim.rooms = append(sim.rooms, testRoom(t, sim.server))
	}
	sim.release = stall(t, db)
	sim.say(sim.rooms[0], takenKey)
	sim.land()
	return sim
}

func (sim *simulation) run(steps int) {
	for range steps {
		room := sim.rooms[sim.rand.IntN(len(sim.rooms))]
		switch n := sim.rand.IntN(100); {
		case n < 55:
			sim.say(room, 0)
		case n < 62:
			sim.say(room, takenKey)
		case n < 80:
			sim.move(room)
		case n < 86:
			sim.turn(room, "", names("alice", fmt.Sprint(sim.rand.IntN(5))))
		case n < 96:
			sim.land()
		case n < 98:
			sim.land()
			sim.server.sweep(sim.now.Add(time.Hour))
		default:
			sim.land()
			sim.server = testServer(sim.t, sim.db)
		}
	}
	sim.land()
	sim.release()
	for _, room := range sim.rooms {
		sim.check(room)
	}
}

func (sim *simulation) say(room rooms.Room, key int64) {
	sim.said++
	text := fmt.Sprint(sim.said)
	sim.turn(room, text, says("alice", text, key))
}

// move lets one of a few users come or go.
func (sim *simulation) move(room rooms.Room) {
	who := someone(fmt.Sprintf("user%d", sim.rand.IntN(4))).User
	sim.turn(room, "", func(ctx context.Context, st *step) error {
		now, _, err := st.member(ctx, who)
		if err != nil {
			return err
		}
		next := event.Join
		if now == event.Join {
			next = event.Leave
		}
		return st.setMember(ctx, who, memberChange{target: who, membership: next})
	})
}

func (sim *simulation) turn(room rooms.Room, text string, work task) {
	sim.t.Helper()
	fl := mustTurn(sim.t, sim.server, room, work)
	sim.flying = append(sim.flying, simFlight{fl, room.Num, text})
}

// land lets the committer do what has gathered, and holds it again.
func (sim *simulation) land() {
	sim.release()
	for _, fl := range sim.flying {
		<-fl.done
		if fl.err == nil && fl.text != "" {
			sim.acked[fl.room] = append(sim.acked[fl.room], fl.text)
		}
	}
	sim.flying = nil
	sim.release = stall(sim.t, sim.db)
}

func (sim *simulation) check(room rooms.Room) {
	t, ctx := sim.t, context.Background()
	if got := timeline(t, sim.server, room); !slices.Equal(got, sim.acked[room.Num]) {
		t.Errorf("%s says %v, was acknowledged %v", room.ID, got, sim.acked[room.Num])
	}
	events, err := rooms.Page(ctx, sim.db, room, rooms.PageQuery{Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	state := make(map[event.Key]int64)
	for _, ev := range events {
		sim.checkState(room, ev, state)
		if ev.IsState() {
			state[ev.StateID()] = ev.Num
		}
	}
	head, _, err := rooms.HeadOf(ctx, sim.db, room.Num)
	if err != nil {
		t.Fatal(err)
	}
	end := events[len(events)-1]
	if len(head.Extremities) != 1 || head.Extremities[0] != end.Num || head.Depth != end.Depth || head.Position != end.Position {
		t.Errorf("%s: the head is %+v, the last event %d at depth %d", room.ID, head, end.Num, end.Depth)
	}
	joined, err := rooms.MembersOf(ctx, sim.db, room.Num, event.Join)
	if err != nil || int64(len(joined)) != head.Joined {
		t.Errorf("%s: %d joined by the table, %d by the head, %v", room.ID, len(joined), head.Joined, err)
	}
}

// checkState holds the stored state before an event against the events before it.
func (sim *simulation) checkState(room rooms.Room, ev *rooms.Event, want map[event.Key]int64) {
	sim.t.Helper()
	all, err := testServer(sim.t, sim.db).StateAt(room, ev.StateBefore).All(context.Background())
	if err != nil {
		sim.t.Fatal(err)
	}
	if len(all) != len(want) {
		sim.t.Errorf("state before %s: got %d entries, want %d", ev.ID, len(all), len(want))
	}
	for _, each := range all {
		if want[each.StateID()] != each.Num {
			sim.t.Errorf("state before %s: got %d at %v, want %d", ev.ID, each.Num, each.StateID(), want[each.StateID()])
		}
	}
}
