package federation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// BenchmarkNetworkJoin is a join of a room of other members: until it is answered, and until every one of them is verified
// and stored. Both servers, the network and TLS between them are in one process.
func BenchmarkNetworkJoin(b *testing.B) {
	for _, members := range []int{500, 5000, 20_000} {
		for _, kind := range []string{storagetest.SQLite, storagetest.Postgres} {
			b.Run(fmt.Sprintf("%d/%s", members, kind), func(b *testing.B) {
				w := newTown(b)
				host := w.house("host.example")
				room := host.create(roomserver.CreateRoom{Preset: "public_chat", Version: "11"})
				for i := range members {
					by := matrix.Requester{User: host.user(fmt.Sprintf("u%05d", i)), Device: "D"}
					if err := host.rooms.Join(b.Context(), by, room, ""); err != nil {
						b.Fatal(err)
					}
				}
				guests := 0
				var answered time.Duration
				b.ResetTimer()
				for b.Loop() {
					b.StopTimer()
					guests++
					guest := w.houseOn(matrix.ServerName(fmt.Sprintf("guest%d.example", guests)), storagetest.Open(b, kind))
					b.StartTimer()
					began := time.Now()
					if err := guest.join("bob", room, "host.example"); err != nil {
						b.Fatal(err)
					}
					answered += time.Since(began)
					if err := guest.completePartial(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(answered.Milliseconds())/float64(guests), "ms-to-answer/op")
			})
		}
	}
}
