package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// A noteTest is a room with a state that nothing names, all nodes of which are noted.
type noteTest struct {
	*testing.T
	s     *Owners
	room  rooms.Room
	tree  statetree.Tree
	noted []statetree.NodeID
}

func onNoted(t *testing.T, f func(n *noteTest)) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := testServer(t, db)
		n := &noteTest{T: t, s: s, room: testRoom(t, s)}
		var changes []statetree.Change
		for i := range 100 {
			key := s.cache.Hasher.Key(event.Key{Type: event.TypeMember, StateKey: fmt.Sprint(i)})
			changes = append(changes, statetree.Change{Key: key, Value: statetree.Value(i + 1)})
		}
		from := db.NextNumber()
		var err error
		if n.tree, _, err = s.storeTree(t.Context(), n.room, statetree.Tree{}, changes); err != nil {
			t.Fatal(err)
		}
		if n.noted, err = rooms.NodeNumbersIn(t.Context(), db, n.room.Num, rooms.Numbers{After: from, UpTo: db.NextNumber()}); err != nil || len(n.noted) < 5 {
			t.Fatalf("got the nodes %v, %v", n.noted, err)
		}
		if _, err := db.Commit(t.Context(), rooms.NoteNodes{RoomNum: n.room.Num, Nodes: n.noted}); err != nil {
			t.Fatal(err)
		}
		f(n)
	})
}

func (n *noteTest) watch() *NodeWatch {
	n.Helper()
	w, held, err := n.s.Watch(n.Context(), n.room, n.noted)
	if err != nil {
		n.Fatal(err)
	}
	now, err := n.s.Current(n.Context(), n.room.ID)
	if err != nil || !slices.Contains(held, now.Root()) {
		n.Fatalf("held: got %v, want the current state %d among them; %v", held, now.Root(), err)
	}
	return w
}

func (n *noteTest) left() int {
	n.Helper()
	found := 0
	err := rooms.StateNodes(n.Context(), n.s.db, n.noted, func(statetree.NodeID, []byte) error { found++; return nil })
	if err != nil {
		n.Fatal(err)
	}
	return found
}

func (n *noteTest) say() {
	n.Helper()
	if err := n.s.Do(n.Context(), n.room.ID, says("alice", "hello", 0)); err != nil {
		n.Fatal(err)
	}
}

// standOn has a message of alice stored behind a state, which a topic may have changed before.
func (n *noteTest) standOn(tree statetree.Tree, changes ...statetree.Change) error {
	return n.s.Do(n.Context(), n.room.ID, func(ctx context.Context, st *Step) (err error) {
		ev, err := st.build(Draft{Type: "m.room.message", Sender: someone("alice").User, Content: []byte(`{}`)}, st.tip.extremities, authState{})
		if err != nil {
			return err
		}
		in := arrival{event: ev, kind: rooms.SoftFailed}
		if in.before, err = st.set(ctx, tree, changes...); err != nil {
			return err
		}
		_, err = st.store(ctx, in)
		return err
	})
}

// A room that goes on as it should disturbs nobody, and what is deleted is gone from memory as well.
func TestWatch(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.say()
		w := n.watch()
		n.say()
		if err := w.Delete(n.Context(), n.noted[:2]); err != nil || n.left() != len(n.noted)-2 {
			n.Fatalf("got %v, and %d nodes are left of %d", err, n.left(), len(n.noted))
		}
		n.say()
		if err := w.Delete(n.Context(), n.noted[2:]); err != nil || n.left() != 0 {
			n.Fatalf("got %v, and %d nodes are left", err, n.left())
		}
		if _, err := n.s.cache.Trees.Len(n.Context(), statetree.At(n.tree.Root())); !errors.Is(err, statetree.ErrMissing) {
			n.Errorf("the deleted root: got %v, want that it is missing", err)
		}
		n.say()
	})
}

