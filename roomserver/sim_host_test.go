package roomserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A simHost is one server of a simulation, over all its crashes.
type simHost struct {
	sim   *simulation
	name  matrix.ServerName
	key   signing.Key
	liar  bool // its rooms are as right as those of others, what it tells is not
	disks int
	disk  string   // where its database is
	life  *simLife // nil while it is down
	nowMS int64

	// What its users and its other parts know, which a crash does not take.
	acked    []simAck
	said     []simSaid
	returned map[matrix.RoomID]bool         // rooms that it has left and come into again
	taken    bool                           // takenKey was sent with
	doomed   []string                       // messages that were sent with it again, in vain
	recanted map[matrix.EventID]bool        // events that it has taken back when it knew all members
	inbox    []simArrived                   // staged, not yet received
	later    []simLater                     // waiting for their turn
	seen     map[matrix.EventID]simSeen     // how events were stored when last looked at
	out      map[*simHost]*simQueue         // to others
	sentUpTo storage.Position               // of its log, of which all is delivered or in out
	saved    storage.Position               // what of that survives a crash
	received int                            // events
	requests int                            // made while receiving
	roots    map[string][]matrix.ServerName // servers in a state
}

// A simAck is an event that its sender was told of.
type simAck struct {
	room matrix.RoomID
	id   matrix.EventID
}

// A simLife is a host from its start to its crash.
type simLife struct {
	host   *simHost
	db     *storage.DB
	server *Server
	ended  chan error
	ctx    context.Context
	cancel context.CancelFunc
	over   chan struct{}
	dead   bool

	// The committer always stands at the first of the stalls; the others are queued, with what is to be
	// committed between them.
	stalls []*simStall
	torn   int64 // length of the write-ahead log before a group that nobody has seen anything of; 0: none

	begun    int        // operations
	open     int        // operations that have not ended
	asking   int        // of these, those that wait for another host
	ends     sync.Mutex // repeats of one transaction end together
	finished []*simOp
	fetching map[matrix.RoomID]bool // somebody fetches for the room
	members  map[int64]bool         // by room number: somebody fetches its members
	tries    map[int64]int          // how often somebody has
	sparing  bool                   // some room may be partial
	group    map[matrix.RoomID]int  // operations that are under way in the room
}

// A simStall is a place for the committer to stop at.
type simStall struct {
	gate      chan struct{} // closed when it may go on
	behind    bool          // something to commit may be queued just before it
	committed bool
}

// A simOp is something that a host does.
type simOp struct {
	number int
	then   func() // when it has ended, unless the host crashed before
}

// simNothing is a write that holds the committer up when it is committed.
type simNothing struct{}

func (simNothing) Rows(*storage.Item) {}

func (h *simHost) String() string { return string(h.name) }

func (h *simHost) now() time.Time {
	h.nowMS++
	return time.UnixMilli(h.nowMS)
}

