package roomserver

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
)

// What a simulation has.
const (
	simActions = 60 // of users and liars
	simUsers   = 2  // of each host
	simStart   = 1_800_000_000_000
)

type simOptions struct {
	actions int
	graph   bool // print all events in the end
}

// A simulation is hosts, the network between them, and what happens, as one seed has it. Everything runs in one
// synctest bubble, in which the simulation lets one goroutine run at a time, until it waits: for the committer,
// which is held up between any two writes, or for another host, whose answer comes when the simulation has it
// come. So nothing depends on how goroutines are scheduled.
type simulation struct {
	seed    uint64
	options simOptions
	rand    *rand.Rand
	dir     string
	hosts   []*simHost
	rooms   []matrix.RoomID
	version map[matrix.RoomID]*event.Version
	net     simNet
	closing bool              // the network is whole, and nobody lies any more
	terse   bool              // who is asked for events between others has none
	naive   bool              // some lie so that nobody can tell
	sparing *rand.Rand        // by which hosts do without members when they join; nil if they want all
	fooled  map[simPlace]bool // who was told such a lie, perhaps by way of others: they need not agree with anybody in the end
	left    int               // actions
	said    int

	collects simCollects

	parsed  map[string]*event.Event
	crafted map[matrix.EventID]*event.Event // what liars have made
	names   map[matrix.EventID]string

	trace    []string
	hash     [sha256.Size]byte
	failures []string
}

// A simPlace is a room as a host has it.
type simPlace struct {
	room matrix.RoomID
	host *simHost
}

// A simResult is what came of a run.
type simResult struct {
	seed     uint64
	options  simOptions
	trace    []string
	hash     [sha256.Size]byte
	failures []string
}

// simulate runs a seed.
func simulate(t *testing.T, seed uint64, options simOptions) simResult {
	t.Helper()
	image := simImage(t)
	sim := &simulation{
		seed: seed, options: options, rand: rand.New(rand.NewPCG(seed, 1)), dir: simDir(t), left: options.actions,
		version: make(map[matrix.RoomID]*event.Version), fooled: make(map[simPlace]bool),
		parsed: make(map[string]*event.Event), crafted: make(map[matrix.EventID]*event.Event), names: make(map[matrix.EventID]string),
	}
	defer os.RemoveAll(sim.dir)
	synctest.Test(t, func(t *testing.T) {
		defer sim.end()
		defer sim.recover()
		sim.spare()
		sim.settle(image)
		sim.run()
		sim.close()
		sim.check()
		if options.graph {
			sim.traceGraph()
		}
	})
	return simResult{seed: seed, options: options, trace: sim.trace, hash: sim.hash, failures: sim.failures}
}

// simStop is what a simulation panics with that cannot go on.
type simStop struct{}

func (sim *simulation) recover() {
	if r := recover(); r != nil {
		if _, ok := r.(simStop); !ok {
			panic(r)
		}
	}
}

// failf notes a fault.
func (sim *simulation) failf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	sim.tracef("FAILED: %s", text)
	if sim.failures = append(sim.failures, text); len(sim.failures) > 20 {
		panic(simStop{})
	}
}

// must stops the simulation at what must not go wrong.
func (sim *simulation) must(err error) {
	if err != nil {
		sim.failf("%v", err)
		panic(simStop{})
	}
}

func (sim *simulation) tracef(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	sim.trace = append(sim.trace, line)
	sim.hash = sha256.Sum256(append(sim.hash[:], line...))
}

// chance is true so many times in a hundred.
func (sim *simulation) chance(percent int) bool { return percent > 0 && sim.rand.IntN(100) < percent }

// pick returns one of some things.
func pick[T any](sim *simulation, from []T) T { return from[sim.rand.IntN(len(from))] }

