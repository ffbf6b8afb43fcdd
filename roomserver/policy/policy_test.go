package policy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// A policy server that cannot be reached rests for longer and longer, until it is reached.
func TestPauses(t *testing.T) {
	now := time.Unix(1000, 0)
	var answer error
	asked := 0
	servers := New("here.org", func() time.Time { return now }, func(context.Context, Server, *event.Event) (*event.Event, error) {
		asked++
		return nil, answer
	})
	ask := func(err error) {
		t.Helper()
		answer = err
		if _, got := servers.Sign(context.Background(), Server{Name: "policy.org"}, nil); got == nil || IsUnasked(got) {
			t.Fatalf("got %v, want what %v comes to", got, err)
		}
	}
	dead, refusal := errors.New("dead"), matrix.Errorf(matrix.Forbidden, "spam")
	for i, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		asked = 0
		ask(dead)
		now = now.Add(pause*time.Second - 1)
		ask(dead)
		if asked != 1 {
			t.Errorf("after failure %d it was asked again within %d s", i+1, pause)
		}
		now = now.Add(1)
	}
	ask(refusal)
	ask(dead)
	now = now.Add(time.Second)
	if asked = 0; true {
		ask(refusal)
	}
	if asked != 1 {
		t.Error("that it was reached is forgotten: it still rests after a second")
	}
}

// Who has no time to wait for a turn, or for the answer, learns nothing.
func TestUnasked(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	down := false
	servers := New("here.org", time.Now, func(ctx context.Context, _ Server, _ *event.Event) (*event.Event, error) {
		down = ctx.Err() == nil
		return nil, errors.New("dead")
	})
	for range 2 * MaxAsked {
		if _, err := servers.Sign(over, Server{Name: "policy.org"}, nil); !IsUnasked(err) || matrix.CodeOf(err) != matrix.LimitExceeded {
			t.Fatalf("got %v, want that it was not asked", err)
		}
	}
	if _, err := servers.Sign(context.Background(), Server{Name: "policy.org"}, nil); IsUnasked(err) || !down {
		t.Errorf("got %v, want that it is asked, and cannot be reached", err)
	}
}
