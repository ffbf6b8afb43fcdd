package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
)

// oddVerifier takes events that have an even depth.
type oddVerifier struct{}

func (oddVerifier) VerifyEvents(_ context.Context, events []*event.Event) []error {
	errs := make([]error, len(events))
	for i, e := range events {
		if e.Depth%2 == 1 {
			errs[i] = matrix.Errorf(matrix.InvalidSignature, "odd")
		}
	}
	return errs
}

func (oddVerifier) VerifyObject(context.Context, []byte, matrix.ServerName, int64) error { return nil }

func testClient() *Client {
	return New(Settings{Verifier: oddVerifier{}, Log: slog.New(slog.DiscardHandler)})
}

func testEvent(t testing.TB, depth int64) *event.Event {
	t.Helper()
	key, err := signing.NewKey("ed25519:k", bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	v, _ := event.VersionOf("11")
	e, err := event.Build(v, event.Proto{
		Type: event.TypeCreate, StateKey: new(string), Sender: "@u:x", RoomID: "!r:x", Depth: depth,
		Content: []byte(`{"room_version":"11"}`),
	}, "x", key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The events of all answers that are being read share one budget, which is given back.
func TestHeldBytes(t *testing.T) {
	c, e := testClient(), testEvent(t, 2)
	room := Room{ID: e.RoomID, Version: e.Version}
	d := c.newDoor("x", room)
	if a, err := d.admit(e.JSON); a == nil || err != nil {
		t.Fatalf("got %v, %v", a, err)
	}
	if got, want := c.held.Load(), int64(len(e.JSON)+eventOverheadBytes); got != want {
		t.Errorf("held: got %d, want %d", got, want)
	}
	if _, err := d.admit(e.JSON); err != nil || c.held.Load() != d.held {
		t.Errorf("the same again: %v, held %d of %d", err, d.held, c.held.Load())
	}
	other := c.newDoor("y", room)
	c.held.Add(maxHeldBytes - 1000)
	if _, err := other.admit(testEvent(t, 4).JSON); !errors.Is(err, errHeld) {
		t.Errorf("beyond the budget: got %v, want %v", err, errHeld)
	}
	other.release()
	d.release()
	if got := c.held.Load(); got != maxHeldBytes-1000 {
		t.Errorf("after it: held %d, want %d", got, maxHeldBytes-1000)
	}
}

// Whatever an answer is, the lists that come of it have events of the room that were verified, each once.
func FuzzJoinAnswer(f *testing.F) {
	even, odd := testEvent(f, 2), testEvent(f, 3)
	f.Add([]byte(`{}`))
	f.Add(fmt.Appendf(nil, `{"state":[%s,%s],"auth_chain":[%s,null,7],"members_omitted":false,"servers_in_room":["x",1]}`,
		even.JSON, odd.JSON, even.JSON))
	f.Add(fmt.Appendf(nil, `{"event":%s,"state":[%s,%s],"auth_chain":null}`, odd.JSON, odd.JSON, even.JSON))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := testClient()
		j := c.newJoinReader("x", JoinRequest{Join: even})
		defer j.door.release()
		if j.read(newStream(bytes.NewReader(text))) != nil || j.door.close(t.Context()) != nil {
			return
		}
		for _, events := range [][]*event.Event{j.state.events, j.chain.events} {
			for i, e := range events {
				if e.RoomID != "!r:x" || e.Depth%2 == 1 || slices.Contains(events[:i], e) {
					t.Errorf("event %d should not be here: %s", i, e.JSON)
				}
			}
		}
		a, err := j.answer(t.Context())
		if err == nil && !slices.ContainsFunc(a.State, func(e *event.Event) bool { return e.Type == event.TypeCreate }) {
			t.Errorf("a state without a create event: %v", a.State)
		}
	})
}
