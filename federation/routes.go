package federation

import "github.com/myelin-chat/myelin/httpapi"

// How large bodies may be, where it is another size than httpapi.DefaultMaxBody.
const (
	maxTransactionBytes = 16 << 20 // 50 PDUs and 100 EDUs of 64 KiB are 10 MB; escapes make them longer
	maxEventBodyBytes   = 512 << 10
	maxInviteBytes      = 4 << 20
	maxQueryBytes       = 64 << 10
)

// Routes lists the endpoints of the API.
//
// Each line says who may call: everybody (httpapi.Open), or servers that sign their request (server); and which limit
// binds them.
func (a *API) Routes(r *httpapi.Router) {
	a.keyRoutes(r)
	a.queryRoutes(r)
	a.roomRoutes(r)
	a.membershipRoutes(r)
}

// keyRoutes is what the server says of itself, and of the keys of others.
func (a *API) keyRoutes(r *httpapi.Router) {
	open := a.limits.Address
	r.Get("/_matrix/key/v2/server", httpapi.Open(open, a.serverKeys))
	r.Get("/_matrix/key/v2/server/{keyID}", httpapi.Open(open, a.serverKeys))
	r.Post("/_matrix/key/v2/query", httpapi.MaxBody(maxQueryBytes, httpapi.Open(open, a.queryKeys)))
	r.Get("/_matrix/key/v2/query/{serverName}", httpapi.Open(open, a.queryServerKeys))
	r.Get("/_matrix/federation/v1/version", httpapi.Open(open, a.programVersion))
	r.Get("/_matrix/federation/v1/openid/userinfo", httpapi.Open(open, a.openIDUserInfo))
}

// queryRoutes is about users of this server, and finding its rooms.
func (a *API) queryRoutes(r *httpapi.Router) {
	limits := a.limits
	r.Get("/_matrix/federation/v1/query/profile", server(a, limits.Read, a.queryProfile))
	r.Get("/_matrix/federation/v1/query/directory", server(a, limits.Read, a.queryDirectory))
	r.Get("/_matrix/federation/v1/query/{queryType}", server(a, limits.Read, a.queryOther))
	r.Get("/_matrix/federation/v1/publicRooms", server(a, limits.Read, a.publicRooms))
	r.Post("/_matrix/federation/v1/publicRooms", httpapi.MaxBody(maxQueryBytes, server(a, limits.Read, a.searchPublicRooms)))
	r.Get("/_matrix/federation/v1/hierarchy/{roomID}", server(a, limits.Heavy, a.hierarchy))

	r.Get("/_matrix/federation/v1/user/devices/{userID}", server(a, limits.Read, a.userDevices))
	r.Post("/_matrix/federation/v1/user/keys/query", server(a, limits.Read, a.queryUserKeys))
	r.Post("/_matrix/federation/v1/user/keys/claim", server(a, limits.Read, a.claimUserKeys))
}

// roomRoutes is about the events of rooms that both servers are in.
func (a *API) roomRoutes(r *httpapi.Router) {
	limits := a.limits
	r.Put("/_matrix/federation/v1/send/{txnID}",
		httpapi.MaxBody(maxTransactionBytes, server(a, limits.Transaction, a.send)))

	r.Get("/_matrix/federation/v1/event/{eventID}", server(a, limits.Read, a.event))
	r.Get("/_matrix/federation/v1/event_auth/{roomID}/{eventID}", server(a, limits.Read, a.eventAuth))
	r.Get("/_matrix/federation/v1/state/{roomID}", server(a, limits.Heavy, a.state))
	r.Get("/_matrix/federation/v1/state_ids/{roomID}", server(a, limits.Heavy, a.stateIDs))
	r.Get("/_matrix/federation/v1/backfill/{roomID}", server(a, limits.Read, a.backfill))
	r.Post("/_matrix/federation/v1/get_missing_events/{roomID}",
		httpapi.MaxBody(maxQueryBytes, server(a, limits.Read, a.missingEvents)))
}

// membershipRoutes is about who enters rooms and leaves them by way of this server.
func (a *API) membershipRoutes(r *httpapi.Router) {
	limits := a.limits
	r.Get("/_matrix/federation/v1/make_join/{roomID}/{userID}", server(a, limits.Membership, a.makeJoin))
	r.Get("/_matrix/federation/v1/make_leave/{roomID}/{userID}", server(a, limits.Membership, a.makeLeave))
	r.Get("/_matrix/federation/v1/make_knock/{roomID}/{userID}", server(a, limits.Membership, a.makeKnock))

	r.Put("/_matrix/federation/v1/send_join/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.sendJoinV1)))
	r.Put("/_matrix/federation/v2/send_join/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.sendJoin)))
	r.Put("/_matrix/federation/v1/send_leave/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.sendLeaveV1)))
	r.Put("/_matrix/federation/v2/send_leave/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.sendLeave)))
	r.Put("/_matrix/federation/v1/send_knock/{roomID}/{eventID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.sendKnock)))

	r.Put("/_matrix/federation/v1/exchange_third_party_invite/{roomID}",
		httpapi.MaxBody(maxEventBodyBytes, server(a, limits.Membership, a.exchangeThirdPartyInvite)))
	r.Put("/_matrix/federation/v1/3pid/onbind",
		httpapi.MaxBody(maxEventBodyBytes, httpapi.Open(limits.Address, a.onBind)))

	r.Put("/_matrix/federation/v1/invite/{roomID}/{eventID}",
		httpapi.MaxBody(maxInviteBytes, server(a, limits.Membership, a.inviteV1)))
	r.Put("/_matrix/federation/v2/invite/{roomID}/{eventID}",
		httpapi.MaxBody(maxInviteBytes, server(a, limits.Membership, a.invite)))
}