func (sim *simulation) hostNamed(name matrix.ServerName) *simHost {
	for _, h := range sim.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// short is a name for an event that is the same in each run, and can be read.
func (sim *simulation) short(id matrix.EventID) string {
	if sim.names[id] == "" {
		sim.names[id] = fmt.Sprintf("e%d", len(sim.names))
	}
	return sim.names[id]
}

// simImage is a new database. Each host begins with a copy of it.
var simImage = func() func(t *testing.T) []byte {
	var once sync.Once
	var image []byte
	return func(t *testing.T) []byte {
		once.Do(func() {
			dir := t.TempDir()
			db, err := storage.Open(t.Context(), storage.Settings{URL: "sqlite", DataDir: dir, Rand: zeros{}})
			if err == nil {
				err = db.Close()
			}
			if err == nil {
				image, err = os.ReadFile(filepath.Join(dir, "myelin.db"))
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		return image
	}
}()

// simDir is where the databases are: in memory, if the system has a place for files there.
func simDir(t *testing.T) string {
	for _, parent := range []string{"/dev/shm", ""} {
		if dir, err := os.MkdirTemp(parent, "sim"); err == nil {
			return dir
		}
	}
	t.Fatal("no directory for databases")
	return ""
}

// settle starts the hosts, and makes rooms.
func (sim *simulation) settle(image []byte) {
	hosts := 3 + sim.rand.IntN(4)
	if sim.chance(10) {
		hosts = 8
	}
	liars := sim.rand.IntN(2 + hosts/5)
	sim.naive = liars > 0 && sim.chance(15)
	sim.net.lossPercent = pick(sim, []int{0, 5, 20})
	sim.terse = sim.chance(30)
	for i := range hosts {
		h := &simHost{
			sim: sim, name: matrix.ServerName(fmt.Sprintf("s%d.org", i)), liar: i >= hosts-liars,
			nowMS: simStart + sim.rand.Int64N(5000), returned: make(map[matrix.RoomID]bool), recanted: make(map[matrix.EventID]bool),
			seen: make(map[matrix.EventID]simSeen), out: make(map[*simHost]*simQueue), roots: make(map[string][]matrix.ServerName),
		}
		key, err := signing.NewKey("ed25519:a", slices.Repeat([]byte{byte(i)}, 32))
		sim.must(err)
		h.key = key
		h.newDisk()
		sim.must(os.WriteFile(filepath.Join(h.disk, "myelin.db"), image, 0o600))
		sim.hosts = append(sim.hosts, h)
		h.start()
	}
	sim.tracef("%d hosts, %d lie, loss %d%%, naive %v, sparing %v", hosts, liars, sim.net.lossPercent, sim.naive, sim.sparing != nil)
	for range 1 + sim.rand.IntN(2) {
		sim.makeRoom(sim.hosts[0])
	}
	for _, room := range sim.rooms {
		for _, h := range sim.comers() {
			if sim.chance(75) {
				sim.join(h, room, h.users()[0])
				sim.settleDown()
				sim.comeAndGo(h, room)
			}
		}
	}
}

// settleDown lets happen what is under way, on a good network.
func (sim *simulation) settleDown() {
	loss := sim.net.lossPercent
	sim.net.lossPercent = 0
	sim.drain()
	sim.net.lossPercent = loss
}

// simVersions are the versions of rooms, those more often that are in use.
var simVersions = strings.Fields("12 12 12 12 11 11 11 10 10 10 9 8 7 6 5 4 3 2 1")

// run lets things happen until users have had enough.
func (sim *simulation) run() {
	for sim.left > 0 && len(sim.failures) == 0 {
		sim.happen()
	}
}

// happen does one thing out of all that could happen now.
func (sim *simulation) happen() {
	h := pick(sim, sim.hosts)
	h.nowMS += sim.rand.Int64N(20)
	sim.completeSome(h)
	sim.collectSome(h)
	switch n := sim.rand.IntN(1000); {
	case n < 120:
		sim.left--
		sim.act(h)
	case n < 400:
		if len(sim.net.calls) > 0 {
			sim.carry(pick(sim, sim.net.calls))
		}
	case n < 540:
		if len(sim.net.mail) > 0 {
			sim.deliver(pick(sim, sim.net.mail))
		}
	case n < 640:
		h.post()
	case n < 760:
		if room, ok := h.mayTake(); ok {
			h.take(room)
		}
	case n < 960:
		if h.life.busy() {
			sim.commit(h)
		}
	case n < 980:
		sim.takeUp(h)
	case n < 984:
		sim.part()
	case n < 988:
		sim.sweep(h)
	case n < 993:
		sim.startOrCrash(h)
	case n < 995:
		if len(sim.net.calls) > 0 {
			sim.giveUp(pick(sim, sim.net.calls))
		}
	default:
		sim.backfill(h)
	}
}

// commit lets the committer of a host go one step, or as far as it can.
func (sim *simulation) commit(h *simHost) {
	if sim.chance(60) {
		h.life.flush()
		return
	}
	h.life.pass()
}

func (sim *simulation) sweep(h *simHost) {
	if h.life != nil && !h.life.busy() {
		sim.tracef("%s unloads its rooms", h)
		h.nowMS += 2 * owner.IdleAfter.Milliseconds()
		h.life.server.owners.Sweep(h.now())
	}
}

func (sim *simulation) startOrCrash(h *simHost) {
	if h.life != nil {
		sim.crash(h)
		return
	}
	sim.tracef("%s starts", h)
	for i := range h.inbox {
		h.inbox[i].taken = false
	}
	h.start()
	h.look()
	sim.repeatSaid(h)
}

// crash ends a host, mostly while it is at work, and often in the middle of a commit.
func (sim *simulation) crash(h *simHost) {
	if room, ok := h.mayTake(); ok && sim.chance(50) {
		h.take(room)
	} else if sim.chance(50) {
		sim.act(h)
	}
	for h.life.busy() && h.life.answering() && sim.chance(95) {
		h.life.pass()
	}
	if h.life.busy() && !h.life.answering() && sim.chance(80) {
		h.life.pass()
	}
	h.crash()
}

// drain lets happen all that is under way, and what follows from it, with nothing lost.
func (sim *simulation) drain() {
	defer sim.mustRest()
	for i := 0; len(sim.failures) == 0; i++ {
		if i > 10_000 {
			sim.failf("there is no end to what happens")
			return
		}
		moved := false
		for _, h := range sim.hosts {
			moved = sim.drainHost(h) || moved
		}
		for {
			i := slices.IndexFunc(sim.net.calls, func(c *simCall) bool { return !c.waiting() })
			if i < 0 {
				break
			}
			sim.carry(sim.net.calls[i])
			moved = true
		}
		if len(sim.net.mail) > 0 {
			sim.deliver(sim.net.mail[0])
			moved = true
		}
		if !moved && !(sim.closing && sim.completeAny()) {
			return
		}
	}
}

// mustRest: when all has happened that could, nobody waits for anything.
func (sim *simulation) mustRest() {
	for _, h := range sim.hosts {
		if sim.closing && h.life != nil && h.life.waiters() > 0 && len(sim.failures) == 0 {
			sim.failf("on %s %d wait for members for ever", h, h.life.waiters())
		}
	}
	if n := len(sim.net.calls); n > 0 && len(sim.failures) == 0 {
		sim.failf("%d requests wait for ever, the first is %s of %s to %s", n, sim.net.calls[0].what, sim.net.calls[0].from.host, sim.net.calls[0].to)
	}
}

// waiting says whether a request waits for an operation of its host.
func (c *simCall) waiting() bool { return c.serving && !c.served }

func (sim *simulation) drainHost(h *simHost) (moved bool) {
	if h.life.busy() {
		h.life.flush()
		moved = true
	}
	if room, ok := h.mayTake(); ok {
		h.take(room)
		moved = true
	}
	return h.post() || sim.takeUp(h) || moved
}

// end stops all hosts.
func (sim *simulation) end() {
	for _, h := range sim.hosts {
		if h.life != nil {
			h.life.end()
		}
	}
	if sim.sparing != nil {
		time.Sleep(time.Hour) // messages that have waited for members, on hosts that have crashed, do no longer
	}
}
