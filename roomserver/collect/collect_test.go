package collect

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

var ctx = context.Background()

// A world is a room whose rows are written by hand.
type world struct {
	t         testing.TB
	db        *storage.DB
	room      rooms.Room
	trees     *statetree.Store
	now       time.Time
	collector *Collector
	position  int64 // of the last row that has one
	logged    []string
}

func newWorld(t testing.TB, db *storage.DB) *world {
	v, _ := event.VersionOf("11")
	num := db.NextNumber()
	w := &world{
		t: t, db: db, now: time.UnixMilli(1_800_000_000_000),
		room: rooms.Room{Num: num, ID: matrix.RoomID(fmt.Sprintf("!%d:example.org", num)), Version: v},
	}
	hasher := statetree.NewHasher(db.Secret())
	w.trees = statetree.New(statetree.Settings{
		Hasher: hasher, Loader: w, NextID: func() statetree.NodeID { return statetree.NodeID(db.NextNumber()) }, CacheBytes: 1 << 24,
	})
	now, log := func() time.Time { return w.now }, slog.New(slog.NewTextHandler(w, nil))
	key, err := signing.Generate(crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	owners := owner.New(owner.Settings{DB: db, ServerName: "example.org", Key: key, Now: now, Log: log})
	w.collector = New(Settings{DB: db, Owners: owners, Now: now, Log: log})
	w.commit(rooms.Append{Room: w.room, NewRoom: true})
	return w
}

func (w *world) Nodes(ctx context.Context, ids []statetree.NodeID, found func(statetree.NodeID, []byte) error) error {
	return rooms.StateNodes(ctx, w.db, ids, found)
}

// Write takes what is logged.
func (w *world) Write(line []byte) (int, error) {
	w.logged = append(w.logged, string(line))
	return len(line), nil
}

func (w *world) commit(write storage.Write) {
	w.t.Helper()
	if _, err := w.db.Commit(ctx, write); err != nil {
		w.t.Fatal(err)
	}
}

// exec is a statement as a write.
type exec struct {
	sql  string
	args []any
}

func (e exec) Rows(it *storage.Item) { it.Exec(e.sql, e.args...) }

// grow stores the tree that a base becomes with some changes.
func (w *world) grow(base statetree.Tree, changes ...statetree.Change) statetree.Tree {
	w.t.Helper()
	tree, nodes, err := w.trees.Set(ctx, base, changes)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(nodes) > 0 {
		w.commit(rooms.Append{Room: w.room, Generation: w.db.NextNumber(), Nodes: nodes})
		w.trees.Stored(nodes)
	}
	return statetree.At(tree.Root())
}

// member is the key of a member.
func (w *world) member(i int) statetree.Key {
	return w.trees.Hasher().Key(event.Key{Type: event.TypeMember, StateKey: fmt.Sprint(i)})
}

// naming are all rows that name a root.
var naming = []string{
	`INSERT INTO events (event_num, room_num, event_id, kind, anchor, sub, type, sender, json, state_before) VALUES (NUM, ROOM, 'NUM', 1, POSITION, 0, 't', 's', '{}', ROOT)`,
	`INSERT INTO events (event_num, room_num, event_id, kind, anchor, sub, type, sender, json, state_before, state_with) VALUES (NUM, ROOM, 'NUM', 1, POSITION, 0, 't', 's', '{}', 0, ROOT)`,
	`INSERT INTO events (event_num, room_num, event_id, kind, sub, type, sender, json, state_before) VALUES (NUM, ROOM, 'NUM', 1, 0, 't', 's', '{}', ROOT)`,
	`INSERT INTO room_states (room_num, position, root) VALUES (ROOM, POSITION, ROOT)`,
	`INSERT INTO room_heads (room_num, position, root, depth, extremities, joined, invited) VALUES (ROOM, POSITION, ROOT, 0, '[]', 0, 0)`,
	`INSERT INTO partial_joins (hole, room_num, join_num, servers, root, joined, invited, until) VALUES (NUM, ROOM, 1, '[]', ROOT, 0, 0, POSITION)`,
}

// name has a row name a root.
func (w *world) name(tree statetree.Tree, how int) {
	w.t.Helper()
	w.position++
	values := strings.NewReplacer("NUM", fmt.Sprint(w.db.NextNumber()), "ROOM", fmt.Sprint(w.room.Num),
		"POSITION", fmt.Sprint(w.position), "ROOT", fmt.Sprint(tree.Root()))
	w.commit(exec{values.Replace(naming[how]), nil})
}

// stored are the numbers of all nodes of the room.
func (w *world) stored() map[statetree.NodeID]bool {
	w.t.Helper()
	ids, err := rooms.NodeNumbersIn(ctx, w.db, w.room.Num, rooms.Numbers{UpTo: w.db.NextNumber()})
	if err != nil {
		w.t.Fatal(err)
	}
	all := make(map[statetree.NodeID]bool, len(ids))
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// below are the nodes of some trees.
func (w *world) below(trees ...statetree.Tree) map[statetree.NodeID]bool {
	w.t.Helper()
	all := make(map[statetree.NodeID]bool)
	var todo []statetree.NodeID
	for _, tree := range trees {
		if tree.Root() != 0 {
			todo = append(todo, tree.Root())
		}
	}
	for len(todo) > 0 {
		some := todo[:min(len(todo), 500)]
		todo = todo[len(some):]
		err := rooms.StateNodes(ctx, w.db, some, func(id statetree.NodeID, data []byte) error {
			all[id] = true
			children, err := w.trees.Hasher().Children(id, data)
			for _, child := range children {
				if !all[child] {
					all[child] = true
					todo = append(todo, child)
				}
			}
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

func (w *world) look() {
	w.t.Helper()
	if err := w.collector.Look(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) doubt(first int64) {
	w.commit(rooms.Append{Room: w.room, Generation: w.db.NextNumber(), Doubt: &rooms.Doubt{RoomNum: w.room.Num, First: first}})
}

// doubts are how many doubts and notes there are of the room.
func (w *world) doubts() string {
	w.t.Helper()
	var counts []string
	for _, table := range []string{"state_doubts", "state_notes"} {
		n, _, err := storage.One[int64](ctx, w.db, `SELECT COUNT(*) FROM `+table+` WHERE room_num = $1`, w.room.Num)
		if err != nil {
			w.t.Fatal(err)
		}
		counts = append(counts, fmt.Sprint(n, " ", table))
	}
	return strings.Join(counts, ", ")
}

// forest grows trees from each other at random, each named somehow or not at all.
func (w *world) forest(r *rand.Rand, n int) (trees []statetree.Tree, named map[int]bool) {
	trees, named = []statetree.Tree{{}}, map[int]bool{}
	for range n {
		var changes []statetree.Change
		for range 1 + r.Intn(60) {
			key := w.member(r.Intn(200))
			changes = append(changes, statetree.Change{Key: key, Value: statetree.Value(1 + r.Intn(5))})
		}
		trees = append(trees, w.grow(trees[r.Intn(len(trees))], changes...))
		if how := r.Intn(2 * len(naming)); how < len(naming) && how != 4 {
			w.name(trees[len(trees)-1], how)
			named[len(trees)-1] = true
		}
	}
	return trees, named
}

// Of states that were made from each other at random, and named at random, just those nodes stay that a named one needs, and
// those that are not in doubt; however small the slices are.
func TestForests(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for seed := range int64(12) {
			r := rand.New(rand.NewSource(seed))
			w := newWorld(t, db)
			w.collector.limits = limits{nodes: 16 + r.Intn(30), seen: 1 + r.Intn(5), numbers: int64(3 + r.Intn(14)), writes: 1 + r.Intn(4)}
			trees, named := w.forest(r, 20)
			all := w.stored()
			var first int64
			if r.Intn(2) == 0 {
				first = int64(slices.Sorted(maps.Keys(all))[len(all)/3])
			}
			w.doubt(first)
			w.look()
			if r.Intn(2) == 0 { // one that was not needed is needed now
				again := 1 + r.Intn(len(trees)-1)
				w.name(trees[again], r.Intn(len(naming)))
				named[again] = true
			}
			w.now = w.now.Add(Wait)
			w.look()
			var needed []statetree.Tree
			for i := range named {
				needed = append(needed, trees[i])
			}
			want := w.below(needed...)
			for id := range all {
				if int64(id) < first {
					want[id] = true
				}
			}
			if got := w.stored(); !maps.Equal(got, want) || len(want) == 0 {
				t.Fatalf("seed %d: %d nodes are left of %d, want %d; %s", seed, len(got), len(all), len(want), w.logged)
			}
			if got := w.doubts(); got != "0 state_doubts, 0 state_notes" {
				t.Errorf("seed %d: %s are left", seed, got)
			}
		}
	})
}

// Each way to name a root keeps what is below it, though the first look has noted it.
func TestNoteIsTakenBack(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for how, sql := range naming {
			w := newWorld(t, db)
			r := rand.New(rand.NewSource(int64(how)))
			trees, named := w.forest(r, 6)
			for i := range named {
				w.grow(trees[i], statetree.Change{Key: 5, Value: statetree.Value(i + 10)})
			}
			last := w.grow(trees[len(trees)-1], statetree.Change{Key: 3, Value: 99})
			want := w.below(last)
			w.doubt(0)
			w.look()
			w.name(last, how)
			w.now = w.now.Add(Wait)
			w.look()
			for id := range want {
				if !w.stored()[id] {
					t.Errorf("%s: node %d was deleted", sql, id)
				}
			}
		}
	})
}

// A look that cannot read what it has to deletes nothing, and the next goes on.
func TestLookFails(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		var changes []statetree.Change
		for i := range 100 {
			changes = append(changes, statetree.Change{Key: w.member(i), Value: 1})
		}
		kept := w.grow(statetree.Tree{}, changes...)
		w.name(kept, 3)
		w.grow(kept, statetree.Change{Key: w.member(1), Value: 2})
		all := w.stored()
		w.doubt(0)
		fails := func(when, doubts string) {
			t.Helper()
			w.look() // which logs it
			if got := w.stored(); !maps.Equal(got, all) || w.doubts() != doubts {
				t.Fatalf("%s: %d nodes are left of %d, and %s, want %s", when, len(got), len(all), w.doubts(), doubts)
			}
		}
		w.name(statetree.At(1<<40), 3)
		fails("a state cannot be read", "1 state_doubts, 0 state_notes")
		w.commit(exec{`DELETE FROM room_states WHERE root = $1`, []any{int64(1 << 40)}})
		w.look()
		noted := w.doubts()
		w.now = w.now.Add(Wait)
		w.commit(exec{`UPDATE state_nodes SET data = $1 WHERE node_num = $2`, []any{[]byte("broken"), int64(kept.Root())}})
		fails("a node is broken", noted)
		if noted == "1 state_doubts, 0 state_notes" {
			t.Error("nothing was noted")
		}
	})
}

// Whoever stops between two deletions leaves no node that names one that is gone: a row may come to name it.
func TestStopsBetweenDeletions(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		w.collector.writes = 1
		w.forest(rand.New(rand.NewSource(1)), 10)
		w.doubt(0)
		w.look()
		w.now = w.now.Add(Wait)
		for stops := 1; w.doubts() != "0 state_doubts, 0 state_notes"; stops++ {
			ctx, stop := context.WithCancel(ctx)
			times := 0
			w.collector.Now = func() time.Time {
				if times++; times > 4*stops {
					stop()
				}
				return w.now
			}
			_ = w.collector.Look(ctx) // stopped, but for the last time
			stop()
			w.commit(rooms.EndDoubts{RoomNum: -1}) // behind a deletion that nobody waited for
			var all []statetree.Tree
			for id := range w.stored() {
				all = append(all, statetree.At(id))
			}
			if below, stored := w.below(all...), w.stored(); !maps.Equal(below, stored) {
				t.Fatalf("after %d stops: %d nodes are stored, which name others that are not", stops, len(stored))
			}
			if stops > 1000 {
				t.Fatal("it comes to no end")
			}
		}
	})
}

