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
	// knownToDevice is how long a repeat of a transaction, or of a message of another server, is known. One that comes
	// later is taken for new, and delivered again.
	knownToDevice = 7 * 24 * time.Hour

	// unusedAfter is how long a device was not used when its inbox is bounded, to maxUnusedInbox messages, those that came
	// last. It would take a hundred requests to be told of so many.
	unusedAfter    = 30 * 24 * time.Hour
	maxUnusedInbox = 10_000
	trimEvery      = time.Hour
	trimAtOnce     = 100 // inboxes

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

// trimInboxes drops, once in trimEvery, what is too much in the inboxes of devices that nobody uses. Only Run calls it.
func (a *Accounts) trimInboxes(ctx context.Context) error {
	nowMS := a.nowMS()
	if nowMS < a.trimmedMS+trimEvery.Milliseconds() {
		return nil
	}
	full, err := users.FullInboxes(ctx, a.db, nowMS-unusedAfter.Milliseconds(), maxUnusedInbox, trimAtOnce)
	if err != nil {
		return err
	}
	for _, f := range full {
		for left := f.Count; left > 0; left -= forgetAtOnce { // a large commit would stop others
			if _, err := a.db.Commit(ctx, users.DropToDevice{To: f.Of, UpTo: f.Drop, Limit: forgetAtOnce}); err != nil {
				return err
			}
			a.dropped.Add(min(left, forgetAtOnce))
		}
	}
	if len(full) < trimAtOnce {
		a.trimmedMS = nowMS // else there are more, which are next
	}
	return nil
}

// DroppedMessages counts the messages that were dropped since the start because nobody came for them.
func (a *Accounts) DroppedMessages() int64 { return a.dropped.Load() }
