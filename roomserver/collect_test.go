package roomserver_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/collect"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// look has the server look once at what may be collected.
func (w *wire) look() {
	w.t.Helper()
	if err := w.s.Collect(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// collect has it look, and again when it is time.
func (w *wire) collect() {
	w.t.Helper()
	w.look()
	testClock.advance(collect.Wait)
	w.look()
}

// doubt makes all nodes of the room from a number on doubtful.
func (w *wire) doubt(first int64) {
	w.t.Helper()
	w.commit(rooms.Append{Room: w.room, Generation: w.db.NextNumber(), Doubt: &rooms.Doubt{RoomNum: w.room.Num, First: first}})
}

func (w *wire) commit(write storage.Write) {
	w.t.Helper()
	if _, err := w.db.Commit(context.Background(), write); err != nil {
		w.t.Fatal(err)
	}
}

// An execution is a statement as a write.
type execution struct {
	sql  string
	args []any
}

func (e execution) Rows(it *storage.Item) { it.Exec(e.sql, e.args...) }

// garbage are the nodes of the room that are not needed.
func (w *wire) garbage() []statetree.NodeID {
	w.t.Helper()
	needed := w.neededNodes()
	return slices.DeleteFunc(w.storedNodes(), func(id statetree.NodeID) bool { return slices.Contains(needed, id) })
}

// notes are the nodes of the room that are noted.
func (w *wire) notes() []statetree.NodeID {
	w.t.Helper()
	ids, err := rooms.Notes(context.Background(), w.db, w.room.Num, 1<<62, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// states are the contents of all states that the database names, read afresh.
func (w *wire) states() map[statetree.NodeID]string {
	w.t.Helper()
	ctx := context.Background()
	trees := statetree.New(statetree.Settings{
		Hasher: statetree.NewHasher(w.db.Secret()), Loader: nodesSeen{w, make(map[statetree.NodeID]bool)},
		Filled: func(ctx context.Context, hole statetree.Hole) (statetree.NodeID, bool, error) {
			return rooms.MembersOfHole(ctx, w.db, hole)
		},
	})
	all := make(map[statetree.NodeID]string)
	for _, root := range w.rootsNamed() {
		var entries []string
		err := trees.WalkKnown(ctx, statetree.At(root), statetree.All, func(k statetree.Key, v statetree.Value) error {
			entries = append(entries, fmt.Sprint(k, "=", v))
			return nil
		})
		if err != nil {
			w.t.Fatalf("the state %d cannot be read: %v", root, err)
		}
		slices.Sort(entries)
		all[root] = strings.Join(entries, " ")
	}
	return all
}

// livePartly lets the room live for a while of which the members are unknown, so that states are found anew when they come.
func (w *wire) livePartly(rounds int) {
	w.t.Helper()
	w.enterPartly()
	for i := range rounds {
		left := w.topic(bobThere, fmt.Sprint("left ", i), w.base)
		leaves := w.member(fmt.Sprintf("member%d:elsewhere.org", i), fmt.Sprintf("member%d:elsewhere.org", i), "leave", left)
		right := w.say(bobThere, "right", w.base)
		name := w.set(bobThere, "m.room.name", fmt.Sprintf(`{"name":"%d"}`, i), right)
		merged := w.say(bobThere, "both", leaves, name)
		come := w.join(fmt.Sprintf("new%d:elsewhere.org", i), merged)
		w.must(roomserver.Accepted, left, leaves, right, name, merged, come)
		w.after[come.ID][event.Key{Type: "m.room.topic"}] = left
		w.base = come
	}
	w.complete()
}

// onLarge runs a test on a room whose members do not fit into one node.
func onLarge(t *testing.T, f func(t *testing.T, w *wire)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for _, version := range []matrix.RoomVersion{"1", "11", "12"} {
			t.Run("v"+string(version), func(t *testing.T) {
				w := found(t, db, version, 50)
				f(t, w)
				w.audit()
				w.restart()
				w.audit()
			})
		}
	})
}

// What only the states of a partial room needed is deleted, an hour after that was found out and not before. All states stay
// what they were.
func TestCollect(t *testing.T) {
	onLarge(t, func(t *testing.T, w *wire) {
		w.livePartly(3)
		stored, states, garbage := w.storedNodes(), w.states(), w.garbage()
		if len(garbage) < 5 {
			t.Fatalf("%d of %d nodes are not needed; the test wants more", len(garbage), len(stored))
		}
		w.look()
		if notes := w.notes(); !slices.Equal(notes, garbage) {
			t.Fatalf("noted %v, want %v", notes, garbage)
		}
		testClock.advance(collect.Wait - time.Minute)
		w.look()
		if got := w.storedNodes(); !slices.Equal(got, stored) {
			t.Fatalf("%d of %d nodes are left before it is time", len(got), len(stored))
		}
		if w.room.Version.ID != "11" {
			w.restart() // the notes survive it
		}
		testClock.advance(time.Minute)
		w.look()
		if left := w.garbage(); len(left) != 0 || len(w.notes()) != 0 {
			t.Errorf("%v are left, and the notes %v", left, w.notes())
		}
		if got := w.states(); !maps.Equal(got, states) {
			t.Error("the states are not what they were")
		}
		doubted, err := rooms.DoubtedRooms(t.Context(), w.db, 0, 100)
		if err != nil || slices.ContainsFunc(doubted, func(d rooms.Doubted) bool { return d.RoomNum == w.room.Num }) {
			t.Errorf("doubts are left: %v, %v", doubted, err)
		}
		if _, err := w.s.Send(t.Context(), as("alice"), send(w.room.ID, "on")); err != nil {
			t.Error(err)
		}
		w.tie(w.room.ID)
		w.must(roomserver.Accepted, w.topic(bobThere, "after", w.base))
	})
}

// While a room is partial nothing is looked at, and a join to which all members were told leaves no doubt.
func TestCollectLooksWhereThereIsDoubt(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		doubts := func() int {
			n, _, err := storage.One[int](t.Context(), db, `SELECT COUNT(*) FROM state_doubts`)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		whole := found(t, db, "11", 40)
		if err := whole.s.Adopt(t.Context(), whole.answer(whole.base)); err != nil || doubts() != 0 {
			t.Errorf("a join in one piece: got %v and %d doubts, want none", err, doubts())
		}
		w := found(t, db, "11", 3)
		w.enterPartly()
		w.collect()
		if doubts() == 0 || len(w.notes()) != 0 {
			t.Errorf("a partial room: got %d doubts and the notes %v, want a doubt and no note", doubts(), w.notes())
		}
		w.complete()
		w.collect()
		if doubts() != 0 || len(w.garbage()) != 0 {
			t.Errorf("the room is whole: got %d doubts, and %v are left", doubts(), w.garbage())
		}
	})
}

// A join that is refused after its state was stored leaves nothing behind, and does not keep the next from being stored.
func TestCollectGivenUpJoin(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 40)
		rules := w.set(bobThere, "m.room.join_rules", `{"join_rule":"invite"}`, w.base)
		if err := w.s.Adopt(t.Context(), w.answer(rules)); err == nil {
			t.Fatal("a join without an invite was allowed")
		}
		room, err := w.s.Room(t.Context(), w.room.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.room = room
		given := w.storedNodes()
		if len(given) == 0 {
			t.Fatal("the state was not stored")
		}
		w.look()
		if err := w.s.Adopt(t.Context(), w.answer(w.base)); err != nil {
			t.Fatal(err)
		}
		states := w.states()
		testClock.advance(collect.Wait)
		w.look()
		if left := w.garbage(); len(left) != 0 || len(states) == 0 || !maps.Equal(w.states(), states) {
			t.Errorf("%v are left of %v; %d states", left, given, len(states))
		}
	})
}

