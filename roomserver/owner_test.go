package roomserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// These tests look into the owner of a room; all others go through the public calls.

type nobody struct{}

func (nobody) Profile(context.Context, matrix.UserID) (map[string]json.RawMessage, error) {
	return nil, nil
}

func testServer(t testing.TB, db *storage.DB) *Server {
	t.Helper()
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return New(Settings{
		DB: db, ServerName: "example.org", Key: key, Profiles: nobody{}, DefaultVersion: "12",
		Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func someone(name string) matrix.Requester {
	id := matrix.UserID("@" + name + ":example.org")
	return matrix.Requester{Account: id, User: id, Device: "D"}
}

func testRoom(t testing.TB, s *Server) rooms.Room {
	t.Helper()
	ctx := context.Background()
	id, err := s.Create(ctx, someone("alice"), CreateRoom{Preset: "public_chat"})
	if err != nil {
		t.Fatal(err)
	}
	room, err := s.Room(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// says is a task that sends a message.
func says(who, text string, key int64) task {
	return func(ctx context.Context, st *step) error {
		content := fmt.Appendf(nil, `{"body":%q}`, text)
		_, err := st.add(ctx, draft{typ: "m.room.message", sender: someone(who).User, content: content, txn: sentAs{key: key}})
		return err
	}
}

// names is a task that sets the name of the room.
func names(who, name string) task {
	return func(ctx context.Context, st *step) error {
		key := ""
		_, err := st.add(ctx, draft{typ: typeName, stateKey: &key, sender: someone(who).User, content: fmt.Appendf(nil, `{"name":%q}`, name)})
		return err
	}
}

type emptyWrite struct{}

func (emptyWrite) Rows(it *storage.Item) { it.News(storage.News{Kind: storage.NewsServer}) }

// stall keeps the committer from committing until the function it returns is called, or the test ends.
func stall(t *testing.T, db *storage.DB) (release func()) {
	held, free := make(chan struct{}), make(chan struct{})
	db.Submit(emptyWrite{}, func(storage.Position, error) {
		close(held)
		<-free
	})
	<-held
	release = sync.OnceFunc(func() { close(free) })
	t.Cleanup(release) // before the database is closed, which waits for the committer
	return release
}

func mustTurn(t *testing.T, s *Server, room rooms.Room, work task) *flight {
	t.Helper()
	fl, own, err := s.turn(context.Background(), room, work, nil)
	if err != nil || !own {
		t.Fatalf("turn: got %v, own %v", err, own)
	}
	return fl
}

func timeline(t *testing.T, s *Server, room rooms.Room) (all []string) {
	t.Helper()
	events, err := rooms.Page(context.Background(), s.db, room, rooms.PageQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for i, ev := range events {
		if i > 0 && (len(ev.PrevEvents) != 1 || ev.PrevEvents[0] != events[i-1].ID) {
			t.Errorf("event %d follows %v, want %s", i, ev.PrevEvents, events[i-1].ID)
		}
		if i > 0 && ev.StateBefore == 0 {
			t.Errorf("event %d has no state before it", i)
		}
		if body := contentText(ev, "body"); body != "" {
			all = append(all, body)
		}
	}
	return all
}

// What was built on a commit that failed fails, and is built again on what is committed.
func TestFailedCommit(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := testServer(t, db)
		room := testRoom(t, s)
		if err := s.do(context.Background(), room.ID, says("alice", "one", 7)); err != nil {
			t.Fatal(err)
		}
		release := stall(t, db)
		good := mustTurn(t, s, room, says("alice", "two", 8))
		bad := mustTurn(t, s, room, func(ctx context.Context, st *step) error {
			if err := names("alice", "never")(ctx, st); err != nil {
				return err
			}
			return says("alice", "never", 7)(ctx, st) // the key is taken
		})
		after := mustTurn(t, s, room, says("alice", "on never", 9))
		retried := make(chan error, 2)
		go func() { retried <- s.do(context.Background(), room.ID, says("alice", "three", 10)) }()
		// It has nothing to store, but what it saw may not come to be.
		go func() {
			retried <- s.do(context.Background(), room.ID, func(ctx context.Context, st *step) error { return nil })
		}()
		release()
		for _, fl := range []*flight{good, bad, after} {
			<-fl.done
		}
		if good.err != nil || !errors.Is(bad.err, storage.ErrDuplicate) || !errors.Is(after.err, storage.ErrChain) {
			t.Errorf("got %v, %v, %v; want nil, ErrDuplicate, ErrChain", good.err, bad.err, after.err)
		}
		for range 2 {
			if err := <-retried; err != nil {
				t.Errorf("work behind a failed commit: %v", err)
			}
		}
		if got := fmt.Sprint(timeline(t, s, room)); got != "[one two three]" {
			t.Errorf("timeline: got %s, want [one two three]", got)
		}
		state, err := s.Current(context.Background(), room.ID)
		if err != nil {
			t.Fatal(err)
		}
		if name, err := state.Event(context.Background(), event.Key{Type: typeName}); err != nil || name != nil {
			t.Errorf("name after its commit failed: got %v, %v", name, err)
		}
	})
}

// The owner builds on what is not committed; everybody else sees only what is.
func TestAheadOfTheCommit(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := testServer(t, db)
	room := testRoom(t, s)
	ctx := context.Background()
	release := stall(t, db)
	joined := mustTurn(t, s, room, func(ctx context.Context, st *step) error {
		return st.setMember(ctx, someone("bob").User, memberChange{target: someone("bob").User, membership: event.Join})
	})
	said := mustTurn(t, s, room, says("bob", "hello", 0))
	before, err := s.Current(ctx, room.ID)
	if err != nil {
		t.Fatal(err)
	}
	if m, _, err := before.Member(ctx, someone("bob").User); err != nil || m != "" {
		t.Errorf("bob before the commit: got %q, %v", m, err)
	}
	release()
	<-joined.done
	<-said.done
	if joined.err != nil || said.err != nil {
		t.Fatal(joined.err, said.err)
	}
	after, err := s.Current(ctx, room.ID)
	if err != nil {
		t.Fatal(err)
	}
	if m, ev, err := after.Member(ctx, someone("bob").User); err != nil || m != event.Join || ev.Position != joined.first {
		t.Errorf("bob after the commit: got %q at %d, %v; want join at %d", m, ev.Position, err, joined.first)
	}
	changes, err := after.Changed(ctx, before)
	if err != nil || len(changes) != 1 || changes[0].Target() != someone("bob").User {
		t.Errorf("changes: got %v, %v; want bob's member event", changes, err)
	}
}

// A panic fences off its room, and no other; the room comes back from what is stored.
func TestPanic_tuwunel_1_9_0(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := testServer(t, db)
	room, other := testRoom(t, s), testRoom(t, s)
	ctx := context.Background()
	err := s.do(ctx, room.ID, func(ctx context.Context, st *step) error {
		if err := says("alice", "never", 0)(ctx, st); err != nil {
			return err
		}
		panic("a bug")
	})
	if !errors.Is(err, errFenced) {
		t.Errorf("the work that panicked: got %v, want errFenced", err)
	}
	if err := s.do(ctx, room.ID, says("alice", "never", 0)); !errors.Is(err, errFenced) {
		t.Errorf("work after it: got %v, want errFenced", err)
	}
	if err := s.do(ctx, other.ID, says("alice", "hello", 0)); err != nil {
		t.Errorf("another room: %v", err)
	}
	s.sweep(s.now())
	if err := s.do(ctx, room.ID, says("alice", "hello", 0)); err != nil {
		t.Errorf("after the sweep: %v", err)
	}
	if got := fmt.Sprint(timeline(t, s, room)); got != "[hello]" {
		t.Errorf("timeline: got %s, want [hello]", got)
	}
}

func TestSweep(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := testServer(t, db)
	room := testRoom(t, s)
	ctx := context.Background()
	if err := s.do(ctx, room.ID, says("alice", "one", 0)); err != nil {
		t.Fatal(err)
	}
	s.sweep(time.Now())
	if len(s.owners) != 1 {
		t.Errorf("a room in use was unloaded")
	}
	release := stall(t, db)
	fl := mustTurn(t, s, room, says("alice", "two", 0))
	late := time.Now().Add(time.Hour)
	s.sweep(late)
	if len(s.owners) != 1 {
		t.Errorf("a room with a commit in flight was unloaded")
	}
	release()
	<-fl.done
	held := s.owners[room.ID]
	s.sweep(late)
	if len(s.owners) != 0 || !held.gone {
		t.Errorf("an idle room was not unloaded")
	}
	if err := s.do(ctx, room.ID, says("alice", "three", 0)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(timeline(t, s, room)); got != "[one two three]" {
		t.Errorf("timeline: got %s, want [one two three]", got)
	}
}

// Rooms are unloaded while others work in them.
func TestSweepUnderLoad(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := testServer(t, db)
	room := testRoom(t, s)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 10 {
				if err := s.do(context.Background(), room.ID, says("alice", fmt.Sprintf("%d.%d", i, j), 0)); err != nil {
					t.Error(err)
				}
				s.sweep(time.Now().Add(time.Hour))
			}
		})
	}
	group.Wait()
	if got := len(timeline(t, s, room)); got != 80 {
		t.Errorf("timeline: got %d messages, want 80", got)
	}
}

func TestTooManyWaiting_CVE_2026_45078(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := testServer(t, db)
	room := testRoom(t, s)
	o, err := s.acquire(room)
	if err != nil {
		t.Fatal(err)
	}
	o.waiting.Store(maxWaiting)
	if _, err := s.acquire(room); matrix.CodeOf(err) != matrix.LimitExceeded {
		t.Errorf("got %v, want M_LIMIT_EXCEEDED", err)
	}
	o.waiting.Store(1)
	o.release()
}

// A redaction may come before its target.
func TestPendingRedaction(t *testing.T) {
	for _, c := range []struct {
		name, by string
		applies  bool
	}{
		{"by a moderator", "alice", true},
		{"by a stranger", "mallory:elsewhere.org", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := storagetest.Open(t, storagetest.SQLite)
			s := testServer(t, db)
			room := testRoom(t, s)
			ctx := context.Background()
			// The target is built, but held back.
			var target *event.Event
			err := s.do(ctx, room.ID, func(ctx context.Context, st *step) error {
				d := draft{typ: "m.room.message", sender: someone("alice").User, content: []byte(`{"body":"secret"}`)}
				known, err := st.authState(ctx, st.tip.state, d)
				if err != nil {
					return err
				}
				target, err = st.build(d, st.follows(), known)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			redacts := func(ctx context.Context, st *step) error {
				sender := someone("alice").User
				if !c.applies {
					sender = matrix.UserID("@" + c.by)
				}
				ev, err := event.Build(room.Version, event.Proto{
					Type: event.TypeRedaction, Sender: sender, RoomID: room.ID, Content: []byte(`{}`), Redacts: target.ID,
					PrevEvents: []matrix.EventID{st.tip.extremities[0].ID}, Depth: st.tip.depth + 1,
				}, s.name, s.key)
				if err != nil {
					return err
				}
				_, err = st.store(ctx, arrival{event: ev, before: st.tip.state})
				return err
			}
			if err := s.do(ctx, room.ID, redacts); err != nil {
				t.Fatal(err)
			}
			s.sweep(time.Now().Add(time.Hour)) // what is pending survives
			err = s.do(ctx, room.ID, func(ctx context.Context, st *step) error {
				_, err := st.store(ctx, arrival{event: target, before: st.tip.state})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			stored, found, err := rooms.EventByID(ctx, db, room, target.ID)
			if err != nil || !found {
				t.Fatalf("target: %v, %v", found, err)
			}
			if got := stored.RedactedBy != 0; got != c.applies || (contentText(stored, "body") == "") != c.applies {
				t.Errorf("redacted: got %v with content %s, want %v", got, stored.Content, c.applies)
			}
			pending, err := rooms.PendingRedactions(ctx, db, room.Num, 10)
			if err != nil || len(pending) != 0 {
				t.Errorf("still pending: %v, %v", pending, err)
			}
		})
	}
}

func TestLRU(t *testing.T) {
	c := newLRU[int, string](10)
	c.add(1, "one", 4)
	c.add(2, "two", 4)
	c.get(1)
	c.add(3, "three", 4)
	if _, ok := c.get(2); ok {
		t.Error("2 was used least recently, and stayed")
	}
	c.addNew(1, "other", 1, func() bool { return true })
	if got, _ := c.get(1); got != "one" {
		t.Errorf("addNew over 1: got %q, want one", got)
	}
	c.addNew(2, "late", 1, func() bool { return false })
	if got, ok := c.get(2); ok {
		t.Errorf("2 was not wanted: got %q", got)
	}
	dropped := make(chan struct{})
	c.addNew(2, "old", 1, func() bool {
		go func() { c.drop(2); close(dropped) }() // after it was added, not before
		return true
	})
	<-dropped
	if got, ok := c.get(2); ok {
		t.Errorf("2 was dropped when it was out of date: got %q", got)
	}
	c.add(1, "uno", 5)
	if got, _ := c.get(1); got != "uno" || c.cost != 9 {
		t.Errorf("got %q at cost %d, want uno at 9", got, c.cost)
	}
	c.add(4, "huge", 100)
	if got, ok := c.get(4); !ok || got != "huge" || c.order.Len() != 1 {
		t.Errorf("the last entry must stay, alone: %q, %d entries", got, c.order.Len())
	}
}
