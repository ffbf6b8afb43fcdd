// Package spaces describes spaces and the rooms in them to other servers, as far as these could enter them or read along.
//
// https://spec.matrix.org/v1.19/server-server-api/#spaces
package spaces

import (
	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
)

// Settings is what the API is made of. All are required.
type Settings struct {
	DB     *storage.DB
	Rooms  *roomserver.Server
	Access *access.Access
	Gate   *peer.Gate
}

// API describes spaces.
type API struct {
	db     *storage.DB
	rooms  *roomserver.Server
	access *access.Access
	gate   *peer.Gate
}

// New returns an API.
func New(s Settings) *API {
	return &API{db: s.DB, rooms: s.Rooms, access: s.Access, gate: s.Gate}
}

// Routes lists the endpoints of the API.
func (a *API) Routes(r *httpapi.Router) {
	r.Get("/_matrix/federation/v1/hierarchy/{roomID}", peer.Signed(a.gate, a.gate.Limits.Heavy, a.hierarchy))
}
