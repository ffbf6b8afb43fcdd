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
// that came before. When it returns without an error, all that makes sense is stored.
func (a *Accounts) ReceiveToDevice(ctx context.Context, list []RemoteToDevice) error {
	var messages []message
	for _, r := range list {
		if m, ok := a.readRemote(r); ok {
			messages = append(messages, m)
		}
	}
	for tries := 0; len(messages) > 0; {
		writes, rest, err := a.unknown(ctx, messages)
		if err != nil {
			return err
		}
		if len(writes) > 0 {
			_, err = a.db.Commit(ctx, writes)
		}
		// Somebody else may have stored one of them, or removed a device, since we looked.
		again := errors.Is(err, users.ErrDevicesMoved) || errors.Is(err, storage.ErrDuplicate)
		if tries++; again && tries < maxAddressings {
			continue
		}
		if err != nil {
			return err
		}
		messages, tries = rest, 0
	}
	return nil
}

// readRemote takes of a message what can be delivered.
func (a *Accounts) readRemote(r RemoteToDevice) (m message, ok bool) {
	if r.ID == "" || len(r.ID) > maxMessageID || r.Type == "" || len(r.Type) > maxToDeviceType {
		return m, false
	}
	m = message{
		key:    a.toDeviceKey("message", string(r.Sender.Server()), r.ID),
		sender: r.Sender, typ: r.Type, to: DeviceMessages{},
	}
	total := 0
	for user, byDevice := range r.Messages {
		if total += len(byDevice); total > maxToDeviceMessages {
			return m, false
		}
		if a.local(user) == nil {
			m.to[user] = readRemoteContents(byDevice)
		}
	}
	return m, true
}

func readRemoteContents(byDevice map[matrix.DeviceID]json.RawMessage) map[matrix.DeviceID]json.RawMessage {
	read := make(map[matrix.DeviceID]json.RawMessage, len(byDevice))
	for device, raw := range byDevice {
		if len(raw) > maxRemoteContent {
			continue
		}
		content, err := canonical.JSON(raw, canonical.Lenient)
		if err == nil && content[0] == '{' {
			read[device] = content
		}
	}
	return read
}

// unknown returns the writes of the first of some messages, those of them that are not known, and the messages that are
// left. What would take too much is taken for known, and delivered to nobody.
func (a *Accounts) unknown(ctx context.Context, messages []message) (writes storage.All, rest []message, err error) {
	keys := make([]int64, len(messages))
	for i, m := range messages {
		keys[i] = m.key
	}
	known, err := users.KnownToDevice(ctx, a.db, keys)
	if err != nil {
		return nil, nil, err
	}
	letters, bytes := 0, 0
	for i, m := range messages {
		if letters >= maxBatchLetters || bytes >= maxToDeviceStored {
			return writes, messages[i:], nil
		}
		if known[m.key] {
			continue
		}
		known[m.key] = true
		found, err := a.address(ctx, m.to)
		if err != nil && matrix.CodeOf(err) != matrix.TooLarge {
			return nil, nil, err
		}
		letters += len(found)
		for _, l := range found {
			bytes += len(l.Content)
		}
		writes = append(writes, m.write(found, a.nowMS()))
	}
	return writes, nil, nil
}
