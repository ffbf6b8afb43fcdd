package accounts

import (
	"context"
	"time"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// ToDeviceMessage is a message that waits for a device.
type ToDeviceMessage = users.ToDeviceMessage

// Inbox returns the messages that came for the requester's device in a span of the log, oldest first, at most limit.
// https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync
func (a *Accounts) Inbox(ctx context.Context, who matrix.Requester, span storage.Span, limit int) ([]ToDeviceMessage, error) {
	return users.ToDevice(ctx, a.db, addressOf(who), span, limit)
}

// EmptyInbox removes the messages for the requester's device up to a position: the device has them. It only writes if
// there are any.
func (a *Accounts) EmptyInbox(ctx context.Context, who matrix.Requester, upTo storage.Position) error {
	some, err := users.HasToDevice(ctx, a.db, addressOf(who), upTo)
	if err != nil || !some {
		return err
	}
	_, err = a.db.Commit(ctx, users.ForgetToDevice{To: addressOf(who), UpTo: upTo})
	return err
}

func addressOf(who matrix.Requester) users.Address {
	return users.Address{User: who.User, Device: who.Device}
}

const (
	// knownToDevice is how long a repeat of a transaction, or of a message of another server, is known.
	knownToDevice = 7 * 24 * time.Hour

	forgetAtOnce    = 1000
	maxForgetRounds = 50
)

// forgetKnown forgets what was taken in long ago. It looks before it writes: an idle server writes nothing.
func (a *Accounts) forgetKnown(ctx context.Context) error {
	beforeMS := a.nowMS() - knownToDevice.Milliseconds()
	for range maxForgetRounds {
		old, err := users.HasOldToDevice(ctx, a.db, beforeMS)
		if err != nil || !old {
			return err
		}
		if _, err := a.db.Commit(ctx, users.ForgetKnownToDevice{BeforeMS: beforeMS, Limit: forgetAtOnce}); err != nil {
			return err
		}
	}
	return nil
}
