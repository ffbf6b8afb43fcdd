// Package clientapi is what clients call, except /sync and media: accounts and sessions, profiles, devices, account data,
// presence, and everything about rooms.
//
// An endpoint, or a family of small ones, has a file of its own, with its request and response types beside the handler.
// Which endpoints there are, who may call them and how often, stands in one table, in routes.go. A handler reads the
// request and writes the answer; what the request means is the business of accounts, roomserver and
// roomserver/ephemeral. Events are shown to clients through roomserver/view only.
//
// A user ID in a path that has to be the caller's own is compared with the user that the caller acts as. Changes of a
// profile are carried into the user's rooms here, and so is the end of an account, since accounts knows nothing of
// rooms.
package clientapi

import (
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
)

// Settings is what the API is made of.
type Settings struct {
	DB                 *storage.DB
	Accounts           *accounts.Accounts
	Rooms              *roomserver.Server
	Network            Network // nil: this server reaches no others
	Ephemeral          *ephemeral.Server
	Limits             httpapi.Limits
	DefaultRoomVersion matrix.RoomVersion
	WellKnown          WellKnown
	TURN               TURN
	Now                func() time.Time
	Log                *slog.Logger
}

// API answers clients.
type API struct {
	db          *storage.DB
	accounts    *accounts.Accounts
	rooms       *roomserver.Server
	network     Network
	ephemeral   *ephemeral.Server
	limits      httpapi.Limits
	roomVersion matrix.RoomVersion // of new rooms
	wellKnown   WellKnown
	turn        TURN
	now         func() time.Time
	log         *slog.Logger
	departures  singleflight.Group // of users whose account has ended, by user
}

// New returns an API.
func New(s Settings) *API {
	if s.Network == nil {
		s.Network = alone{s.Rooms}
	}
	return &API{
		db: s.DB, accounts: s.Accounts, rooms: s.Rooms, network: s.Network, ephemeral: s.Ephemeral, limits: s.Limits,
		roomVersion: s.DefaultRoomVersion, wellKnown: s.WellKnown, turn: s.TURN,
		now: s.Now, log: s.Log,
	}
}

// own refuses a request whose path names another user than the caller.
func own(c *httpapi.Call) error {
	if c.Path("userID") != string(c.User) {
		return matrix.Errorf(matrix.Forbidden, "this can be done for oneself only")
	}
	return nil
}
