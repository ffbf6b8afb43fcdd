package membership

import (
	"context"
	"log/slog"

	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Settings is what the API is made of. All are required.
type Settings struct {
	Rooms   *roomserver.Server
	Invites Invites
	Ring    *keys.Ring
	Remote  *remote.Client
	Access  *access.Access
	Gate    *peer.Gate
	Log     *slog.Logger

	// UserExists returns M_NOT_FOUND if there is no such user of this server.
	UserExists func(context.Context, matrix.UserID) error
	// InviteByAddress makes the invite of a user of any server whom a user of ours has invited by address.
	InviteByAddress func(context.Context, roomserver.ThirdPartyInvite) error
}

// API answers servers whose users come and go.
type API struct {
	rooms   *roomserver.Server
	invites Invites
	ring    *keys.Ring
	remote  *remote.Client
	access  *access.Access
	gate    *peer.Gate
	name    matrix.ServerName
	log     *slog.Logger

	userExists      func(context.Context, matrix.UserID) error
	inviteByAddress func(context.Context, roomserver.ThirdPartyInvite) error
}

// New returns an API.
func New(s Settings) *API {
	return &API{
		rooms: s.Rooms, invites: s.Invites, ring: s.Ring, remote: s.Remote, access: s.Access, gate: s.Gate,
		name: s.Rooms.ServerName(), log: s.Log, userExists: s.UserExists, inviteByAddress: s.InviteByAddress,
	}
}

// How large bodies may be.
const (
	maxEventBodyBytes = 512 << 10
	maxInviteBytes    = 4 << 20
)

// Routes lists the endpoints of the API.
func (a *API) Routes(r *httpapi.Router) {
	limit := a.gate.Limits.Membership
	r.Get("/_matrix/federation/v1/make_join/{roomID}/{userID}", peer.Signed(a.gate, limit, a.makeJoin))
	r.Get("/_matrix/federation/v1/make_leave/{roomID}/{userID}", peer.Signed(a.gate, limit, a.makeLeave))
	r.Get("/_matrix/federation/v1/make_knock/{roomID}/{userID}", peer.Signed(a.gate, limit, a.makeKnock))

	r.Put("/_matrix/federation/v1/send_join/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.sendJoinV1)))
	r.Put("/_matrix/federation/v2/send_join/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.sendJoin)))
	r.Put("/_matrix/federation/v1/send_leave/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.sendLeaveV1)))
	r.Put("/_matrix/federation/v2/send_leave/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.sendLeave)))
	r.Put("/_matrix/federation/v1/send_knock/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.sendKnock)))

	r.Put("/_matrix/federation/v1/exchange_third_party_invite/{roomID}",
		httpapi.MaxBody(maxEventBodyBytes, peer.Signed(a.gate, limit, a.exchangeThirdPartyInvite)))
	r.Put("/_matrix/federation/v1/3pid/onbind",
		httpapi.MaxBody(maxEventBodyBytes, httpapi.Open(a.gate.Limits.Heavy, a.onBind))) // each asks servers that it names

	r.Put("/_matrix/federation/v1/invite/{roomID}/{eventID}",
		httpapi.MaxBody(maxInviteBytes, peer.Signed(a.gate, limit, a.inviteV1)))
	r.Put("/_matrix/federation/v2/invite/{roomID}/{eventID}",
		httpapi.MaxBody(maxInviteBytes, peer.Signed(a.gate, limit, a.invite)))
}
