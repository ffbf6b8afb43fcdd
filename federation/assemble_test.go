package federation_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation"
	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/history"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/federation/intake"
	"github.com/myelin-chat/myelin/federation/membership"
	"github.com/myelin-chat/myelin/federation/network"
	peerapi "github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/query"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/federation/spaces"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/signing"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage"
)

// parts is what a server is assembled of.
type parts struct {
	db        *storage.DB
	accounts  *accounts.Accounts
	rooms     *roomserver.Server
	ephemeral *ephemeral.Server
	remote    *remote.Client
	key       signing.Key
	gate      *peerapi.Gate
	invites   membership.Invites
	now       func() time.Time
	log       *slog.Logger
}

// assembled is what other servers meet.
type assembled struct {
	federation.API
	inbox   *inbox.Inbox
	network *network.Network
}

func assemble(p parts) assembled {
	may := access.New(p.db, p.rooms)
	out := assembled{
		inbox: inbox.New(inbox.Settings{
			DB: p.db, Receive: p.rooms.Receive, SetReceipt: p.rooms.SetReceipt, Now: p.now, Log: p.log,
		}),
		network: network.New(network.Settings{Rooms: p.rooms, Remote: p.remote, Key: p.key, Now: p.now, Log: p.log}),
	}
	out.API = federation.API{
		Query: query.New(query.Settings{
			DB: p.db, Users: p.accounts, Rooms: p.rooms, Ring: p.gate.Ring, Gate: p.gate, Version: "1.2.3",
		}),
		History: history.New(history.Settings{DB: p.db, Rooms: p.rooms, Access: may, Gate: p.gate, Now: p.now}),
		Spaces:  spaces.New(spaces.Settings{DB: p.db, Rooms: p.rooms, Access: may, Gate: p.gate}),
		Membership: membership.New(membership.Settings{
			Rooms: p.rooms, Invites: p.invites, Ring: p.gate.Ring, Remote: p.remote, Access: may, Gate: p.gate, Log: p.log,
			InviteByAddress: out.network.InviteByAddress,
			UserExists: func(ctx context.Context, user matrix.UserID) error {
				_, err := p.accounts.Profile(ctx, user)
				return err
			},
		}),
		Intake: intake.New(intake.Settings{
			ToDevice: p.accounts.ReceiveToDevice, Rooms: p.rooms, Ephemeral: p.ephemeral, Ring: p.gate.Ring, Access: may,
			Inbox: out.inbox, Gate: p.gate, Now: p.now,
		}),
	}
	return out
}
