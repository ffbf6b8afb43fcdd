package remote

import (
	"context"
	"encoding/json"
	"maps"
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
	if err := c.post(ctx, outbound.Call{To: of, URI: "/_matrix/federation/v1/user/keys/query"}, body, &answer); err != nil {
		return UserKeys{}, err
	}
	asked := func(user matrix.UserID) bool { _, ok := query.DeviceKeys[user]; return ok && user.Server() == of }
	keepUsers(answer.DeviceKeys, asked)
	keepUsers(answer.MasterKeys, asked)
	keepUsers(answer.SelfSigningKeys, asked)
	for user, devices := range answer.DeviceKeys {
		wanted := query.DeviceKeys[user]
		maps.DeleteFunc(devices, func(d matrix.DeviceID, _ json.RawMessage) bool {
			return len(wanted) > 0 && !slices.Contains(wanted, d)
		})
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
	var answer ClaimedKeys
	if err := c.post(ctx, outbound.Call{To: of, URI: "/_matrix/federation/v1/user/keys/claim"}, claim, &answer); err != nil {
		return ClaimedKeys{}, err
	}
	keepUsers(answer.OneTimeKeys, func(user matrix.UserID) bool { return user.Server() == of })
	for user, devices := range answer.OneTimeKeys {
		maps.DeleteFunc(devices, func(d matrix.DeviceID, _ map[string]json.RawMessage) bool {
			_, asked := claim.OneTimeKeys[user][d]
			return !asked
		})
	}
	return answer, nil
}

func keepUsers[T any](m map[matrix.UserID]T, asked func(matrix.UserID) bool) {
	maps.DeleteFunc(m, func(user matrix.UserID, _ T) bool { return !asked(user) })
}

// post sends a body for keys and decodes the answer.
func (c *Client) post(ctx context.Context, call outbound.Call, body, into any) (err error) {
	call.Method, call.MaxBytes, call.Timeout = http.MethodPost, maxKeysBytes, eventsTimeout
	if call.Content, err = json.Marshal(body); err != nil {
		return err
	}
	return c.answer(ctx, call, into)
}