// A room that becomes partial while another is looked at is not looked at after it.
func TestBecomesPartialMeanwhile(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		one, two := newWorld(t, db), newWorld(t, db)
		for _, w := range []*world{one, two} {
			w.grow(statetree.Tree{}, statetree.Change{Key: 5, Value: 1})
			w.doubt(0)
		}
		hole := statetree.Hole(db.NextNumber())
		var once sync.Once
		one.collector.Now = func() time.Time {
			once.Do(func() {
				two.commit(rooms.Append{Room: two.room, Generation: db.NextNumber(), Partial: &rooms.PartialJoin{RoomNum: two.room.Num, Hole: hole}})
			})
			return one.now
		}
		one.look()
		if got, want := one.doubts()+"; "+two.doubts(), "1 state_doubts, 1 state_notes; 1 state_doubts, 0 state_notes"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A room that is gone does not keep the others from their look.
func TestRoomIsGone(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := newWorld(t, db)
		w.commit(rooms.Append{Room: rooms.Room{Num: 1, Version: w.room.Version}, Generation: 1, Doubt: &rooms.Doubt{RoomNum: 1}})
		w.grow(statetree.Tree{}, statetree.Change{Key: 5, Value: 1})
		w.doubt(0)
		w.look()
		w.now = w.now.Add(Wait)
		w.look()
		if got := w.stored(); len(got) != 0 {
			t.Errorf("%d nodes are left", len(got))
		}
	})
}
