package federation

import (
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
)

// Settings is what the API is made of. All but Heard are required.
type Settings struct {
	DB        *storage.DB
	Ring      *keys.Ring
	Client    *outbound.Client // says which servers are talked to
	Accounts  *accounts.Accounts
	Rooms     *roomserver.Server
	Network   *Network
	Invites   Invites
	Ephemeral *ephemeral.Server
	Limits    Limits
	Heard     func(matrix.ServerName) // told that a server has spoken; must not block
	Version   string                  // of this program
	Now       func() time.Time
	Log       *slog.Logger
}

// API answers other servers. Run works off what they send.
type API struct {
	db        *storage.DB
	ring      *keys.Ring
	client    *outbound.Client
	accounts  *accounts.Accounts
	rooms     *roomserver.Server
	network   *Network
	invites   Invites
	ephemeral *ephemeral.Server
	limits    Limits
	heard     func(matrix.ServerName)
	name      matrix.ServerName
	version   string
	now       func() time.Time
	log       *slog.Logger

	acls       acls
	residences residences
	inbox      *inbox
	sending    singleflight.Group // transactions being taken in, by origin and ID
}

// New returns an API.
func New(s Settings) *API {
	if s.Heard == nil {
		s.Heard = func(matrix.ServerName) {}
	}
	return &API{
		db: s.DB, ring: s.Ring, client: s.Client, accounts: s.Accounts, rooms: s.Rooms, network: s.Network, invites: s.Invites,
		ephemeral: s.Ephemeral, limits: s.Limits, heard: s.Heard, name: s.Rooms.ServerName(), version: s.Version,
		now: s.Now, log: s.Log,
		inbox: newInbox(inboxSettings{DB: s.DB, Rooms: s.Rooms, Now: s.Now, Log: s.Log}),
	}
}
