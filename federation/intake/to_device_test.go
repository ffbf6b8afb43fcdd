package intake

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/matrix"
)

// A server that floods is told to come later, and then loses nothing. Others are not stopped by it.
func TestToDeviceFlood(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	stored := 0
	a := &API{floods: newFloods(), now: func() time.Time { return now }}
	a.toDevice = func(_ context.Context, list []accounts.RemoteToDevice) ([]accounts.RemoteToDevice, int, error) {
		stored++
		return list[1:], 16 << 20, nil
	}
	send := func(origin matrix.ServerName, letters int) (int, error) {
		before := stored
		in := &intake{api: a, origin: origin, letters: make([]accounts.RemoteToDevice, letters)}
		err := in.deliver(t.Context())
		return stored - before, err
	}
	if n, err := send("them.example", 3); n != 3 || err != nil {
		t.Errorf("48 MiB: got %d stored, %v, want 3", n, err)
	}
	n, err := send("them.example", 5)
	if n != 2 || matrix.CodeOf(err) != matrix.LimitExceeded {
		t.Errorf("80 MiB more: got %d stored, %v, want 2 and %s", n, err, matrix.LimitExceeded)
	}
	var refusal *matrix.Error
	if !errors.As(err, &refusal) || refusal.Fields["retry_after_ms"] != int64(32_001) {
		t.Errorf("got %+v, want to be told to wait for 32 seconds", refusal)
	}
	if n, err := send("third.example", 1); n != 1 || err != nil {
		t.Errorf("another server: got %d stored, %v, want 1", n, err)
	}
	if n, err := send("them.example", 0); n != 0 || err != nil {
		t.Errorf("no messages: got %v, want none stored and no error", err)
	}
	now = now.Add(32*time.Second + time.Millisecond)
	if n, err := send("them.example", 1); n != 1 || err != nil {
		t.Errorf("after the wait: got %d stored, %v, want 1", n, err)
	}
	if n, err := send("them.example", 1); n != 0 || matrix.CodeOf(err) != matrix.LimitExceeded {
		t.Errorf("and again: got %d stored, %v, want to be told to wait", n, err)
	}
}

func TestFloodsAreForgotten(t *testing.T) {
	start := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	f := newFloods()
	for i := range maxFloods {
		f.add(matrix.ServerName(fmt.Sprint("small", i)), floodPerSecond, start)
	}
	f.add("large.example", 2*floodBytes, start.Add(time.Second)) // the others are over by now
	if len(f.of) != 1 || f.wait("large.example", start.Add(time.Second)) == 0 {
		t.Errorf("%d are remembered, want the one that is not over", len(f.of))
	}
	for i := range maxFloods {
		f.add(matrix.ServerName(fmt.Sprint("large", i)), 2*floodBytes, start)
	}
	if len(f.of) > maxFloods {
		t.Errorf("%d are remembered, want %d at most", len(f.of), maxFloods)
	}
}

// A failure is told, so that the transaction comes again.
func TestToDeviceThatCannotBeStored(t *testing.T) {
	broken := errors.New("broken")
	a := &API{floods: newFloods(), now: time.Now}
	a.toDevice = func(_ context.Context, list []accounts.RemoteToDevice) ([]accounts.RemoteToDevice, int, error) {
		return list, 0, broken
	}
	in := &intake{api: a, origin: "them.example", letters: make([]accounts.RemoteToDevice, 1)}
	if err := in.deliver(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}
