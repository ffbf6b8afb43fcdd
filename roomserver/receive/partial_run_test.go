package receive

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/myelin-chat/myelin/roomserver/owner"
	"github.com/myelin-chat/myelin/storage/storagetest"
)

// Rooms of which the members cannot be had take no turn from those that are tried for the first time.
func TestFirstTriesDoNotWaitForOthers(t *testing.T) {
	db := storagetest.Open(t, storagetest.SQLite)
	owners := owner.New(owner.Settings{DB: db, ServerName: "example.org", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	c := New(Settings{Owners: owners, DB: db, Remote: Alone(), Now: time.Now, Log: slog.New(slog.DiscardHandler)}).newCompleter()
	for range maxFetchedAgain {
		c.again <- struct{}{}
	}
	const whole = 1 // the number of a room that is not partial
	if err := c.tryOnce(t.Context(), whole, 0); err != nil {
		t.Errorf("the first try: got %v, want it done", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.tryOnce(over, whole, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("the second try: got %v, want it to wait for its turn", err)
	}
}
