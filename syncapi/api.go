// Package syncapi tells clients what is new: /sync, with long polling.
//
// One reader follows the log of the database and keeps the recent past in
// memory (see hub): for each active room a ring of its last events and receipts,
// for each user with a client the rooms it is in. An incremental sync looks only
// at rooms that moved since its token; what the memory no longer has is read from
// the database, with the same answer. A request subscribes, then reads, then
// waits, so that nothing falls between.
package syncapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
)

// Settings is what the API is made of.
type Settings struct {
	DB        *storage.DB
	Rooms     *roomserver.Server
	Accounts  *accounts.Accounts
	Ephemeral *ephemeral.Server
	Auth      httpapi.Authenticator
	Limit     *httpapi.Limit // of /sync; nil: none
	Now       func() time.Time
	Log       *slog.Logger
}

// API answers /sync.
type API struct {
	Settings
	hub     *hub
	filters filterTexts
}

// New returns an API. It answers while Run runs.
func New(s Settings) *API {
	return &API{Settings: s, hub: newHub(s.DB)}
}

// Run follows the log until ctx ends.
func (a *API) Run(ctx context.Context) error {
	stop := a.Ephemeral.Listen(a.hub.ephemeralMoved)
	defer stop()
	return a.hub.run(ctx)
}

// Wake tells that the log moved. It never blocks, and one that is lost costs a
// moment: the log is looked at again by itself.
func (a *API) Wake() { a.hub.wake() }

// Routes lists the endpoints of the API.
func (a *API) Routes(r *httpapi.Router) {
	r.Get("/_matrix/client/v3/sync", httpapi.Authed(a.Auth, a.Limit, a.sync))
	r.Get("/_matrix/client/r0/sync", httpapi.Authed(a.Auth, a.Limit, a.sync))
}