// A step that names a noted node before the deletion keeps all of them, whether by a row or by a new node.
func TestWatchIsDisturbed(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		for what, changes := range map[string][]statetree.Change{"a root": nil, "a child": {{Key: 1, Value: 1}}} {
			n.say()
			w := n.watch()
			if err := n.standOn(n.tree, changes...); err != nil {
				n.Fatal(err)
			}
			if err := w.Delete(n.Context(), n.noted); !errors.Is(err, ErrDisturbed) || n.left() != len(n.noted) {
				n.Errorf("%s was named: got %v, and %d nodes are left of %d", what, err, n.left(), len(n.noted))
			}
		}
	})
}

// A step that stands on a deleted node is not stored, though memory still has the tree.
func TestWatchRefuses(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.say()
		w := n.watch()
		if err := w.Delete(n.Context(), n.noted); err != nil {
			n.Fatal(err)
		}
		before := n.s.db.Position()
		for what, changes := range map[string][]statetree.Change{"a root": nil, "a child": {{Key: 5 << 60, Value: 1}}} { // beside all others, so that these are not read
			if err := n.standOn(n.tree, changes...); !errors.Is(err, storage.ErrChain) {
				n.Errorf("%s was named: got %v, want that the step is not stored", what, err)
			}
		}
		events, _, err := storage.One[int](n.Context(), n.s.db, `SELECT COUNT(*) FROM events WHERE kind = $1`, int64(rooms.SoftFailed))
		if err != nil || events != 0 || n.s.db.Position() != before {
			n.Errorf("%d events were stored; %v", events, err)
		}
		n.say()
	})
}

// However long a look takes, the owner of a quiet room stays for it.
func TestWatchKeepsOwner(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.say()
		w := n.watch()
		n.s.Sweep(time.Now().Add(IdleAfter))
		n.s.Sweep(time.Now().Add(2 * watchAfter))
		if err := w.Delete(n.Context(), n.noted); err != nil || n.left() != 0 {
			n.Errorf("a look of two hours: got %v, and %d nodes are left", err, n.left())
		}
	})
}

// Only the owner that has watched all the time deletes.
func TestWatchOfAnotherOwner(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.say()
		w := n.watch()
		w.Close()
		n.s.Sweep(time.Now().Add(IdleAfter))
		if err := w.Delete(n.Context(), n.noted); !errors.Is(err, ErrDisturbed) || n.left() != len(n.noted) {
			n.Errorf("the owner was unloaded: got %v, and %d nodes are left of %d", err, n.left(), len(n.noted))
		}
		n.say()
		first, second := n.watch(), n.watch()
		if err := first.Delete(n.Context(), n.noted); !errors.Is(err, ErrDisturbed) {
			n.Errorf("there is another watch: got %v, want ErrDisturbed", err)
		}
		if second.over(time.Now().Add(watchAfter)) {
			n.Error("a watch is over before it is closed")
		}
		second.Close()
		if second.over(time.Now()) || !second.over(time.Now().Add(watchAfter)) {
			n.Error("a watch is over after a while, and not before")
		}
	})
}

// What is in flight when the watch begins is committed before it goes on.
func TestWatchAwaitsFlights(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.say()
		fl := mustTurn(n.T, n.s, n.room, says("alice", "hello", 0))
		if _, _, err := n.s.Watch(n.Context(), n.room, n.noted); err != nil {
			n.Fatal(err)
		}
		select {
		case <-fl.done:
		default:
			n.Error("a step that was begun before is still in flight")
		}
	})
}

// Who was asked to watch a room that is not taken up yet does not hold it to the version that it was said to have then.
func TestWatchBeforeAnotherVersion(t *testing.T) {
	onNoted(t, func(n *noteTest) {
		n.s.Sweep(time.Now().Add(IdleAfter))
		said := n.room
		said.Version, _ = event.VersionOf("1")
		if _, _, err := n.s.Watch(n.Context(), said, n.noted); err != nil {
			n.Fatal(err)
		}
		n.say()
		o, err := n.s.acquire(n.room)
		if err != nil {
			n.Fatal(err)
		}
		defer o.release()
		if o.room.Version != n.room.Version {
			n.Errorf("got version %s, want %s", o.room.Version.ID, n.room.Version.ID)
		}
	})
}
