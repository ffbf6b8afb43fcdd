package query

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// No device of this server has keys yet. The endpoints below say so: a device is listed with its keys, and users and
// devices without any are left out, or have an empty list.

// userDevices lists the devices with keys of a user of this server.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid
func (a *API) userDevices(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.UserDevices, error) {
	user, err := a.ourUser(c.Path("userID"))
	if err != nil {
		return nil, err
	}
	if _, err := a.users.Profile(ctx, user); err != nil {
		return nil, err
	}
	stream, err := a.users.DeviceStream(ctx, user)
	return &remote.UserDevices{UserID: user, StreamID: stream, Devices: []remote.UserDevice{}}, err
}

// maxUsersAsked bounds the users of one question.
const maxUsersAsked = 1000

// queryUserKeys tells the keys of devices of users of this server.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery
func (a *API) queryUserKeys(ctx context.Context, _ *peer.Call, in *remote.KeysQuery) (*remote.UserKeys, error) {
	if len(in.DeviceKeys) > maxUsersAsked {
		return nil, matrix.Errorf(matrix.TooLarge, "more than %d users in one question", maxUsersAsked)
	}
	out := &remote.UserKeys{DeviceKeys: remote.ByDevice[json.RawMessage]{}}
	for text := range in.DeviceKeys {
		user, err := a.ourUser(string(text))
		if err != nil {
			continue
		}
		switch _, err := a.users.Profile(ctx, user); {
		case err == nil:
			out.DeviceKeys[user] = map[matrix.DeviceID]json.RawMessage{}
		case matrix.CodeOf(err) != matrix.NotFound:
			return nil, err
		}
	}
	return out, nil
}

// claimUserKeys gives one-time keys of devices of users of this server.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim
func (a *API) claimUserKeys(_ context.Context, _ *peer.Call, in *remote.KeysClaim) (*remote.ClaimedKeys, error) {
	if len(in.OneTimeKeys) > maxUsersAsked {
		return nil, matrix.Errorf(matrix.TooLarge, "more than %d users in one question", maxUsersAsked)
	}
	return &remote.ClaimedKeys{OneTimeKeys: remote.ByDevice[map[string]json.RawMessage]{}}, nil
}
