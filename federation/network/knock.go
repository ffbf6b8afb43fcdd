package network

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Knock asks for a user of ours to be let into a room, through the servers that via names if this server is not in it.
// https://spec.matrix.org/v1.19/server-server-api/#knocking-rooms
func (n *Network) Knock(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	standing, err := n.rooms.Standing(ctx, by.User, in.Room)
	if err != nil {
		return err
	}
	if standing.Resident {
		return n.rooms.Knock(ctx, by, in.Room, in.Reason)
	}
	ctx, cancel := detached(ctx, visitTimeout)
	defer cancel()
	done, err := n.turns.take(ctx, in.Room)
	if err != nil {
		return err
	}
	defer done()
	v, err := n.begin(ctx, by, plan{in: in, membership: event.Knock, standing: standing, via: via})
	if err != nil {
		return err
	}
	return v.each(ctx, func(ctx context.Context, s matrix.ServerName) error { return n.knockThrough(ctx, v, s) })
}

func (n *Network) knockThrough(ctx context.Context, v visit, s matrix.ServerName) error {
	template, err := n.remote.MakeKnock(ctx, v.at(s))
	if err != nil {
		return err
	}
	knock, err := n.event(v, template)
	if err != nil {
		return err
	}
	told, err := n.remote.SendKnock(ctx, s, knock)
	if err != nil {
		return err
	}
	return n.rooms.Knocked(ctx, knock, told.Events)
}
