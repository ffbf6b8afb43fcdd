package network

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Leave takes a user of ours out of a room. In a room that this server is not in, that is to reject an invite or to take
// back a knock: a server that is in it is asked to take note, and if none can be reached the user is rid of it all the
// same, and Run tells one when it can.
// https://spec.matrix.org/v1.19/server-server-api/#leaving-rooms-rejecting-invites
func (n *Network) Leave(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	standing, err := n.rooms.Standing(ctx, by.User, room)
	if err != nil {
		return err
	}
	switch m := standing.Membership; {
	case standing.Resident:
		return n.rooms.Leave(ctx, by, room, reason)
	case m == event.Leave:
		return nil
	case m != event.Invite && m != event.Knock:
		return n.rooms.Leave(ctx, by, room, reason)
	}
	in := plan{in: roomserver.JoinRoom{Room: room, Reason: reason}, membership: event.Leave, standing: standing}
	taken, _ := n.leaveThrough(ctx, by, in) // else it is tried again later
	return n.rooms.Left(ctx, by.User, room, taken)
}

// leaveThrough returns the leave that a server of the room has taken; nil, and why, if none has.
func (n *Network) leaveThrough(ctx context.Context, by matrix.Requester, in plan) (taken *event.Event, err error) {
	ctx, cancel := detached(ctx, rejectTimeout)
	defer cancel()
	v, err := n.begin(ctx, by, in)
	if err != nil {
		return nil, err
	}
	err = v.each(ctx, func(ctx context.Context, s matrix.ServerName) error {
		template, err := n.remote.MakeLeave(ctx, v.at(s))
		if err != nil {
			return err
		}
		leave, err := n.event(v, template)
		if err != nil {
			return err
		}
		if leave.Version != in.standing.Version {
			return matrix.Errorf(matrix.UnsupportedRoomVersion, "%s has version %s", v.room, in.standing.Version.ID)
		}
		if err := n.remote.SendLeave(ctx, s, leave); err != nil {
			return err
		}
		taken = leave
		return nil
	})
	return taken, err
}