// start brings a host up with what is on its disk.
func (h *simHost) start() {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := storage.Open(context.Background(), storage.Settings{URL: "sqlite", DataDir: h.disk, Log: log, Rand: zeros{}})
	if err != nil {
		h.sim.failf("%s does not start: %v", h, err)
		return
	}
	l := &simLife{
		host: h, db: db, ended: make(chan error, 1), over: make(chan struct{}),
		fetching: make(map[matrix.RoomID]bool), group: make(map[matrix.RoomID]int),
		members: make(map[int64]bool), tries: make(map[int64]int), sparing: h.sim.sparing != nil,
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	random := &simRandom{life: l, rand: rand.NewChaCha8([32]byte{byte(h.disks), h.name[0], h.name[1], byte(h.sim.seed), byte(h.sim.seed >> 8), byte(h.sim.seed >> 16)})}
	l.server = New(Settings{
		DB: db, ServerName: h.name, Key: h.key, Profiles: nobody{}, Remote: simRemote{l}, DefaultVersion: "12",
		Now: l.now, Rand: random, Log: log,
	})
	l.server.MemberChunk, l.server.SmallRoom = 2, 1
	h.life = l
	go func() { l.ended <- db.Run(context.Background()) }()
	l.stall(false)
	l.stall(false)
	synctest.Wait()
	h.sentUpTo = h.saved
}

// now is the clock of the host, which stands still for who has not noticed the crash.
func (l *simLife) now() time.Time {
	if l.dead {
		return time.UnixMilli(0)
	}
	return l.host.now()
}

// simRandom is the randomness of one life.
type simRandom struct {
	life *simLife
	rand *rand.ChaCha8
}

func (r *simRandom) Read(p []byte) (int, error) {
	if r.life.dead {
		clear(p)
		return len(p), nil
	}
	return r.rand.Read(p)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// stall queues a place for the committer to stop at.
func (l *simLife) stall(behind bool) {
	st := &simStall{gate: make(chan struct{}), behind: behind}
	l.stalls = append(l.stalls, st)
	l.db.Submit(simNothing{}, func(storage.Position, error) {
		select {
		case <-st.gate:
		case <-l.over:
		}
	})
}

// busy says whether anything waits for the committer.
func (l *simLife) busy() bool { return l != nil && l.open > l.asking+l.waiters() }

// answering says whether the committer has committed a group, and not answered all of it.
func (l *simLife) answering() bool { return l.stalls[1].committed }

// pass lets the committer go on to its next stall: it commits all that is queued, or answers the next of those
// that are committed.
func (l *simLife) pass() {
	torn, next := int64(0), l.stalls[1]
	if !next.committed {
		torn = l.walSize()
		for _, st := range l.stalls {
			st.committed = true
		}
	}
	close(l.stalls[0].gate)
	l.stalls = l.stalls[1:]
	l.settle(next.behind)
	l.torn = torn
}

// settle waits until nothing moves, and then looks what has ended. If something was moved that may have queued
// something to commit, that is followed by a stall.
func (l *simLife) settle(moved bool) {
	synctest.Wait()
	if l.dead {
		return
	}
	if !l.busy() && len(l.stalls) > 2 { // nothing is between them
		for _, st := range l.stalls[1 : len(l.stalls)-1] {
			close(st.gate)
		}
		l.stalls = []*simStall{l.stalls[0], l.stalls[len(l.stalls)-1]}
	}
	if l.busy() && moved || len(l.stalls) < 2 {
		l.stall(moved)
	}
	slices.SortFunc(l.finished, func(a, b *simOp) int { return cmp.Compare(a.number, b.number) })
	for len(l.finished) > 0 && !l.dead {
		op := l.finished[0]
		l.finished = l.finished[1:]
		l.open--
		op.then()
	}
}

// do starts an operation, and returns when it has come to a place where it waits.
func (l *simLife) do(work func(context.Context), then func()) {
	l.open++
	l.begun++
	op := &simOp{number: l.begun, then: then}
	go func() {
		work(l.ctx)
		l.ends.Lock()
		defer l.ends.Unlock()
		l.finished = append(l.finished, op)
	}()
	l.settle(true)
}

// flush commits and answers all that waits.
func (l *simLife) flush() {
	for i := 0; l.busy() && !l.dead; i++ {
		if i > 10_000 {
			l.host.sim.failf("%s: something waits for ever", l.host)
			return
		}
		l.pass()
	}
}

func (l *simLife) walSize() int64 {
	info, err := os.Stat(filepath.Join(l.host.disk, "myelin.db-wal"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// crash ends a life at once. What is on the disk then is all that is left: all groups that were committed, and of
// one that is being committed some part of what it writes.
func (h *simHost) crash() {
	l := h.life
	if l.torn == 0 {
		h.look()
	}
	torn := int64(-1)
	if size := l.walSize(); l.torn > 0 && l.torn < size && h.sim.chance(50) {
		torn = l.torn + h.sim.rand.Int64N(size-l.torn)
	}
	from := h.disk
	h.newDisk()
	for _, name := range []string{"myelin.db", "myelin.db-wal"} {
		image, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if name == "myelin.db-wal" && torn >= 0 {
			image = image[:torn]
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(h.disk, name), image, 0o600)
		}
		if err != nil {
			h.sim.failf("crash %s: %v", h, err)
		}
	}
	h.sim.tracef("%s crashes, torn %v", h, torn >= 0)
	h.life = nil
	h.out = make(map[*simHost]*simQueue)
	h.later = nil
	l.end()
	_ = os.RemoveAll(from)
	h.sim.forget(l)
}

// end stops all that a life has started.
func (l *simLife) end() {
	l.dead = true
	close(l.over)
	l.cancel()
	_ = l.db.Close()
	<-l.ended
	synctest.Wait()
}

func (h *simHost) newDisk() {
	h.disks++
	h.disk = filepath.Join(h.sim.dir, fmt.Sprintf("%s.%d", h.name, h.disks))
	if err := os.Mkdir(h.disk, 0o700); err != nil {
		h.sim.failf("%v", err)
	}
}

// room returns a room that the host knows.
func (h *simHost) room(id matrix.RoomID) (rooms.Room, bool) {
	if h.life == nil {
		return rooms.Room{}, false
	}
	h.life.torn = 0 // somebody looks
	room, err := h.life.server.Room(context.Background(), id)
	return room, err == nil
}

// state is the current state of a room that the host is or was in.
func (h *simHost) state(id matrix.RoomID) (State, bool) {
	if h.life == nil {
		return State{}, false
	}
	state, err := h.life.server.Current(context.Background(), id)
	return state, err == nil
}

// member is the membership of a user as the host has it.
func (h *simHost) member(id matrix.RoomID, user matrix.UserID) event.Membership {
	state, ok := h.state(id)
	if !ok {
		return ""
	}
	found, err := state.Known(context.Background(), event.MemberKey(user))
	h.sim.must(err)
	return membershipIn(found[0])
}

// membershipIn is the membership that an event gives; empty for none.
func membershipIn(ev *rooms.Event) event.Membership {
	if ev == nil {
		return ""
	}
	return ev.Membership()
}

// joined returns the host's own users in a room.
func (h *simHost) joined(id matrix.RoomID) (users []matrix.UserID) {
	if h.hasGivenUp(id) {
		return nil
	}
	for _, user := range h.users() {
		if h.member(id, user) == event.Join {
			users = append(users, user)
		}
	}
	return users
}

// users are the users of a host.
func (h *simHost) users() []matrix.UserID {
	users := make([]matrix.UserID, simUsers)
	for i := range users {
		users[i] = matrix.UserID(fmt.Sprintf("@u%d:%s", i, h.name))
	}
	return users
}

// stored returns an event of a room as the host has it, nil if it has not.
func (h *simHost) stored(room rooms.Room, id matrix.EventID) *rooms.Event {
	h.life.torn = 0
	ev, _, err := rooms.EventByID(context.Background(), h.life.db, room, id)
	h.sim.must(err)
	return ev
}

// all returns every event of a room.
func (h *simHost) all(room rooms.Room) []*rooms.Event {
	ctx := context.Background()
	nums, err := storage.Collect[int64](ctx, h.life.db, `SELECT event_num FROM events WHERE room_num = $1 ORDER BY event_num`, room.Num)
	h.sim.must(err)
	events, err := rooms.EventsByNumber(ctx, h.life.db, room, nums)
	h.sim.must(err)
	return events
}

// nobody has a profile.
type nobody struct{}

func (nobody) Profile(context.Context, matrix.UserID) (map[string]json.RawMessage, error) {
	return nil, nil
}
