package history

import (
	"time"

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
	Now    func() time.Time
}

// API answers for the events of rooms.
type API struct {
	db     *storage.DB
	rooms  *roomserver.Server
	access *access.Access
	gate   *peer.Gate
	now    func() time.Time
}

// New returns an API.
func New(s Settings) *API {
	return &API{db: s.DB, rooms: s.Rooms, access: s.Access, gate: s.Gate, now: s.Now}
}

const maxQueryBytes = 64 << 10

// Routes lists the endpoints of the API.
func (a *API) Routes(r *httpapi.Router) {
	g, limits := a.gate, a.gate.Limits
	r.Get("/_matrix/federation/v1/event/{eventID}", peer.Signed(g, limits.Read, a.event))
	r.Get("/_matrix/federation/v1/event_auth/{roomID}/{eventID}", peer.Signed(g, limits.Read, a.eventAuth))
	r.Get("/_matrix/federation/v1/state/{roomID}", peer.Signed(g, limits.Heavy, a.state))
	r.Get("/_matrix/federation/v1/state_ids/{roomID}", peer.Signed(g, limits.Heavy, a.stateIDs))
	r.Get("/_matrix/federation/v1/backfill/{roomID}", peer.Signed(g, limits.Read, a.backfill))
	r.Get("/_matrix/federation/v1/timestamp_to_event/{roomID}", peer.Signed(g, limits.Read, a.timestampToEvent))
	r.Post("/_matrix/federation/v1/get_missing_events/{roomID}",
		httpapi.MaxBody(maxQueryBytes, peer.Signed(g, limits.Read, a.missingEvents)))
}