// A join of which the state is stored and not named yet is left alone, however long it takes.
func TestCollectDuringJoin(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 40)
		set := settings(t, db)
		set.Key, set.Remote = w.key, w.remote
		var stored int
		busy := false
		set.Now = func() time.Time {
			if busy || stored > 0 {
				return testClock.Now()
			}
			busy = true
			defer func() { busy = false }()
			nodes, _, err := storage.One[int](t.Context(), db, `SELECT COUNT(*) FROM state_nodes`)
			if err != nil {
				t.Error(err)
			}
			if stored = nodes; stored > 0 {
				w.collect()
			}
			return testClock.Now()
		}
		w.s = roomserver.New(set)
		if err := w.s.Adopt(t.Context(), w.answer(w.base)); err != nil {
			t.Fatal(err)
		}
		w.tie(w.room.ID)
		if left := len(w.storedNodes()); stored == 0 || left < stored || len(w.states()) == 0 || len(w.garbage()) != 0 {
			t.Errorf("%d nodes are left of %d", left, stored)
		}
	})
}

// Whatever row comes to name a noted node between the looks, the node stays, and all below it.
func TestCollectKeepsWhatIsNamed(t *testing.T) {
	rows := map[string]string{
		"event before":    `UPDATE events SET state_before = $1 WHERE event_num = (SELECT MIN(event_num) FROM events WHERE room_num = $2 AND state_key IS NULL)`,
		"event with":      `UPDATE events SET state_with = $1 WHERE event_num = (SELECT MIN(event_num) FROM events WHERE room_num = $2 AND state_key IS NULL)`,
		"outlier":         `UPDATE events SET state_before = $1, anchor = NULL WHERE event_num = (SELECT MIN(event_num) FROM events WHERE room_num = $2 AND state_key IS NULL)`,
		"move":            `INSERT INTO room_states (room_num, position, root) VALUES ($2, 0, $1)`,
		"head":            `UPDATE room_heads SET root = $1 WHERE room_num = $2`,
		"members":         `UPDATE partial_joins SET root = $1 WHERE room_num = $2`,
		"of another room": `INSERT INTO room_states (room_num, position, root) VALUES ($2 + 1, 0, $1)`,
	}
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		for name, sql := range rows {
			t.Run(name, func(t *testing.T) {
				w := found(t, db, "11", 50)
				w.livePartly(3)
				w.look()
				garbage := w.garbage()
				root := garbage[len(garbage)-1] // nothing names the last one
				w.commit(execution{sql, []any{int64(root), w.room.Num}})
				testClock.advance(collect.Wait)
				w.look()
				left := w.storedNodes()
				if !slices.Contains(left, root) || len(w.notes()) != 0 {
					t.Fatalf("the named node %d is gone, or notes are left: %v", root, w.notes())
				}
				if name != "of another room" {
					w.states() // which reads it
				}
				if kept := slices.DeleteFunc(garbage, func(id statetree.NodeID) bool { return !slices.Contains(left, id) }); len(kept) > 10 {
					t.Errorf("%d nodes were kept with it: %v", len(kept), kept)
				}
			})
		}
	})
}

