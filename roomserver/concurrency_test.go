package roomserver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const senders = 64

// timelineOf returns the messages of a room, and checks that it is one chain of events.
func timelineOf(t *testing.T, s *roomserver.Server, db *storage.DB, id matrix.RoomID) map[string]int {
	t.Helper()
	ctx := context.Background()
	room, err := s.Room(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	said := make(map[string]int)
	var last *rooms.Event
	page := rooms.PageQuery{Limit: 100}
	for {
		events, err := rooms.Page(ctx, db, room, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return said
		}
		for _, ev := range events {
			if last != nil && (ev.PrevEvents[0] != last.ID || ev.Depth != last.Depth+1) {
				t.Fatalf("%s at depth %d follows %v, want %s at %d", ev.ID, ev.Depth, ev.PrevEvents, last.ID, last.Depth)
			}
			last = ev
			page.From = ev.Order
			if ev.Type == event.TypeMessage {
				said[string(ev.Content)]++
			}
		}
	}
}

func TestManySendersOneRoom(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		room := mustCreate(t, s, "alice", roomserver.CreateRoom{Preset: "public_chat"})
		const each = 5
		var group sync.WaitGroup
		for i := range senders {
			group.Go(func() {
				who := as(fmt.Sprintf("user%d", i))
				if err := s.Join(ctx, who, room, ""); err != nil {
					t.Errorf("join: %v", err)
				}
				for j := range each {
					in := send(room, fmt.Sprintf("%d.%d", i, j))
					in.Txn = roomserver.Txn{Path: "p", ID: fmt.Sprint(j)}
					if _, err := s.Send(ctx, who, in); err != nil {
						t.Errorf("send: %v", err)
					}
				}
			})
		}
		group.Wait()
		said := timelineOf(t, s, db, room)
		if len(said) != senders*each {
			t.Errorf("got %d messages, want %d", len(said), senders*each)
		}
		state, err := s.Current(ctx, room)
		if err != nil {
			t.Fatal(err)
		}
		members, err := state.Members(ctx)
		if err != nil || len(members) != senders+1 {
			t.Errorf("got %d members, %v; want %d", len(members), err, senders+1)
		}
	})
}

func TestManySendersManyRooms(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		var group sync.WaitGroup
		made := make([]matrix.RoomID, senders)
		for i := range senders {
			group.Go(func() {
				who := as(fmt.Sprintf("user%d", i))
				id, err := s.Create(ctx, who, roomserver.CreateRoom{Name: "x", Invite: []matrix.UserID{user("bob")}})
				if err != nil {
					t.Errorf("create: %v", err)
					return
				}
				made[i] = id
				for j := range 3 {
					if _, err := s.Send(ctx, who, send(id, fmt.Sprint(j))); err != nil {
						t.Errorf("send: %v", err)
					}
				}
				if err := s.Join(ctx, as("bob"), id, ""); err != nil {
					t.Errorf("join: %v", err)
				}
			})
		}
		group.Wait()
		for _, id := range made {
			if said := timelineOf(t, s, db, id); len(said) != 3 {
				t.Errorf("%s has %d messages, want 3", id, len(said))
			}
		}
		memberships, err := rooms.MembershipsOfUser(ctx, db, user("bob"), 0)
		if err != nil || len(memberships) != senders {
			t.Errorf("bob is in %d rooms, %v; want %d", len(memberships), err, senders)
		}
	})
}

// Repeats of a transaction that are in flight together make one event.
func TestTransactionInFlight(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		s := newServer(t, db)
		ctx := context.Background()
		room := mustCreate(t, s, "alice", roomserver.CreateRoom{})
		in := send(room, "once")
		in.Txn = roomserver.Txn{Path: "p", ID: "1"}
		ids := make([]matrix.EventID, 30)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() {
				id, err := s.Send(ctx, as("alice"), in)
				if err != nil {
					t.Error(err)
				}
				ids[i] = id
			})
		}
		group.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("got %s and %s for one transaction", id, ids[0])
			}
		}
		if said := timelineOf(t, s, db, room); len(said) != 1 || said[string(mustCanonical(t, in.Content))] != 1 {
			t.Errorf("timeline: got %v, want it once", said)
		}
	})
}

// A caller that gives up does not undo its transaction, nor keep it from being repeated.
func TestTransactionOfGoneCaller(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := newServer(t, db)
	room := mustCreate(t, s, "alice", roomserver.CreateRoom{})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	in := send(room, "once")
	in.Txn = roomserver.Txn{Path: "p", ID: "1"}
	first, err := s.Send(gone, as("alice"), in)
	if err != nil {
		t.Fatalf("what was begun is finished: got %v", err)
	}
	again, err := s.Send(context.Background(), as("alice"), in)
	if err != nil || again != first {
		t.Errorf("repeat: got %s, %v; want %s", again, err, first)
	}
}

// A transaction that failed may be tried again.
func TestTransactionThatFailed(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	s := newServer(t, db)
	ctx := context.Background()
	room := mustCreate(t, s, "alice", roomserver.CreateRoom{})
	in := send(room, "hello")
	in.Txn = roomserver.Txn{Path: "p", ID: "1"}
	if _, err := s.Send(ctx, as("bob"), in); matrix.CodeOf(err) != matrix.Forbidden {
		t.Fatalf("send from outside: got %v, want M_FORBIDDEN", err)
	}
	if err := s.Invite(ctx, as("alice"), roomserver.Move{Room: room, Target: user("bob")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Join(ctx, as("bob"), room, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send(ctx, as("bob"), in); err != nil {
		t.Errorf("send after joining: %v", err)
	}
}
