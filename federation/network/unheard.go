package network

import (
	"context"
	"time"

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
	now := n.now()
	for _, u := range unheard {
		waited := now.Sub(time.UnixMilli(u.SinceMS))
		if waited > tellFor || isDue(waited) && n.tellLeave(ctx, u) {
			if err := n.rooms.LeaveHeard(ctx, u); err != nil {
				return err
			}
		}
	}
	return nil
}

// isDue says whether one who looks every tellEvery should try after this time: in each of the first minutes, then when the
// time has doubled, or in every tellPause.
func isDue(unheard time.Duration) bool {
	step := tellEvery
	for step*2 <= min(unheard, tellPause) {
		step *= 2
	}
	return unheard%step < tellEvery
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
