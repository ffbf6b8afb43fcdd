package clientapi

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type loginFlowsResponse struct {
	Flows []loginFlow `json:"flows"`
}

type loginFlow struct {
	Type          string `json:"type"`
	GetLoginToken bool   `json:"get_login_token,omitempty"`
}

// loginFlows tells how users can log in.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login
func (a *API) loginFlows(context.Context, *httpapi.Call, *httpapi.None) (*loginFlowsResponse, error) {
	out := &loginFlowsResponse{}
	for _, typ := range a.accounts.LoginTypes() {
		out.Flows = append(out.Flows, loginFlow{Type: typ, GetLoginToken: typ == accounts.TypeToken})
	}
	return out, nil
}

// loginRequest has the members of all types of login; accounts takes those of the type that is asked for.
type loginRequest struct {
	Type              string          `json:"type"`
	Identifier        json.RawMessage `json:"identifier"`
	User              string          `json:"user"` // the older form of identifier
	Password          string          `json:"password"`
	Token             string          `json:"token"`
	DeviceID          string          `json:"device_id"`
	DeviceDisplayName string          `json:"initial_device_display_name"`
}

// sessionResponse is what a client is told that has logged in.
type sessionResponse struct {
	UserID      matrix.UserID    `json:"user_id"`
	AccessToken string           `json:"access_token,omitempty"` // not if it wanted no login
	DeviceID    matrix.DeviceID  `json:"device_id,omitempty"`    // likewise
	WellKnown   *wellKnownClient `json:"well_known,omitempty"`
}

// login opens a session. Attempts are limited by address, in the route, and by account: an attacker may have many
// addresses.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login
func (a *API) login(ctx context.Context, _ *httpapi.Call, in *loginRequest) (*sessionResponse, error) {
	if in.Type == accounts.TypePassword {
		if err := a.limits.Login.Check(in.account(a.rooms.ServerName())); err != nil {
			return nil, err
		}
	}
	session, err := a.accounts.Login(ctx, accounts.Login{
		Type: in.Type, Identifier: in.Identifier, User: in.User, Password: in.Password, Token: in.Token,
		Device: accounts.Device{ID: in.DeviceID, DisplayName: in.DeviceDisplayName},
	})
	if err != nil {
		return nil, err
	}
	return &sessionResponse{
		UserID: session.User, AccessToken: session.AccessToken, DeviceID: session.Device, WellKnown: a.discovery(),
	}, nil
}

// account is a name for the account that is tried, the same however the user is written. It is no user ID, so that the
// bucket is not that of the user's own requests.
func (in *loginRequest) account(server matrix.ServerName) string {
	var identifier struct {
		User string `json:"user"`
	}
	name := in.User
	if json.Unmarshal(in.Identifier, &identifier) == nil && identifier.User != "" {
		name = identifier.User
	}
	name = name[:min(len(name), matrix.MaxIDBytes)] // longer ones are nobody's, and would fill the memory
	name = strings.TrimSuffix(strings.TrimPrefix(name, "@"), ":"+string(server))
	return "login " + strings.ToLower(name)
}
