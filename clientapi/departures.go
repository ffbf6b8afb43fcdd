package clientapi

import (
	"context"
	"fmt"
	"time"

	"github.com/myelin-chat/myelin/matrix"
)

// departAgain is how long after a failure the rest of the rooms is left. Rooms fail rarely, and for long.
const departAgain = 10 * time.Minute

// Run takes users whose account has ended out of the rooms that they are still in, because the server stopped in
// between or a room failed. It returns when ctx ends.
func (a *API) Run(ctx context.Context) error {
	ticker := time.NewTicker(departAgain)
	defer ticker.Stop()
	for {
		if err := a.finishDepartures(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("users whose account has ended are still in rooms", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// finishDepartures does what is left to do now. A user who fails does not keep the others.
func (a *API) finishDepartures(ctx context.Context) error {
	departing, err := a.accounts.Departing(ctx)
	if err != nil {
		return fmt.Errorf("find the users whose account has ended: %w", err)
	}
	for _, user := range departing {
		if failed := a.depart(ctx, user); failed != nil {
			err = failed
		}
	}
	return err
}

// depart takes a user whose account has ended out of all rooms. Of two calls at once for a user, the second waits for
// the first and has its outcome.
func (a *API) depart(ctx context.Context, user matrix.UserID) error {
	_, err, _ := a.departures.Do(string(user), func() (any, error) {
		if err := a.rooms.LeaveAll(ctx, user); err != nil {
			return nil, fmt.Errorf("take %s, whose account has ended, out of all rooms: %w", user, err)
		}
		return nil, a.accounts.Departed(ctx, user)
	})
	return err
}
