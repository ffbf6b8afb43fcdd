package owner

import (
	"context"
	"crypto/rand"
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

// These tests look into the owner of a room; those of package roomserver go through the public calls.

func testServer(t testing.TB, db *storage.DB) *Owners {
	t.Helper()
	key, err := signing.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return New(Settings{
		DB: db, ServerName: "example.org", Key: key, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

func someone(name string) matrix.Requester {
	id := matrix.UserID("@" + name + ":example.org")
	return matrix.Requester{Account: id, User: id, Device: "D"}
}

// testRoom makes a room of alice that all may join.
func testRoom(t testing.TB, s *Owners) rooms.Room {
	t.Helper()
	ctx, key, alice := context.Background(), "", someone("alice").User
	v, _ := event.VersionOf("12")
	st := s.NewRoom(v)
	content := fmt.Appendf(nil, `{"room_version":"12","unlike":%q}`, rand.Text()) // another of the same millisecond
	create, err := st.Add(ctx, Draft{Type: event.TypeCreate, StateKey: &key, Sender: alice, Content: content})
	if err != nil {
		t.Fatal(err)
	}
	st.Name(create.RoomID)
	for _, task := range []Task{
		joins("alice"),
		func(ctx context.Context, st *Step) error {
			_, err := st.Add(ctx, Draft{Type: event.TypeJoinRules, StateKey: &key, Sender: alice, Content: []byte(`{"join_rule":"public"}`)})
			return err
		},
	} {
		if err := task(ctx, st); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Found(ctx, st); err != nil {
		t.Fatal(err)
	}
	room, err := s.Room(ctx, st.Room().ID)
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// joins is a task that lets somebody join.
func joins(who string) Task {
	return func(ctx context.Context, st *Step) error {
		user := string(someone(who).User)
		_, err := st.Add(ctx, Draft{Type: event.TypeMember, StateKey: &user, Sender: someone(who).User, Content: []byte(`{"membership":"join"}`)})
		return err
	}
}

// says is a task that sends a message.
func says(who, text string, key int64) Task {
	return func(ctx context.Context, st *Step) error {
		content := fmt.Appendf(nil, `{"body":%q}`, text)
		_, err := st.Add(ctx, Draft{Type: "m.room.message", Sender: someone(who).User, Content: content, Txn: SentAs{Key: key}})
		return err
	}
}

// names is a task that sets the name of the room.
func names(who, name string) Task {
	return func(ctx context.Context, st *Step) error {
		key := ""
		_, err := st.Add(ctx, Draft{Type: event.TypeName, StateKey: &key, Sender: someone(who).User, Content: fmt.Appendf(nil, `{"name":%q}`, name)})
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

func mustTurn(t *testing.T, s *Owners, room rooms.Room, work Task) *flight {
	t.Helper()
	fl, own, err := s.turn(context.Background(), room, work, nil)
	if err != nil || !own {
		t.Fatalf("turn: got %v, own %v", err, own)
	}
	return fl
}

func timeline(t *testing.T, s *Owners, room rooms.Room) (all []string) {
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
		if body := ev.Text("body"); body != "" {
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
		if err := s.Do(context.Background(), room.ID, says("alice", "one", 7)); err != nil {
			t.Fatal(err)
		}
		release := stall(t, db)
		good := mustTurn(t, s, room, says("alice", "two", 8))
		bad := mustTurn(t, s, room, func(ctx context.Context, st *Step) error {
			if err := names("alice", "never")(ctx, st); err != nil {
				return err
			}
			return says("alice", "never", 7)(ctx, st) // the key is taken
		})
		after := mustTurn(t, s, room, says("alice", "on never", 9))
		retried := make(chan error, 2)
		go func() { retried <- s.Do(context.Background(), room.ID, says("alice", "three", 10)) }()
		// It has nothing to store, but what it saw may not come to be.
		go func() {
			retried <- s.Do(context.Background(), room.ID, func(ctx context.Context, st *Step) error { return nil })
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
		if name, err := state.Event(context.Background(), event.Key{Type: event.TypeName}); err != nil || name != nil {
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
	joined := mustTurn(t, s, room, joins("bob"))
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
	err := s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
		if err := says("alice", "never", 0)(ctx, st); err != nil {
			return err
		}
		panic("a bug")
	})
	if !errors.Is(err, errFenced) {
		t.Errorf("the work that panicked: got %v, want errFenced", err)
	}
	if err := s.Do(ctx, room.ID, says("alice", "never", 0)); !errors.Is(err, errFenced) {
		t.Errorf("work after it: got %v, want errFenced", err)
	}
	if err := s.Do(ctx, other.ID, says("alice", "hello", 0)); err != nil {
		t.Errorf("another room: %v", err)
	}
	s.Sweep(s.now())
	if err := s.Do(ctx, room.ID, says("alice", "hello", 0)); err != nil {
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
	if err := s.Do(ctx, room.ID, says("alice", "one", 0)); err != nil {
		t.Fatal(err)
	}
	s.Sweep(time.Now())
	if len(s.loaded) != 1 {
		t.Errorf("a room in use was unloaded")
	}
	release := stall(t, db)
	fl := mustTurn(t, s, room, says("alice", "two", 0))
	late := time.Now().Add(time.Hour)
	s.Sweep(late)
	if len(s.loaded) != 1 {
		t.Errorf("a room with a commit in flight was unloaded")
	}
	release()
	<-fl.done
	held := s.loaded[room.ID]
	s.Sweep(late)
	if len(s.loaded) != 0 || !held.gone {
		t.Errorf("an idle room was not unloaded")
	}
	if err := s.Do(ctx, room.ID, says("alice", "three", 0)); err != nil {
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
				if err := s.Do(context.Background(), room.ID, says("alice", fmt.Sprintf("%d.%d", i, j), 0)); err != nil {
					t.Error(err)
				}
				s.Sweep(time.Now().Add(time.Hour))
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
			err := s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
				d := Draft{Type: "m.room.message", Sender: someone("alice").User, Content: []byte(`{"body":"secret"}`)}
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
			redacts := func(ctx context.Context, st *Step) error {
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
			if err := s.Do(ctx, room.ID, redacts); err != nil {
				t.Fatal(err)
			}
			s.Sweep(time.Now().Add(time.Hour)) // what is pending survives
			err = s.Do(ctx, room.ID, func(ctx context.Context, st *Step) error {
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
			if got := stored.RedactedBy != 0; got != c.applies || (stored.Text("body") == "") != c.applies {
				t.Errorf("redacted: got %v with content %s, want %v", got, stored.Content, c.applies)
			}
			pending, err := rooms.PendingRedactions(ctx, db, room.Num, 10)
			if err != nil || len(pending) != 0 {
				t.Errorf("still pending: %v, %v", pending, err)
			}
		})
	}
}
