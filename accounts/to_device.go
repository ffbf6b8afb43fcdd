package accounts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// Limits of messages to devices.
const (
	maxToDeviceMessages = 5000     // of a request or an EDU, an asterisk counted as the devices that it stands for
	maxToDeviceStored   = 16 << 20 // bytes of these
	maxToDeviceServers  = 500      // others, of a request: each is sent a transaction
	maxToDeviceContent  = 64 << 10 // bytes of one, from a client
	maxToDeviceType     = 255      // bytes

	maxAddressings = 5 // tries to find the devices of users, while these are removed
)

// everyDevice stands for all devices of a user.
const everyDevice matrix.DeviceID = "*"

// ToDevice is a request to send a message to each of some devices.
type ToDevice struct {
	Type     string
	TxnID    string
	Messages DeviceMessages
}

// DeviceMessages are JSON objects by user and device. The device * stands for all devices of the user but those that
// are named.
type DeviceMessages map[matrix.UserID]map[matrix.DeviceID]json.RawMessage

// SendToDevice sends messages to devices: those of this server have them in their inbox when it returns, and other
// servers are owed theirs. A repeat of a transaction does nothing for seven days ([knownToDevice]). Users and devices that are not there are no error.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid
func (a *Accounts) SendToDevice(ctx context.Context, who matrix.Requester, in ToDevice) error {
	if in.Type == "" || len(in.Type) > maxToDeviceType {
		return matrix.Errorf(matrix.InvalidParam, "the type of a message has 1 to %d bytes", maxToDeviceType)
	}
	ours, theirs, err := a.sortMessages(in.Messages)
	if err != nil {
		return err
	}
	m := message{
		key:    a.toDeviceKey("transaction", string(who.User), string(who.Device), in.Type, in.TxnID),
		sender: who.User, typ: in.Type, to: ours,
	}
	owed, err := a.owe(&m, theirs)
	if err != nil {
		return err
	}
	for range maxAddressings {
		var letters []users.Letter
		if letters, err = a.address(ctx, m.to); err != nil {
			return err
		}
		_, err = a.db.Commit(ctx, append(storage.All{m.write(letters, a.nowMS())}, owed...))
		if !errors.Is(err, users.ErrDevicesMoved) {
			break
		}
	}
	if errors.Is(err, storage.ErrDuplicate) {
		return nil
	}
	return err
}

// A message is what one sender sends to devices of this server at once. The contents are canonical JSON.
type message struct {
	key    int64 // by which a repeat is known
	sender matrix.UserID
	typ    string
	to     DeviceMessages
}

func (m *message) write(letters []users.Letter, nowMS int64) storage.Write {
	return users.SendToDevice{Key: m.key, Sender: m.sender, Type: m.typ, Letters: letters, AtMS: nowMS}
}

// sortMessages checks the messages of a client, and parts those for users of this server from those for others.
func (a *Accounts) sortMessages(all DeviceMessages) (ours DeviceMessages, theirs map[matrix.ServerName]DeviceMessages, err error) {
	ours, theirs = DeviceMessages{}, map[matrix.ServerName]DeviceMessages{}
	total := 0
	for user, byDevice := range all {
		if _, err := matrix.ParseUserID(string(user)); err != nil {
			return nil, nil, err
		}
		if total += len(byDevice); total > maxToDeviceMessages {
			return nil, nil, errTooManyMessages
		}
		into, mode := ours, canonical.Lenient
		if s := user.Server(); s != a.settings.ServerName {
			if into, mode = theirs[s], canonical.Strict; into == nil { // it will be signed
				into = DeviceMessages{}
				theirs[s] = into
			}
			if len(theirs) > maxToDeviceServers {
				return nil, nil, errTooManyServers
			}
		}
		if into[user], err = checkMessages(byDevice, mode); err != nil {
			return nil, nil, err
		}
	}
	return ours, theirs, nil
}

var (
	errTooManyMessages = matrix.Errorf(matrix.TooLarge, "more than %d messages at once", maxToDeviceMessages)
	errTooManyServers  = matrix.Errorf(matrix.TooLarge, "messages for more than %d servers at once", maxToDeviceServers)
	errTooLargeTotal   = matrix.Errorf(matrix.TooLarge, "the messages take more than %d bytes", maxToDeviceStored)
)

func checkMessages(byDevice map[matrix.DeviceID]json.RawMessage, mode canonical.Mode) (map[matrix.DeviceID]json.RawMessage, error) {
	checked := make(map[matrix.DeviceID]json.RawMessage, len(byDevice))
	for device, raw := range byDevice {
		if _, err := matrix.ParseDeviceID(string(device)); err != nil {
			return nil, err
		}
		content, err := canonical.JSON(raw, mode)
		switch {
		case err != nil:
			return nil, err
		case content[0] != '{':
			return nil, matrix.Errorf(matrix.BadJSON, "a message has to be an object")
		case len(content) > maxToDeviceContent:
			return nil, matrix.Errorf(matrix.TooLarge, "a message has at most %d bytes", maxToDeviceContent)
		}
		checked[device] = content
	}
	return checked, nil
}

// address finds the devices that messages are for. Those that are not there get nothing.
func (a *Accounts) address(ctx context.Context, to DeviceMessages) ([]users.Letter, error) {
	if len(to) == 0 {
		return nil, nil
	}
	named := slices.Sorted(maps.Keys(to))
	devices, err := users.DevicesOf(ctx, a.db, named)
	if err != nil {
		return nil, err
	}
	var letters []users.Letter
	bytes := 0
	for _, user := range named {
		for _, device := range devices[user] {
			content, mine := to[user][device]
			if !mine {
				content = to[user][everyDevice]
			}
			if content == nil {
				continue
			}
			letters = append(letters, users.Letter{To: users.Address{User: user, Device: device}, Content: content})
			if bytes += len(content); len(letters) > maxToDeviceMessages {
				return nil, errTooManyMessages
			}
		}
	}
	if bytes > maxToDeviceStored {
		return nil, errTooLargeTotal
	}
	return letters, nil
}

// toDeviceKey is a keyed hash of what makes a transaction or a message what it is. Nobody outside can make two alike.
func (a *Accounts) toDeviceKey(parts ...string) int64 {
	secret := a.db.Secret()
	b := append(make([]byte, 0, 256), secret[:]...)
	for _, part := range parts {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	sum := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(sum[:]))
}
