package users

import (
	"context"
	"errors"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// ErrDevicesMoved is what a SendToDevice fails with if a device that it names is gone.
var ErrDevicesMoved = errors.New("users: a device is gone")

// A ToDeviceMessage waits for a device.
// https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging
type ToDeviceMessage struct {
	Position storage.Position // no other message for the device has it
	Sender   matrix.UserID
	Type     string
	Content  []byte // a JSON object
}

func (m *ToDeviceMessage) scan(rows storage.Rows) error {
	return rows.Scan(&m.Position, &m.Sender, &m.Type, &m.Content)
}

// ToDevice returns the messages for a device in span, oldest first, at most limit.
func ToDevice(ctx context.Context, q storage.Querier, to Address, span storage.Span, limit int) ([]ToDeviceMessage, error) {
	return storage.List(ctx, q, (*ToDeviceMessage).scan, `
		SELECT position, sender, type, content FROM to_device
		WHERE user_id = $1 AND device_id = $2 AND position > $3 AND position <= $4
		ORDER BY position LIMIT $5`, to.User, to.Device, span.After, span.UpTo, int64(limit))
}

// HasToDevice says whether any message for a device is at a position or before it.
func HasToDevice(ctx context.Context, q storage.Querier, to Address, upTo storage.Position) (bool, error) {
	_, found, err := storage.One[storage.Position](ctx, q, `
		SELECT position FROM to_device
		WHERE user_id = $1 AND device_id = $2 AND position <= $3
		ORDER BY position LIMIT 1`, to.User, to.Device, upTo)
	return found, err
}

// A FullInbox is the inbox of a device that nobody uses any more, with more messages than are kept for such a one.
type FullInbox struct {
	Of    Address
	Drop  storage.Position // up to here they are too many,
	Count int64            // and so many
}

// FullInboxes returns up to limit inboxes that hold more than kept messages and whose device was not used since a time.
func FullInboxes(ctx context.Context, q storage.Querier, unusedSinceMS int64, kept, limit int) ([]FullInbox, error) {
	scan := func(f *FullInbox, rows storage.Rows) error {
		return rows.Scan(&f.Of.User, &f.Of.Device, &f.Drop, &f.Count)
	}
	return storage.List(ctx, q, scan, `
		SELECT user_id, device_id, (
			SELECT position FROM to_device m
			WHERE m.user_id = held.user_id AND m.device_id = held.device_id
			ORDER BY position DESC LIMIT 1 OFFSET $2), messages - $2
		FROM (
			SELECT d.user_id, d.device_id, COUNT(*) AS messages
			FROM devices d JOIN to_device m ON m.user_id = d.user_id AND m.device_id = d.device_id
			WHERE d.seen_ms < $1 AND d.created_ms < $1
			GROUP BY d.user_id, d.device_id HAVING COUNT(*) > $2) AS held
		ORDER BY user_id, device_id LIMIT $3`, unusedSinceMS, int64(kept), int64(limit))
}

// DevicesOf returns the devices of each of some users, in order of ID. Users without any are left out.
func DevicesOf(ctx context.Context, q storage.Querier, list []matrix.UserID) (map[matrix.UserID][]matrix.DeviceID, error) {
	found := make(map[matrix.UserID][]matrix.DeviceID, len(list))
	err := storage.Each(ctx, q, func(rows storage.Rows) error {
		var user matrix.UserID
		var device matrix.DeviceID
		err := rows.Scan(&user, &device)
		found[user] = append(found[user], device)
		return err
	}, `
		SELECT user_id, device_id FROM devices
		WHERE user_id IN (SELECT key FROM json_each($1))
		ORDER BY user_id, device_id`, storage.Set(list...))
	return found, err
}

// KnownToDevice returns those of some keys under which something was taken in.
func KnownToDevice(ctx context.Context, q storage.Querier, keys []int64) (map[int64]bool, error) {
	list, err := storage.Collect[int64](ctx, q, `
		SELECT known_key FROM to_device_known
		WHERE known_key IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers(keys...))
	known := make(map[int64]bool, len(list))
	for _, k := range list {
		known[k] = true
	}
	return known, err
}

// HasOldToDevice says whether anything was taken in before a time that is still known.
func HasOldToDevice(ctx context.Context, q storage.Querier, beforeMS int64) (bool, error) {
	_, found, err := storage.One[int64](ctx, q, `
		SELECT known_key FROM to_device_known
		WHERE at_ms < $1 ORDER BY at_ms LIMIT 1`, beforeMS)
	return found, err
}

var toDeviceTable = storage.NewTable("to_device", storage.Fail, `
	user_id TEXT KEY, device_id TEXT KEY, position BIGINT KEY, sender TEXT, type TEXT, content TEXT`)

var toDeviceKnownTable = storage.NewTable("to_device_known", storage.Fail, "known_key BIGINT KEY, at_ms BIGINT")

// An Address is a device of a user.
type Address struct {
	User   matrix.UserID
	Device matrix.DeviceID
}

// A Letter is what one device is sent.
type Letter struct {
	To      Address
	Content []byte // a JSON object
}

// SendToDevice puts messages of one sender and type into the inboxes of devices, at one position. It fails with
// storage.ErrDuplicate if the key is known, and with ErrDevicesMoved if a device is not there.
type SendToDevice struct {
	Key     int64 // of the transaction, or of the message of another server
	Sender  matrix.UserID
	Type    string
	Letters []Letter // at most one for a device; may be empty
	AtMS    int64
}

// Rows implements storage.Write.
func (w SendToDevice) Rows(it *storage.Item) {
	it.Insert(toDeviceKnownTable, w.Key, w.AtMS)
	if len(w.Letters) == 0 {
		return
	}
	users := w.addressees()
	w.requireDevices(it, users)
	at := it.News(storage.News{Kind: storage.NewsToDevice, Value: users})
	for _, l := range w.Letters {
		it.Insert(toDeviceTable, l.To.User, l.To.Device, at, w.Sender, w.Type, string(l.Content))
	}
}

// addressees are the users whose devices the messages are for, each once.
func (w SendToDevice) addressees() []matrix.UserID {
	var list []matrix.UserID
	seen := make(map[matrix.UserID]bool, len(w.Letters))
	for _, l := range w.Letters {
		if !seen[l.To.User] {
			seen[l.To.User] = true
			list = append(list, l.To.User)
		}
	}
	return list
}

// requireDevices keeps messages from waiting for a device that was removed meanwhile, where they would wait for ever.
// One that is removed in the same group takes its messages with it.
func (w SendToDevice) requireDevices(it *storage.Item, users []matrix.UserID) {
	pairs := make([]string, len(w.Letters))
	for i, l := range w.Letters {
		pairs[i] = string(l.To.User) + " " + string(l.To.Device) // a user ID has no spaces
	}
	it.Require(ErrDevicesMoved, `
		SELECT 1 WHERE $3 = (
			SELECT COUNT(*) FROM devices
			WHERE user_id IN (SELECT key FROM json_each($1))
			AND user_id || ' ' || device_id IN (SELECT key FROM json_each($2)))`,
		storage.Set(users...), storage.Set(pairs...), int64(len(w.Letters)))
}

// ForgetToDevice forgets the messages for a device up to a position: the device has them.
type ForgetToDevice struct {
	To   Address
	UpTo storage.Position
}

// Rows implements storage.Write.
func (w ForgetToDevice) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM to_device
		WHERE user_id = $1 AND device_id = $2 AND position <= $3`, w.To.User, w.To.Device, w.UpTo)
}

// DropToDevice drops the oldest messages for a device up to a position, at most Limit, though the device has not got them.
type DropToDevice struct {
	To    Address
	UpTo  storage.Position
	Limit int
}

// Rows implements storage.Write.
func (w DropToDevice) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM to_device
		WHERE user_id = $1 AND device_id = $2 AND position <= $3 AND position <= (
			SELECT MAX(position) FROM (
				SELECT position FROM to_device
				WHERE user_id = $1 AND device_id = $2 ORDER BY position LIMIT $4) AS oldest)`,
		w.To.User, w.To.Device, w.UpTo, int64(w.Limit))
}

// ForgetKnownToDevice forgets the oldest of the keys of what was taken in before a time.
type ForgetKnownToDevice struct {
	BeforeMS int64
	Limit    int
}

// Rows implements storage.Write.
func (w ForgetKnownToDevice) Rows(it *storage.Item) {
	it.Exec(`
		DELETE FROM to_device_known WHERE known_key IN (
			SELECT known_key FROM to_device_known
			WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)`, w.BeforeMS, int64(w.Limit))
}
