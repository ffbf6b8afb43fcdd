package syncapi_test

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// asker answers syncs without a network.
func asker(b *testing.B, w *world) func(u matrix.UserID, query string) []byte {
	server := httpapi.New(httpapi.Settings{APIs: []httpapi.API{{Service: config.Client, Routes: w.api.Routes}}})
	handler := server.Handler()
	return func(u matrix.UserID, query string) []byte {
		r := httptest.NewRequest("GET", "/_matrix/client/v3/sync?"+query, nil)
		r.Header.Set("Authorization", "Bearer "+string(u))
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if answer.Code != 200 {
			b.Fatalf("sync: %d %s", answer.Code, answer.Body)
		}
		return answer.Body.Bytes()
	}
}

// manyRooms makes rooms of alice and nine others with a few messages in each. They have no names, as rooms of two or three
// people mostly have none, and so are called after their members.
func manyRooms(b *testing.B, w *world, n int) []matrix.RoomID {
	b.Helper()
	all := make([]matrix.RoomID, n)
	for i := range all {
		all[i] = w.create(alice, roomserver.CreateRoom{})
		for m := range 9 {
			w.join(all[i], matrix.UserID(fmt.Sprintf("@member%d:test", m)))
		}
		for m := range 5 {
			w.send(alice, all[i], fmt.Sprint("message ", m))
		}
	}
	return all
}

func BenchmarkInitialSync(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		for _, rooms := range []int{30, 500} {
			w := newWorld(b, kind)
			manyRooms(b, w, rooms)
			ask := asker(b, w)
			for name, filter := range map[string]string{"full": "", "lazy": `&filter={"room":{"state":{"lazy_load_members":true}}}`} {
				b.Run(fmt.Sprintf("%s/rooms=%d/%s", kind, rooms, name), func(b *testing.B) {
					size := len(ask(alice, "set_presence=offline"+filter))
					b.ReportAllocs()
					for b.Loop() {
						ask(alice, "set_presence=offline"+filter)
					}
					b.ReportMetric(float64(size), "bytes/answer")
				})
			}
		}
	}
}

// BenchmarkIncrementalSync is one new event in one of the user's rooms.
func BenchmarkIncrementalSync(b *testing.B) {
	for _, rooms := range []int{1, 30, 500} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			w := newWorld(b, "sqlite")
			all := manyRooms(b, w, rooms)
			token := w.sync(alice, query{"set_presence": "offline"}).NextBatch
			w.send(alice, all[0], "news")
			ask := asker(b, w)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				ask(alice, "set_presence=offline&since="+token)
			}
		})
	}
}
