package owner

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// topicAt makes a topic of alice that follows events, as if it came from elsewhere.
func topicAt(t *testing.T, s *Owners, room rooms.Room, text string, prevs ...*rooms.Event) *event.Event {
	t.Helper()
	var follows []placed
	for _, prev := range prevs {
		follows = append(follows, storedPlaced(prev))
	}
	ctx, key := context.Background(), ""
	var ev *event.Event
	err := s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
		d := Draft{Type: event.TypeTopic, StateKey: &key, Sender: someone("alice").User, Content: fmt.Appendf(nil, `{"topic":%q}`, text)}
		known, err := st.authState(ctx, st.tip.state, d)
		if err == nil {
			ev, err = st.build(d, follows, known)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// take receives an event.
func take(t *testing.T, s *Owners, room rooms.Room, ev *event.Event) Result {
	t.Helper()
	var results []Result
	err := s.Do(context.Background(), room.ID, func(ctx context.Context, st *Step) (err error) {
		results, err = st.ReceiveAll(ctx, []*event.Event{ev})
		return err
	})
	if err != nil || len(results) != 1 {
		t.Fatalf("receive: got %v, %v", results, err)
	}
	return results[0]
}

// A commit that fails takes with it what it added to the auth graph and to the current state.
func TestFailedBranch(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := testServer(t, db)
		room := testRoom(t, s)
		ctx := context.Background()
		if err := s.Do(ctx, room.ID, says("alice", "one", 7)); err != nil {
			t.Fatal(err)
		}
		head, _, err := rooms.HeadOf(ctx, db, room.Num)
		if err != nil {
			t.Fatal(err)
		}
		base, err := s.Events(ctx, room, head.Extremities)
		if err != nil {
			t.Fatal(err)
		}
		left, right := topicAt(t, s, room, "left", base[0]), topicAt(t, s, room, "right", base[0])
		lost := topicAt(t, s, room, "lost", base[0])
		for _, ev := range []*event.Event{left, right} {
			if got := take(t, s, room, ev); got.Outcome != Accepted {
				t.Fatalf("got %+v", got)
			}
		}
		err = s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
			if _, err := st.Receive(ctx, lost); err != nil {
				return err
			}
			return says("alice", "never", 7)(ctx, st) // the key is taken
		})
		if err == nil {
			t.Fatal("a transaction was stored twice")
		}
		state, err := s.Current(ctx, room.ID)
		if err != nil {
			t.Fatal(err)
		}
		topic, err := state.Event(ctx, event.Key{Type: event.TypeTopic})
		if err != nil || topic.ID == lost.ID {
			t.Errorf("topic: got that of what was not stored, %v", err)
		}
		if got := take(t, s, room, lost); got.Outcome != Accepted {
			t.Errorf("again: got %+v", got)
		}
	})
}

// A step that has resolved enough leaves the other events to the next, which come to the same.
func TestMuchToResolve(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := testServer(t, db)
		s.stepEffort = 1
		room := testRoom(t, s)
		ctx := context.Background()
		head, _, err := rooms.HeadOf(ctx, db, room.Num)
		if err != nil {
			t.Fatal(err)
		}
		state, err := s.Current(ctx, room.ID)
		if err != nil {
			t.Fatal(err)
		}
		create, err := state.Event(ctx, event.Key{Type: event.TypeCreate})
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.Events(ctx, room, head.Extremities)
		if err != nil {
			t.Fatal(err)
		}
		var events []*event.Event
		for i := range 5 {
			// All of the state but the creation of the room is in conflict.
			events = append(events, topicAt(t, s, room, fmt.Sprint("branch ", i), create, last[0]))
		}
		steps := 0
		for rest := events; len(rest) > 0; steps++ {
			var results []Result
			err := s.Do(ctx, room.ID, func(ctx context.Context, st *Step) (err error) {
				results, err = st.ReceiveAll(ctx, rest)
				return err
			})
			if err != nil || len(results) == 0 {
				t.Fatalf("receive: got %v, %v", results, err)
			}
			for i, got := range results {
				if got.Event != rest[i].ID || got.Outcome != Accepted {
					t.Errorf("got %+v, want %s accepted", got, rest[i].ID)
				}
			}
			rest = rest[len(results):]
		}
		if steps != len(events) {
			t.Errorf("got %d steps for %d events, want one for each", steps, len(events))
		}
	})
}

