// Package intake takes in what other servers send: it reads transactions, checks their events and who may send them,
// gives what is for the moment (typing, presence) to whom it concerns, messages to devices to the accounts, and the rest to
// the inbox.
//
// https://spec.matrix.org/v1.19/server-server-api/#transactions
package intake

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation/access"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
)

// Settings is what the API is made of. All are required.
type Settings struct {
	ToDevice  ToDevice
	Rooms     *roomserver.Server
	Ephemeral *ephemeral.Server
	Ring      *keys.Ring
	Access    *access.Access
	Inbox     *inbox.Inbox
	Gate      *peer.Gate
	Now       func() time.Time
}

// ToDevice is accounts.Accounts.ReceiveToDevice.
type ToDevice func(context.Context, []accounts.RemoteToDevice) (rest []accounts.RemoteToDevice, bytes int, err error)

// API takes transactions.
type API struct {
	toDevice  ToDevice
	rooms     *roomserver.Server
	ephemeral *ephemeral.Server
	ring      *keys.Ring
	access    *access.Access
	inbox     *inbox.Inbox
	gate      *peer.Gate
	name      matrix.ServerName
	now       func() time.Time
	floods    *floods

	sending singleflight.Group // transactions being taken in, by origin and ID
}

// New returns an API.
func New(s Settings) *API {
	return &API{
		toDevice: s.ToDevice, rooms: s.Rooms, ephemeral: s.Ephemeral, ring: s.Ring, access: s.Access, inbox: s.Inbox,
		gate: s.Gate, name: s.Rooms.ServerName(), now: s.Now, floods: newFloods(),
	}
}

// maxTransactionBytes: 50 PDUs and 100 EDUs of 64 KiB are 10 MB; escapes make them longer.
const maxTransactionBytes = 16 << 20

// Routes lists the endpoints of the API.
func (a *API) Routes(r *httpapi.Router) {
	r.Put("/_matrix/federation/v1/send/{txnID}",
		httpapi.MaxBody(maxTransactionBytes, peer.Signed(a.gate, a.gate.Limits.Transaction, a.send)))
}
