package federation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// What a transaction of 50 PDUs costs until it is answered: the signature of the request, decoding, 50 signatures, and
// the staged row. Rooms are done with it at once.
func BenchmarkTransaction(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) { benchmarkTransaction(b, storagetest.Open(b, kind)) })
	}
}

func benchmarkTransaction(b *testing.B, db *storage.DB) {
	w := newWorldOn(b, db)
	them := w.them()
	room := w.room("shared")
	them.join(room)
	w.api.inbox.Receive = func(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
		return make([]roomserver.Result, len(events)) // done with, whatever became of them
	}
	w.run()
	var bodies [][]byte
	for range 40 {
		pdus := make([]json.RawMessage, inbox.MaxPDUs)
		for i := range pdus {
			proto := them.draft(room, event.TypeMessage, fmt.Sprintf(`{"body":"a message of some length, as people write them: %d","msgtype":"m.text"}`, i))
			proto.Depth += int64(i)
			pdus[i] = them.build(room, proto).JSON
		}
		body, err := json.Marshal(them.transaction(pdus))
		must(b, err)
		bodies = append(bodies, body)
	}
	n := 0
	for b.Loop() {
		n++
		uri := path("v1", "send", fmt.Sprint(n))
		b.StopTimer()
		signed := outbound.SignedRequest{Method: "PUT", URI: uri, Origin: them.name, Destination: us, Content: bodies[n%len(bodies)]}
		authorization := signed.Sign(them.key).String()
		b.StartTimer()
		w.ask("PUT", uri, bodies[n%len(bodies)], authorization).into(new(map[matrix.EventID]any))
	}
	b.ReportMetric(float64(b.N*inbox.MaxPDUs)/b.Elapsed().Seconds(), "events/s")
}

// What an event costs until its room has it, while its server sends one transaction after the other.
func BenchmarkTransactionsIntoRoom(b *testing.B) {
	for _, kind := range storagetest.Kinds {
		b.Run(kind, func(b *testing.B) { benchmarkIntoRoom(b, storagetest.Open(b, kind)) })
	}
}

func benchmarkIntoRoom(b *testing.B, db *storage.DB) {
	w := newWorldOn(b, db)
	w.run()
	them := w.them()
	room := w.room("shared")
	them.join(room)
	proto := them.draft(room, event.TypeMessage, `{"body":"a message of some length, as people write them","msgtype":"m.text"}`)
	auth := them.build(room, proto).AuthEvents
	proto.AuthEvents = auth
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		pdus := make([]json.RawMessage, inbox.MaxPDUs)
		for i := range pdus {
			e, err := event.Build(room.Version, proto, them.name, them.key)
			must(b, err)
			proto.PrevEvents, proto.Depth = []matrix.EventID{e.ID}, proto.Depth+1
			pdus[i] = e.JSON
		}
		body, err := json.Marshal(them.transaction(pdus))
		must(b, err)
		uri := path("v1", "send", fmt.Sprint(n))
		signed := outbound.SignedRequest{Method: "PUT", URI: uri, Origin: them.name, Destination: us, Content: body}
		authorization := signed.Sign(them.key).String()
		b.StartTimer()
		w.ask("PUT", uri, body, authorization).into(new(map[matrix.EventID]any))
	}
	answered := time.Now()
	w.settle()
	b.ReportMetric(time.Since(answered).Seconds(), "s/backlog")
}