// A first look that does not know all that names roots, or has missed nodes, costs no state.
func TestCollectWithWrongNotes(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 50)
		w.livePartly(3)
		states, garbage := w.states(), w.garbage()
		w.look()
		w.commit(rooms.NoteNodes{RoomNum: w.room.Num, Nodes: w.storedNodes()})
		testClock.advance(collect.Wait)
		w.look()
		if left := w.garbage(); len(left) != 0 || len(w.notes()) != 0 || len(garbage) == 0 || !maps.Equal(w.states(), states) {
			t.Errorf("all nodes were noted: %v are left, and the notes %v", left, w.notes())
		}
		// The nodes below a root only: that they are needed no row says.
		w.doubt(0)
		w.look()
		roots := w.rootsNamed()
		below := slices.DeleteFunc(w.storedNodes(), func(id statetree.NodeID) bool { return slices.Contains(roots, id) })
		w.doubt(0)
		w.commit(storage.All{rooms.NoteNodes{RoomNum: w.room.Num, Nodes: below}, rooms.EndNotes{RoomNum: w.room.Num, UpTo: w.db.NextNumber()}})
		w.look()
		if len(below) == 0 || len(w.notes()) != 0 || !maps.Equal(w.states(), states) {
			t.Errorf("%d nodes below roots were noted: the notes %v are left", len(below), w.notes())
		}
	})
}

