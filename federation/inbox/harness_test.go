package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

const (
	them = matrix.ServerName("them.example")
	bob  = matrix.UserID("@bob:them.example")
	here = matrix.RoomID("!here:us.example")
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

type receiver = func(context.Context, matrix.ServerName, matrix.RoomID, []*event.Event) []roomserver.Result

// A desk is an inbox, and rooms that take all that they are given.
type desk struct {
	t  testing.TB
	db *storage.DB
	*Inbox
	txns, events int

	mu       sync.Mutex
	now      time.Time
	taken    map[matrix.EventID]bool
	receipts []roomserver.SetReceipt
}

func newDesk(t testing.TB, db *storage.DB) *desk {
	d := &desk{t: t, db: db, now: start, taken: map[matrix.EventID]bool{}}
	d.build(d.take)
	return d
}

// build starts again, with rooms that do as receive says.
func (d *desk) build(receive receiver) {
	d.Inbox = New(Settings{DB: d.db, Receive: receive, SetReceipt: d.setReceipt, Now: d.clock, Log: slog.New(slog.DiscardHandler)})
}

func (d *desk) take(_ context.Context, _ matrix.ServerName, _ matrix.RoomID, events []*event.Event) []roomserver.Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		d.taken[e.ID] = true
	}
	return allAre(roomserver.Accepted, events)
}

func (d *desk) has(e *event.Event) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.taken[e.ID]
}

func (d *desk) setReceipt(_ context.Context, _ matrix.Requester, in roomserver.SetReceipt) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receipts = append(d.receipts, in)
	return nil
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) pass(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

// run lets the inbox work until the test ends or stop is called.
func (d *desk) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	d.t.Cleanup(stop)
	return stop
}

func (d *desk) settle() {
	d.t.Helper()
	waitFor(d.t, "the end of the work", func() bool { return d.Waiting() == 0 })
}

// message is an event of bob's.
func (d *desk) message(room matrix.RoomID) *event.Event {
	d.t.Helper()
	d.events++
	v, _ := event.VersionOf("11")
	key, err := signing.NewKey("ed25519:k", bytes.Repeat([]byte{2}, 32))
	must(d.t, err)
	e, err := event.Build(v, event.Proto{
		Type: event.TypeMessage, Sender: bob, RoomID: room, Content: fmt.Appendf(nil, `{"body":"%d \"quoted\" \u2028"}`, d.events),
	}, them, key)
	must(d.t, err)
	return e
}

// stage takes a transaction of events of one room.
func (d *desk) stage(room matrix.RoomID, events []*event.Event, receipts ...Receipt) {
	d.t.Helper()
	d.txns++
	v, _ := event.VersionOf("11")
	_, err := d.Stage(d.t.Context(), Transaction{
		Origin: them, ID: fmt.Sprint(d.txns), Answer: []byte(`{}`),
		Items: []Item{{Room: room, Version: v, Events: events, Receipts: receipts}},
	})
	must(d.t, err)
}

// staged is how many transactions are stored of which the work is not done.
func (d *desk) staged() int {
	d.t.Helper()
	all, err := servers.Staged(d.t.Context(), d.db, 0, 1000)
	must(d.t, err)
	return len(all)
}

func (d *desk) rows() int64 {
	d.t.Helper()
	n, _, err := storage.One[int64](d.t.Context(), d.db, `SELECT COUNT(*) FROM staged_transactions`)
	must(d.t, err)
	return n
}

func allAre(o roomserver.Outcome, events []*event.Event) []roomserver.Result {
	results := make([]roomserver.Result, len(events))
	for i, e := range events {
		results[i] = roomserver.Result{Event: e.ID, Outcome: o}
		if o == roomserver.Missing || o == roomserver.Failed || o == roomserver.Busy {
			results[i].Err = errors.New("so it is")
		}
	}
	return results
}

func waitFor(t testing.TB, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sqlite(t testing.TB) *storage.DB { return storagetest.Open(t, storagetest.SQLite) }
