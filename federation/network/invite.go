package network

import (
	"context"

	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Invite invites a user, of this server or another. That of another has to sign the invite before it is in the room:
// nobody else hears of one that is refused.
// https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room
func (n *Network) Invite(ctx context.Context, by matrix.Requester, in roomserver.Move, direct bool) error {
	if in.Target.Server() == n.rooms.ServerName() {
		return n.rooms.Invite(ctx, by, in)
	}
	draft, err := n.rooms.DraftInvite(ctx, by, in, direct)
	if err != nil {
		return err
	}
	return n.deliver(ctx, draft)
}

// deliver has an invite signed by the server of the invited, and takes it into the room.
func (n *Network) deliver(ctx context.Context, draft roomserver.Invite) error {
	signed, err := n.remote.Invite(ctx, remote.Invite{Event: draft.Event, State: draft.State})
	if err != nil {
		return remote.Explain(err)
	}
	return n.rooms.InviteSigned(ctx, signed)
}

// InviteByAddress makes the invite of a user of any server whom a user of ours has invited by address.
func (n *Network) InviteByAddress(ctx context.Context, in roomserver.ThirdPartyInvite) error {
	draft, err := n.rooms.DraftThirdPartyInvite(ctx, in)
	if err != nil {
		return err
	}
	if in.Target.Server() == n.rooms.ServerName() {
		return n.rooms.InviteSigned(ctx, draft.Event)
	}
	return n.deliver(ctx, draft)
}
