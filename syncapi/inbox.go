package syncapi

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
)

// Limits of the messages to a device in one answer. The rest goes into the next, which does not wait.
const (
	maxToDevice      = 100
	maxToDeviceBytes = 2 << 20 // one message more than fits in
)

// toDevice adds the messages that wait for the device, and returns up to where the client will have them.
// https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync
func (b *builder) toDevice(ctx context.Context) (upTo storage.Position, err error) {
	told := b.req.told.ToDevice
	if b.req.by.Device == "" || b.look.inbox <= told {
		return b.look.position, nil
	}
	list, err := b.api.Accounts.Inbox(ctx, b.req.by, storage.Span{After: told, UpTo: b.look.position}, maxToDevice+1)
	if err != nil {
		return 0, err
	}
	upTo = b.look.position
	for i, m := range list {
		if i == maxToDevice || len(b.out.toDevice) > maxToDeviceBytes {
			upTo = list[i-1].Position
			break
		}
		l := append(b.out.toDevice.next(), `{"content":`...)
		l = append(append(l, m.Content...), `,"sender":`...)
		l = canonical.AppendString(l, string(m.Sender))
		l = canonical.AppendString(append(l, `,"type":`...), m.Type)
		b.out.toDevice = append(l, '}')
	}
	if len(list) > 0 {
		b.user.gave(b.req.by.Device, upTo)
	}
	return upTo, nil
}

// acknowledge removes the messages that the client has, as it comes with the token that it got with them. If that
// fails it is done by a later token: the client is not told of them again in any case.
func (a *API) acknowledge(ctx context.Context, u *user, r *request) {
	device, upTo := r.by.Device, r.since.ToDevice
	if r.initial || device == "" || !u.mayHold(device, upTo) {
		return
	}
	if err := a.Accounts.EmptyInbox(ctx, r.by, upTo); err != nil {
		a.Log.Warn("messages that a device has were not removed", "cause", err)
		return
	}
	u.emptied(device, upTo)
}

// maxInboxes bounds the devices of one user of which it is remembered what they were given. Forgetting costs a look
// into the database.
const maxInboxes = 100

// gave notes that a device was given its messages up to a position.
func (u *user) gave(device matrix.DeviceID, upTo storage.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.setGiven(device, max(u.given[device], upTo))
}

// mayHold says whether the inbox of a device may hold messages up to a position, as far as is known.
func (u *user) mayHold(device matrix.DeviceID, upTo storage.Position) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	given, known := u.given[device]
	return !known || given > 0 && given <= upTo
}

// emptied notes that the inbox of a device holds none up to a position.
func (u *user) emptied(device matrix.DeviceID, upTo storage.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.given[device] <= upTo {
		u.setGiven(device, 0)
	}
}

func (u *user) setGiven(device matrix.DeviceID, upTo storage.Position) {
	if _, known := u.given[device]; !known && len(u.given) >= maxInboxes || u.given == nil {
		u.given = map[matrix.DeviceID]storage.Position{}
	}
	u.given[device] = upTo
}
