package membership

import (
	"context"
	"time"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
)

// exchangeThirdPartyInvite makes an invite of one that a user of this server made to an e-mail address or a telephone
// number, for the user of another server whose that is.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid
func (a *API) exchangeThirdPartyInvite(ctx context.Context, c *peer.Call, in *remote.ThirdPartyInvite) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	content := objectOf(in.Content)
	membership, _ := canonical.String(canonical.Get(content, "membership"))
	signed := canonical.Get(content, "third_party_invite", "signed")
	target, err := matrix.ParseUserID(string(in.StateKey))
	switch {
	case in.Type != event.TypeMember || membership != string(event.Invite):
		return nil, invalid("this is not an invite")
	case in.RoomID != room:
		return nil, invalid("the invite is to %s, the request about %s", in.RoomID, room)
	case !isObject(signed):
		return nil, invalid("nothing is signed")
	case err != nil || target.Server() != c.Origin:
		return nil, invalid("%q is not a user of %s", in.StateKey, c.Origin)
	}
	if err := a.access.Check(ctx, c.Origin, room); err != nil {
		return nil, err
	}
	return nil, a.inviteByAddress(ctx, roomserver.ThirdPartyInvite{Room: room, Target: target, Signed: signed})
}

const (
	// maxPendingInvites is how many invites one address can bring. Each makes a request to a server that the caller names.
	maxPendingInvites = 10
	onBindTimeout     = time.Minute
)

// onBind is told by an identity server that an address is that of a user of this server, and of the invites to it. That
// is true if the server of who made the invite finds it to be signed: who calls is not asked.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind
func (a *API) onBind(ctx context.Context, _ *httpapi.Call, in *remote.OnBind) (*httpapi.None, error) {
	if len(in.Invites) > maxPendingInvites {
		return nil, matrix.Errorf(matrix.TooLarge, "more than %d invites", maxPendingInvites)
	}
	if err := a.userExists(ctx, in.UserID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, onBindTimeout)
	defer cancel()
	for _, pending := range in.Invites {
		if err := a.takePending(ctx, in.UserID, pending); err != nil {
			// The others may be good, and the caller can do nothing about this one.
			a.log.Debug("an invite by address came to nothing", "room", pending.RoomID, "cause", err)
		}
	}
	return nil, nil
}

// takePending asks for the invite of a user of ours, to whose address there is one.
func (a *API) takePending(ctx context.Context, user matrix.UserID, p remote.PendingInvite) error {
	room, err := matrix.ParseRoomID(string(p.RoomID))
	if err != nil {
		return err
	}
	sender, err := matrix.ParseUserID(string(p.Sender))
	if err != nil {
		return err
	}
	signed := objectOf(p.Signed)
	if mxid, _ := canonical.String(canonical.Get(signed, "mxid")); mxid != string(user) || p.UserID != user {
		return invalid("the invite is for another than %s", user)
	}
	if sender.Server() == a.name {
		return a.inviteByAddress(ctx, roomserver.ThirdPartyInvite{Room: room, Target: user, Signed: signed})
	}
	content := append([]byte(`{"membership":"invite","third_party_invite":{"signed":`), signed...)
	return a.remote.ExchangeThirdPartyInvite(ctx, sender.Server(), remote.ThirdPartyInvite{
		Type: event.TypeMember, RoomID: room, Sender: sender, StateKey: user, Content: append(content, `}}`...),
	})
}
