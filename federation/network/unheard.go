package network

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

const (
	// tellEvery is how often it is looked who has left unheard.
	tellEvery = time.Minute
	// tellPause is the longest time between two tries to tell the servers of a room.
	tellPause = 6 * time.Hour
	// tellFor is how long it is tried.
	tellFor = 14 * 24 * time.Hour
	// tellAtOnce leaves are told of side by side: most servers that have heard of none do not answer at all.
	tellAtOnce = 16
)

// Run tells the servers of rooms that a user of ours has rejected an invite, or taken back a knock, while none of them could
// be reached, until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		if err := n.TellLeaves(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("servers were not told who has left their rooms", "cause", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// TellLeaves tells of each leave that is due, and gives up those that nobody wants to hear of. How long a leave is unheard
// says when it is due, so that nothing else need be remembered.
func (n *Network) TellLeaves(ctx context.Context) error {
	unheard, err := n.rooms.UnheardLeaves(ctx)
	if err != nil {
		return err
	}
	now, last := n.now(), n.toldAt
	if n.toldAt = now; last.IsZero() {
		last = now.Add(-tellEvery)
	}
	var all errgroup.Group
	all.SetLimit(tellAtOnce)
	for _, u := range unheard {
		since := time.UnixMilli(u.SinceMS)
		over := now.Sub(since) > tellFor
		if !over && !isDue(now.Sub(since), last.Sub(since)) {
			continue
		}
		all.Go(func() error {
			if over || n.tellLeave(ctx, u) {
				return n.rooms.LeaveHeard(ctx, u)
			}
			return nil
		})
	}
	return all.Wait()
}

// isDue says whether to try after a leave was unheard for a time, by one who looked last when it was another: in each
// tellEvery at first, then when the time has doubled, or in every tellPause.
func isDue(unheard, last time.Duration) bool {
	step := tellEvery
	for step*2 <= min(unheard, tellPause) {
		step *= 2
	}
	return last < 0 || unheard/step > last/step
}

// tellLeave says whether nobody need be told any more: a server of the room has taken the leave, or says that there is
// nothing to leave.
func (n *Network) tellLeave(ctx context.Context, u rooms.UnheardLeave) bool {
	by := matrix.Requester{Account: u.User, User: u.User}
	taken, err := n.leaveThrough(ctx, by, plan{
		in: roomserver.JoinRoom{Room: u.Room.ID}, membership: event.Leave,
		standing: roomserver.Standing{Version: u.Room.Version, Servers: u.Servers},
	})
	return taken != nil || isFinal(err) || matrix.CodeOf(err) == matrix.NotFound
}