// What the owner has in memory holds on to a noted node although no row names it.
func TestCollectKeepsWhatTheOwnerHas(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 50)
		w.livePartly(3)
		w.look()
		if _, err := w.s.Send(t.Context(), as("alice"), send(w.room.ID, "loads the room")); err != nil {
			t.Fatal(err)
		}
		head, _, err := rooms.HeadOf(t.Context(), w.db, w.room.Num)
		if err != nil {
			t.Fatal(err)
		}
		garbage := w.garbage()
		before := slices.DeleteFunc(w.storedNodes(), func(id statetree.NodeID) bool { return slices.Contains(garbage, id) })
		for _, sql := range []string{
			`UPDATE room_heads SET root = 0 WHERE room_num = $1 AND root = $2`,
			`DELETE FROM room_states WHERE room_num = $1 AND root = $2`,
			`UPDATE events SET state_with = NULL WHERE room_num = $1 AND state_with = $2`,
			`UPDATE events SET state_before = 0 WHERE room_num = $1 AND state_before = $2`,
		} {
			w.commit(execution{sql, []any{w.room.Num, int64(head.Root)}})
		}
		w.commit(rooms.NoteNodes{RoomNum: w.room.Num, Nodes: []statetree.NodeID{head.Root}})
		testClock.advance(collect.Wait)
		w.look()
		if got := w.storedNodes(); !slices.Equal(got, before) {
			t.Errorf("%d of %d nodes are left; the owner stands on %d", len(got), len(before), head.Root)
		}
	})
}

// A look that ends anywhere is gone on with by the next, and no state is lost.
func TestCollectStopsAnywhere(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 50)
		w.livePartly(3)
		states, garbage := w.states(), w.garbage()
		set := settings(t, db)
		set.Key, set.Remote = w.key, w.remote
		ends := 0
		for phase := range 2 {
			for after := 1; ; after++ {
				ctx, cancel := context.WithCancel(t.Context())
				looks := 0
				set.Now = func() time.Time {
					if looks++; looks > after {
						cancel()
					}
					return testClock.Now()
				}
				err := roomserver.New(set).Collect(ctx)
				cancel()
				if !maps.Equal(w.states(), states) {
					t.Fatalf("phase %d: a state was lost when the look ended after %d", phase, after)
				}
				if err == nil {
					break
				}
				ends++
			}
			testClock.advance(collect.Wait)
		}
		if left := w.garbage(); len(left) != 0 || len(garbage) == 0 || ends < 10 {
			t.Errorf("%v are left after %d looks that ended early", left, ends)
		}
	})
}

// The room goes on while it is looked at, and is looked at while it goes on.
func TestCollectMeanwhile(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		w := found(t, db, "11", 50)
		w.livePartly(3)
		ctx := t.Context()
		var topics []*event.Event
		for i := range 20 {
			topics = append(topics, w.topic(bobThere, fmt.Sprint(i), w.base))
		}
		var over atomic.Bool
		var work sync.WaitGroup
		work.Go(func() {
			for !over.Load() {
				if err := w.s.Collect(ctx); err != nil {
					t.Error(err)
				}
				testClock.advance(collect.Wait)
			}
		})
		var others sync.WaitGroup
		for i := range 3 {
			others.Go(func() {
				for range 20 {
					if _, err := w.s.Send(ctx, as("alice"), send(w.room.ID, fmt.Sprint(i))); err != nil {
						t.Error(err)
					}
					if now, err := w.s.Current(ctx, w.room.ID); err != nil {
						t.Error(err)
					} else if _, err := now.All(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
		others.Go(func() {
			for _, topic := range topics {
				for _, got := range w.s.Receive(ctx, elsewhere, w.room.ID, []*event.Event{topic}) {
					if got.Outcome != roomserver.Accepted && got.Outcome != roomserver.SoftFailed {
						t.Errorf("a topic: got %d, %v", got.Outcome, got.Err)
					}
				}
			}
		})
		others.Wait()
		over.Store(true)
		work.Wait()
		w.collect()
		if left := w.garbage(); len(left) != 0 {
			t.Errorf("%v are left", left)
		}
		w.states()
		w.audit()
	})
}
