package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/servers"
	"github.com/myelin-chat/myelin/storage/users"
)

// DirectToDevice is the type of the EDU by which servers hand each other messages to devices.
// https://spec.matrix.org/v1.19/server-server-api/#mdirect_to_device
const DirectToDevice = "m.direct_to_device"

const (
	maxEDUContent    = 60 << 10 // bytes of messages in an EDU that we send, if there is more than one
	messageIDBytes   = 12       // of randomness
	maxMessageID     = 255      // bytes
	maxRemoteContent = 256 << 10
	maxBatchLetters  = 1000 // after so many, others come first
	letterOverhead   = 200  // bytes of a row besides its content
)

// owe makes the writes by which other servers are owed messages. Each EDU has its ID from the start, so that it is the
// same however often it is sent.
func (a *Accounts) owe(m *message, theirs map[matrix.ServerName]DeviceMessages) ([]storage.Write, error) {
	var writes []storage.Write
	for _, server := range slices.Sorted(maps.Keys(theirs)) {
		if a.settings.Permits == nil || a.settings.Permits(server) != nil {
			continue
		}
		for _, messages := range splitMessages(theirs[server]) {
			id, err := a.randomText(messageIDBytes)
			if err != nil {
				return nil, err
			}
			writes = append(writes, servers.OweEDU{
				Servers: []matrix.ServerName{server}, Type: DirectToDevice, Key: id,
				Content: m.edu(id, messages), NowMS: a.nowMS(),
			})
		}
	}
	return writes, nil
}

// edu is the content of an EDU with messages, which are a JSON object.
func (m *message) edu(id string, messages []byte) []byte {
	b := canonical.AppendString([]byte(`{"message_id":`), id)
	b = append(append(b, `,"messages":`...), messages...)
	b = canonical.AppendString(append(b, `,"sender":`...), string(m.sender))
	b = canonical.AppendString(append(b, `,"type":`...), m.typ)
	return append(b, '}')
}

// splitMessages writes messages as JSON objects, as many as are needed to keep each below the size of an EDU.
func splitMessages(all DeviceMessages) (parts [][]byte) {
	var b []byte
	var open matrix.UserID // whose messages are being written
	flush := func() {
		if open != "" {
			parts = append(parts, append(b, "}}"...))
		}
		b, open = nil, ""
	}
	for _, user := range slices.Sorted(maps.Keys(all)) {
		for _, device := range slices.Sorted(maps.Keys(all[user])) {
			content := all[user][device]
			if len(b)+len(content) > maxEDUContent {
				flush()
			}
			b = openMessages(b, open, user)
			open = user
			b = append(canonical.AppendString(b, string(device)), ':')
			b = append(b, content...)
		}
	}
	flush()
	return parts
}

// openMessages writes what stands before a message of a user, after one of the user who is open.
func openMessages(b []byte, open, user matrix.UserID) []byte {
	switch open {
	case user:
		return append(b, ',')
	case "":
		b = append(b, '{')
	default:
		b = append(b, "},"...)
	}
	return append(canonical.AppendString(b, string(user)), ":{"...)
}

// RemoteToDevice is what an [DirectToDevice] EDU of another server says.
type RemoteToDevice struct {
	ID       string         `json:"message_id"`
	Sender   matrix.UserID  `json:"sender"` // has to be of the server that sent it
	Type     string         `json:"type"`
	Messages DeviceMessages `json:"messages"`
}

// ReceiveToDevice puts messages of users of another server into the inboxes of devices, in their order, but for those
// that came in the seven days before ([knownToDevice]). It stores as many of them as go into one batch, and returns what is left and how many bytes it stored.
func (a *Accounts) ReceiveToDevice(ctx context.Context, list []RemoteToDevice) (rest []RemoteToDevice, bytes int, err error) {
	for range maxAddressings {
		b, err := a.unknown(ctx, list)
		if err == nil && len(b.writes) > 0 {
			_, err = a.db.Commit(ctx, b.writes)
		}
		// Somebody else may have stored one of them, or removed a device, since we looked.
		if !errors.Is(err, users.ErrDevicesMoved) && !errors.Is(err, storage.ErrDuplicate) {
			return b.rest, b.bytes, err
		}
	}
	return list, 0, matrix.Errorf(matrix.LimitExceeded, "devices come and go too fast")
}

// A batch is what is stored at once.
type batch struct {
	writes         storage.All
	letters, bytes int
	rest           []RemoteToDevice // what comes after it
}

// unknown returns the batch of the first of some messages, of those that are not known. What makes no sense, or would
// take too much, is left out.
func (a *Accounts) unknown(ctx context.Context, list []RemoteToDevice) (b batch, err error) {
	keys := make([]int64, len(list))
	for i, r := range list {
		keys[i] = a.toDeviceKey("message", string(r.Sender), r.ID)
	}
	known, err := users.KnownToDevice(ctx, a.db, keys)
	if err != nil {
		return batch{}, err
	}
	for i, r := range list {
		if b.letters >= maxBatchLetters || b.bytes >= maxToDeviceStored {
			b.rest = list[i:]
			return b, nil
		}
		if known[keys[i]] || !r.makesSense() {
			continue
		}
		known[keys[i]] = true
		letters, err := a.address(ctx, a.readRemote(r))
		switch {
		case matrix.CodeOf(err) == matrix.TooLarge:
			continue
		case err != nil:
			return batch{}, err
		}
		m := message{key: keys[i], sender: r.Sender, typ: r.Type}
		b.writes = append(b.writes, m.write(letters, a.nowMS()))
		b.letters += len(letters)
		for _, l := range letters {
			b.bytes += len(l.Content) + letterOverhead
		}
	}
	return b, nil
}

func (r *RemoteToDevice) makesSense() bool {
	total := 0
	for _, byDevice := range r.Messages {
		total += len(byDevice)
	}
	return r.ID != "" && len(r.ID) <= maxMessageID && r.Type != "" && len(r.Type) <= maxToDeviceType &&
		total <= maxToDeviceMessages
}

// readRemote returns what of a message can be delivered here.
func (a *Accounts) readRemote(r RemoteToDevice) DeviceMessages {
	ours := DeviceMessages{}
	for user, byDevice := range r.Messages {
		if a.local(user) != nil {
			continue
		}
		ours[user] = make(map[matrix.DeviceID]json.RawMessage, len(byDevice))
		for device, raw := range byDevice {
			content, err := canonical.JSON(raw, canonical.Lenient)
			if err == nil && content[0] == '{' && len(content) <= maxRemoteContent {
				ours[user][device] = content
			}
		}
	}
	return ours
}
