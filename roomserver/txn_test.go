package roomserver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// After a restart nothing is known of transactions, until they meet their event in the database. What is sent beside a
// repeat is sent.
func TestTransactionAfterRestart(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := context.Background()
		before := newServer(t, db)
		room := mustCreate(t, before, "alice", roomserver.CreateRoom{})
		in := send(room, "once")
		in.Txn = roomserver.Txn{Path: "p", ID: "1"}
		first, err := before.Send(ctx, as("alice"), in)
		if err != nil {
			t.Fatal(err)
		}

		s := newServer(t, db)
		const others = 40
		var group sync.WaitGroup
		for i := range others {
			group.Go(func() {
				in := send(room, fmt.Sprint("other", i))
				in.Txn = roomserver.Txn{Path: "p", ID: fmt.Sprint("other", i)}
				if _, err := s.Send(ctx, as("alice"), in); err != nil {
					t.Errorf("another message: %v", err)
				}
			})
		}
		group.Go(func() {
			if again, err := s.Send(ctx, as("alice"), in); err != nil || again != first {
				t.Errorf("repeat: got %s, %v; want %s", again, err, first)
			}
		})
		group.Wait()
		if said := timelineOf(t, s, db, room); len(said) != others+1 {
			t.Errorf("the timeline has %d messages, want %d", len(said), others+1)
		}
	})
}

// Who has left the room since is answered for what was sent before.
func TestTransactionAfterLeave(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := context.Background()
		before := newServer(t, db)
		room := mustCreate(t, before, "alice", roomserver.CreateRoom{})
		in := send(room, "once")
		in.Txn = roomserver.Txn{Path: "p", ID: "1"}
		first, err := before.Send(ctx, as("alice"), in)
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Leave(ctx, as("alice"), room, ""); err != nil {
			t.Fatal(err)
		}
		if again, err := newServer(t, db).Send(ctx, as("alice"), in); err != nil || again != first {
			t.Errorf("repeat: got %s, %v; want %s", again, err, first)
		}
		in.Txn.ID = "2"
		if id, err := newServer(t, db).Send(ctx, as("alice"), in); matrix.CodeOf(err) != matrix.Forbidden {
			t.Errorf("another transaction: got %s, %v; want M_FORBIDDEN", id, err)
		}
	})
}

// Who repeats old transactions one after the other makes others wait for it once.
func TestRepeater(t *testing.T) {
	storagetest.Each(t, func(t *testing.T, db *storage.DB) {
		ctx := context.Background()
		before := newServer(t, db)
		room := mustCreate(t, before, "alice", roomserver.CreateRoom{})
		const repeats = 3
		sendAll := func(s *roomserver.Server) {
			t.Helper()
			for i := range repeats {
				in := send(room, "once")
				in.Txn = roomserver.Txn{Path: "p", ID: fmt.Sprint(i)}
				if _, err := s.Send(ctx, as("alice"), in); err != nil {
					t.Fatal(err)
				}
			}
		}
		sendAll(before)
		failed := failedGroups(t)
		sendAll(newServer(t, db))
		if got := failedGroups(t) - failed; got != 1 {
			t.Errorf("%d repeats: %v groups of writes failed, want 1", repeats, got)
		}
	})
}

// failedGroups counts the groups of writes that failed, of all databases of the process.
func failedGroups(t *testing.T) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(storage.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "myelin_storage_failed_groups_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("failed groups are not counted")
	return 0
}