// The graph is built whatever the order of the numbers.
func TestBuildGraph(t *testing.T) {
	hasher := statetree.NewHasher([16]byte{1})
	key := func(n int64) event.Key { return event.Key{Type: "t", StateKey: fmt.Sprint(n)} }
	nodes := []rooms.AuthNode{{Num: 1, Key: key(1), Auth: []int64{9}}, {Num: 5, Key: key(5), Auth: []int64{1, 9}}, {Num: 9, Key: key(9)}}
	graph, err := buildGraph(hasher, nodes)
	if err != nil || graph.Len() != 3 {
		t.Errorf("got %v, %v; want three events", graph, err)
	}
	if _, err := buildGraph(hasher, nodes[:2]); err == nil {
		t.Error("a graph without an auth event: no error")
	}
	a := authGraph{graph: graph}
	a.mark()
	if err := appendNode(graph, hasher, rooms.AuthNode{Num: 11, Key: key(11), Auth: []int64{5}}); err != nil {
		t.Fatal(err)
	}
	if a.goBack(); graph.Len() != 3 || graph.Has(statetree.Value(11)) || a.bytes() == 0 {
		t.Errorf("after going back: %d events", graph.Len())
	}
}

// A graph that is read while the owner goes on is the same as one that is read when it stands still.
func TestGraphAhead(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := testServer(t, db)
		room := testRoom(t, s)
		ctx := context.Background()
		ownerNow := func() *owner { s.mu.Lock(); defer s.mu.Unlock(); return s.ownerOf(room) }
		begin := func() (*coming, *graphAhead, []rooms.AuthNode) {
			head, _, err := rooms.HeadOf(ctx, db, room.Num)
			if err != nil {
				t.Fatal(err)
			}
			base, err := s.Events(ctx, room, head.Extremities)
			if err != nil {
				t.Fatal(err)
			}
			branches := []*event.Event{topicAt(t, s, room, "left", base[0]), topicAt(t, s, room, "right", base[0])}
			f := &coming{s.NewHints(room, len(branches)), branches}
			ahead, waiting, err := s.beginAhead(ctx, f)
			if err != nil || ahead == nil {
				t.Fatalf("two branches: got %v, %v; want the graph read", ahead, err)
			}
			return f, ahead, waiting
		}
		f, ahead, waiting := begin()
		if again, _, err := s.beginAhead(ctx, f); again != nil || err != nil {
			t.Errorf("begun twice: %v", err)
		}
		graph, err := s.readGraph(ctx, room, waiting)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Do(ctx, room.ID, setsTopic("meanwhile")); err != nil {
			t.Fatal(err)
		}
		refused := s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
			if err := setsTopic("never")(ctx, st); err != nil {
				return err
			}
			return errLacking
		})
		if refused == nil {
			t.Fatal("no error")
		}
		if err := s.endAhead(room, ahead, graph); err != nil {
			t.Fatal(err)
		}
		want, err := s.readGraph(ctx, room, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := ownerNow().graph.graph; got == nil || got.Len() != want.Len() {
			t.Fatalf("got the graph %v, want one of %d events", got, want.Len())
		}

		// One that came too late is of no use: a commit has failed since.
		s.Sweep(time.Now().Add(time.Hour))
		if err := s.Do(ctx, room.ID, says("alice", "one", 7)); err != nil {
			t.Fatal(err)
		}
		_, ahead, _ = begin()
		if err := s.Do(ctx, room.ID, says("alice", "two", 7)); err == nil {
			t.Fatal("a transaction was stored twice")
		}
		if err := s.endAhead(room, ahead, want); err != nil || ownerNow().graph.graph != nil {
			t.Errorf("after a failed commit: %v, the graph is there: %v", err, ownerNow().graph.graph != nil)
		}
	})
}

func setsTopic(text string) Task {
	return func(ctx context.Context, st *Step) error {
		key := ""
		_, err := st.Add(ctx, Draft{Type: event.TypeTopic, StateKey: &key, Sender: someone("alice").User, Content: fmt.Appendf(nil, `{"topic":%q}`, text)})
		return err
	}
}
