package query

import (
	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
)

// Settings is what the API is made of. All are required.
type Settings struct {
	DB      *storage.DB
	Users   *accounts.Accounts
	Rooms   *roomserver.Server
	Ring    *keys.Ring
	Gate    *peer.Gate
	Version string // of this program
}

// API answers what is asked.
type API struct {
	db      *storage.DB
	users   *accounts.Accounts
	rooms   *roomserver.Server
	ring    *keys.Ring
	gate    *peer.Gate
	name    matrix.ServerName
	version string
}

// New returns an API.
func New(s Settings) *API {
	return &API{
		db: s.DB, users: s.Users, rooms: s.Rooms, ring: s.Ring, gate: s.Gate, name: s.Rooms.ServerName(), version: s.Version,
	}
}

const maxQueryBytes = 64 << 10

// Routes lists the endpoints of the API.
//
// Each line says who may call: everybody (httpapi.Open), or servers that sign their request (peer.Signed); and which
// limit binds them.
func (a *API) Routes(r *httpapi.Router) {
	open := a.gate.Limits.Address
	r.Get("/_matrix/key/v2/server", httpapi.Open(open, a.serverKeys))
	r.Get("/_matrix/key/v2/server/{keyID}", httpapi.Open(open, a.serverKeys))
	r.Post("/_matrix/key/v2/query", httpapi.MaxBody(maxQueryBytes, httpapi.Open(open, a.queryKeys)))
	r.Get("/_matrix/key/v2/query/{serverName}", httpapi.Open(open, a.queryServerKeys))
	r.Get("/_matrix/federation/v1/version", httpapi.Open(open, a.programVersion))
	r.Get("/_matrix/federation/v1/openid/userinfo", httpapi.Open(open, a.openIDUserInfo))

	g, read := a.gate, a.gate.Limits.Read
	r.Get("/_matrix/federation/v1/query/profile", peer.Signed(g, read, a.queryProfile))
	r.Get("/_matrix/federation/v1/query/directory", peer.Signed(g, read, a.queryDirectory))
	r.Get("/_matrix/federation/v1/query/{queryType}", peer.Signed(g, read, a.queryOther))
	r.Get("/_matrix/federation/v1/publicRooms", peer.Signed(g, read, a.publicRooms))
	r.Post("/_matrix/federation/v1/publicRooms", httpapi.MaxBody(maxQueryBytes, peer.Signed(g, read, a.searchPublicRooms)))

	r.Get("/_matrix/federation/v1/user/devices/{userID}", peer.Signed(g, read, a.userDevices))
	r.Post("/_matrix/federation/v1/user/keys/query", peer.Signed(g, read, a.queryUserKeys))
	r.Post("/_matrix/federation/v1/user/keys/claim", peer.Signed(g, read, a.claimUserKeys))
}
