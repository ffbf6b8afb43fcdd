package roomserver_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

func onBoth(b *testing.B, f func(b *testing.B, db *storage.DB)) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) { f(b, storagetest.Open(b, kind)) })
	}
}

// sendAll sends b.N messages from 64 senders, each to a room of rooms, as clients do: with a transaction.
func sendAll(b *testing.B, s *roomserver.Server, to []matrix.RoomID) {
	var n atomic.Int64
	b.SetParallelism(senders / 2) // times GOMAXPROCS
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			in := send(to[int(i)%len(to)], "a message of ordinary length, as people write them to each other")
			in.Txn = roomserver.Txn{Path: "/_matrix/client/v3/rooms/x/send/m.room.message", ID: fmt.Sprint("m", i)}
			if _, err := s.Send(context.Background(), as("alice"), in); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkSendOneRoom(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		s := newServer(b, db)
		sendAll(b, s, []matrix.RoomID{mustCreate(b, s, "alice", roomserver.CreateRoom{})})
	})
}

func BenchmarkSendManyRooms(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		s := newServer(b, db)
		var all []matrix.RoomID
		for range 100 {
			all = append(all, mustCreate(b, s, "alice", roomserver.CreateRoom{}))
		}
		sendAll(b, s, all)
	})
}

func BenchmarkCreate(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		s := newServer(b, db)
		b.ReportAllocs()
		for b.Loop() {
			mustCreate(b, s, "alice", roomserver.CreateRoom{Preset: "public_chat", Name: "A room"})
		}
	})
}

// BenchmarkJoinLargeRoom joins and leaves a room of 10,000 members.
func BenchmarkJoinLargeRoom(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		s := newServer(b, db)
		ctx := context.Background()
		room := mustCreate(b, s, "alice", roomserver.CreateRoom{Preset: "public_chat"})
		fill(b, s, room, 10_000)
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Join(ctx, as("bob"), room, ""); err != nil {
				b.Fatal(err)
			}
			if err := s.Leave(ctx, as("bob"), room, ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func fill(b *testing.B, s *roomserver.Server, room matrix.RoomID, members int) {
	b.Helper()
	jobs := make(chan int)
	done := make(chan error, senders)
	for range senders {
		go func() {
			var failed error
			for i := range jobs {
				if err := s.Join(context.Background(), as(fmt.Sprintf("member%d", i)), room, ""); err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	for i := range members {
		jobs <- i
	}
	close(jobs)
	for range senders {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMembers reads all members of a room of 10,000: from the caches, and with none.
func BenchmarkMembers(b *testing.B) {
	onBoth(b, func(b *testing.B, db *storage.DB) {
		warm := newServer(b, db)
		ctx := context.Background()
		room := mustCreate(b, warm, "alice", roomserver.CreateRoom{Preset: "public_chat"})
		fill(b, warm, room, 10_000)
		for _, c := range []struct {
			name   string
			server func() *roomserver.Server
		}{
			{"warm", func() *roomserver.Server { return warm }},
			{"cold", func() *roomserver.Server { return newServer(b, db) }},
		} {
			b.Run(c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					state, err := c.server().Current(ctx, room)
					if err != nil {
						b.Fatal(err)
					}
					if members, err := state.Members(ctx); err != nil || len(members) != 10_001 {
						b.Fatal(len(members), err)
					}
				}
			})
		}
	})
}
