package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// UserDevices is the list of a user's devices.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid
type UserDevices struct {
	UserID         matrix.UserID        `json:"user_id"`
	StreamID       int64                `json:"stream_id"` // of the m.device_list_update that the list is as new as
	Devices        Tolerant[UserDevice] `json:"devices"`
	MasterKey      json.RawMessage      `json:"master_key,omitempty"`
	SelfSigningKey json.RawMessage      `json:"self_signing_key,omitempty"`
}

// UserDevice is a device with its keys, which nobody has checked.
type UserDevice struct {
	DeviceID    matrix.DeviceID `json:"device_id"`
	Keys        json.RawMessage `json:"keys"`
	DisplayName string          `json:"device_display_name,omitempty"`
}

// UserDevices asks the server of a user for the user's devices.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid
func (c *Client) UserDevices(ctx context.Context, user matrix.UserID) (UserDevices, error) {
	var answer UserDevices
	err := c.answer(ctx, outbound.Call{
		To: user.Server(), MaxBytes: maxKeysBytes, Timeout: eventsTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", "user", "devices", string(user)),
	}, &answer)
	if err != nil {
		return UserDevices{}, err
	}
	if answer.UserID != user {
		return UserDevices{}, badOf(user.Server(), bad("devices of another user"))
	}
	answer.Devices = slices.DeleteFunc(answer.Devices, func(d UserDevice) bool {
		_, err := matrix.ParseDeviceID(string(d.DeviceID))
		return err != nil || !isObject(d.Keys)
	})
	return answer, nil
}

// KeysQuery asks for keys of users: of the devices listed, or of all with an empty list.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery
type KeysQuery struct {
	DeviceKeys map[matrix.UserID][]matrix.DeviceID `json:"device_keys"`
}

// ByDevice has something for devices of users.
type ByDevice[T any] map[matrix.UserID]map[matrix.DeviceID]T

// UserKeys is the answer. Nobody has checked the keys.
type UserKeys struct {
	DeviceKeys      ByDevice[json.RawMessage]         `json:"device_keys"`
	MasterKeys      map[matrix.UserID]json.RawMessage `json:"master_keys,omitempty"`
	SelfSigningKeys map[matrix.UserID]json.RawMessage `json:"self_signing_keys,omitempty"`
}

// UserKeys asks a server for keys of its users. Users that were not asked for are left out of the answer.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery
func (c *Client) UserKeys(ctx context.Context, of matrix.ServerName, query KeysQuery) (UserKeys, error) {
	body := KeysQuery{DeviceKeys: make(map[matrix.UserID][]matrix.DeviceID, len(query.DeviceKeys))}
	for user, devices := range query.DeviceKeys {
		body.DeviceKeys[user] = notNil(devices)
	}
	var answer UserKeys
	asked := func(user matrix.UserID, device matrix.DeviceID) bool {
		wanted, ok := query.DeviceKeys[user]
		return ok && user.Server() == of && (len(wanted) == 0 || device == "" || slices.Contains(wanted, device))
	}
	err := c.postForKeys(ctx, keysCall{of, "query", body}, func(s *stream) error {
		return s.object(map[string]func() error{
			"device_keys":       func() error { return readByDevice(s, &answer.DeviceKeys, asked) },
			"master_keys":       func() error { return readByUser(s, &answer.MasterKeys, asked) },
			"self_signing_keys": func() error { return readByUser(s, &answer.SelfSigningKeys, asked) },
		})
	})
	if err != nil {
		return UserKeys{}, err
	}
	return answer, nil
}

// KeysClaim asks for a one-time key of an algorithm for each device.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim
type KeysClaim struct {
	OneTimeKeys ByDevice[string] `json:"one_time_keys"`
}

// ClaimedKeys is the answer: by device, key ID and key. Nobody has checked the keys.
type ClaimedKeys struct {
	OneTimeKeys ByDevice[map[string]json.RawMessage] `json:"one_time_keys"`
}

// ClaimKeys asks a server for one-time keys of its users' devices. Devices that were not asked for are left out of the
// answer.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim
func (c *Client) ClaimKeys(ctx context.Context, of matrix.ServerName, claim KeysClaim) (ClaimedKeys, error) {
	asked := func(user matrix.UserID, device matrix.DeviceID) bool {
		devices := claim.OneTimeKeys[user]
		_, ok := devices[device]
		return user.Server() == of && (ok || device == "" && len(devices) > 0)
	}
	var answer ClaimedKeys
	err := c.postForKeys(ctx, keysCall{of, "claim", claim}, func(s *stream) error {
		return s.object(map[string]func() error{
			"one_time_keys": func() error { return readByDevice(s, &answer.OneTimeKeys, asked) },
		})
	})
	if err != nil {
		return ClaimedKeys{}, err
	}
	return answer, nil
}

// keysCall is a request for keys.
type keysCall struct {
	of       matrix.ServerName
	endpoint string
	body     any
}

func (c *Client) postForKeys(ctx context.Context, in keysCall, read func(*stream) error) error {
	content, err := json.Marshal(in.body)
	if err != nil {
		return err
	}
	return c.readStream(ctx, outbound.Call{
		To: in.of, Method: http.MethodPost, URI: outbound.Path("_matrix", "federation", "v1", "user", "keys", in.endpoint),
		Content: content, MaxBytes: maxKeysBytes, Timeout: eventsTimeout,
	}, read)
}

// readByUser reads an object with a value for each user. What nobody asked for, and what is too long, is left out.
func readByUser(s *stream, into *map[matrix.UserID]json.RawMessage, asked func(matrix.UserID, matrix.DeviceID) bool) error {
	*into = map[matrix.UserID]json.RawMessage{}
	return s.members(func(name string) error {
		raw, err := s.value(maxKeyBytes)
		if user := matrix.UserID(name); err == nil && raw != nil && asked(user, "") {
			(*into)[user] = slices.Clone(raw)
		}
		return err
	})
}

// readByDevice reads an object with a value for each device of users. What nobody asked for, what is of another type,
// and what is too long is left out.
func readByDevice[T any](s *stream, into *ByDevice[T], asked func(matrix.UserID, matrix.DeviceID) bool) error {
	*into = ByDevice[T]{}
	return s.members(func(name string) error {
		user := matrix.UserID(name)
		if !asked(user, "") {
			return s.skip()
		}
		(*into)[user] = map[matrix.DeviceID]T{}
		return s.members(func(name string) error {
			raw, err := s.value(maxKeyBytes)
			device := matrix.DeviceID(name)
			if err != nil || raw == nil || device == "" || !asked(user, device) || len((*into)[user]) == maxDevices {
				return err
			}
			var value T
			if json.Unmarshal(raw, &value) == nil {
				(*into)[user][device] = value
			}
			return nil
		})
	})
}
