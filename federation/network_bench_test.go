package federation_test

import (
	"fmt"
	"testing"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// BenchmarkNetworkJoin is a join of a room of other members, from the wish until every one of them is verified and stored:
// both servers, the network and TLS between them in one process.
func BenchmarkNetworkJoin(b *testing.B) {
	for _, members := range []int{500, 5000} {
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
				for i := range 4 {
					guest := w.houseOn(matrix.ServerName(fmt.Sprintf("guest%d.example", i)), storagetest.Open(b, kind))
					if i == 0 {
						b.ResetTimer()
					}
					b.StartTimer()
					if err := guest.join("bob", room, "host.example"); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
				}
				b.ReportMetric(float64(b.Elapsed().Milliseconds())/4, "ms/join")
			})
		}
	}
}
