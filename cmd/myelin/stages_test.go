package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// diary notes in which order members end.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) member(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, name)
		return ctx.Err()
	}
}

func TestStagesStopInOrder(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		last func(cancel func()) error // what the last stage's second member does
		want error
	}{
		{"told to stop", func(cancel func()) error { cancel(); return nil }, nil},
		{"a member fails", func(func()) error { return broken }, broken},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var d diary
			err := runStages(ctx,
				stage{d.member("http"), d.member("http")},
				stage{d.member("rooms")},
				stage{d.member("database")},
				stage{func(context.Context) error { return test.last(cancel) }},
			)
			if !errors.Is(err, test.want) {
				t.Errorf("got error %v, want %v", err, test.want)
			}
			if got, want := strings.Join(d.lines, " "), "http http rooms database"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestAMemberThatReturnsStopsAll(t *testing.T) {
	var d diary
	err := runStages(t.Context(), stage{d.member("a"), func(context.Context) error { return nil }}, stage{d.member("b")})
	if got := strings.Join(d.lines, " "); err != nil || got != "a b" {
		t.Errorf("got %q and %v, want a b and no error", got, err)
	}
}
