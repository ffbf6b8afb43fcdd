package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type whoamiResponse struct {
	UserID   matrix.UserID   `json:"user_id"`
	DeviceID matrix.DeviceID `json:"device_id,omitempty"`
	IsGuest  bool            `json:"is_guest"`
}

// whoami tells the caller whom its access token belongs to.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami
func (a *API) whoami(_ context.Context, c *httpapi.Call, _ *httpapi.None) (*whoamiResponse, error) {
	return &whoamiResponse{UserID: c.User, DeviceID: c.Device, IsGuest: c.Guest}, nil
}

// passwordRequest says more about sessions than about the password: by default all others end.
type passwordRequest struct {
	Auth          json.RawMessage `json:"auth"`
	NewPassword   string          `json:"new_password"`
	LogoutDevices *bool           `json:"logout_devices"` // absent: true
}

// changePassword sets the caller's password.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword
func (a *API) changePassword(ctx context.Context, c *httpapi.Call, in *passwordRequest) (*httpapi.None, error) {
	err := a.accounts.ChangePassword(ctx, c.Requester, accounts.PasswordChange{
		NewPassword: in.NewPassword, KeepSessions: in.LogoutDevices != nil && !*in.LogoutDevices, Auth: in.Auth,
	})
	return nil, challenged(err)
}

// deactivateRequest may ask to erase, which cannot be taken back either.
type deactivateRequest struct {
	Auth  json.RawMessage `json:"auth"`
	Erase bool            `json:"erase"`
}

type deactivateResponse struct {
	UnbindResult string `json:"id_server_unbind_result"`
}

// deactivate ends the caller's account and takes it out of its rooms. What of that fails is done later, by Run. There are never third-party identifiers to unbind,
// which the specification calls a success.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate
func (a *API) deactivate(ctx context.Context, c *httpapi.Call, in *deactivateRequest) (*deactivateResponse, error) {
	if err := a.accounts.Deactivate(ctx, c.Requester, in.Erase, in.Auth); err != nil {
		return nil, challenged(err)
	}
	// The account has ended: nobody can ask again, so leaving does not depend on the client's patience.
	if err := a.depart(context.WithoutCancel(ctx), c.Account); err != nil {
		return nil, err
	}
	return &deactivateResponse{"success"}, nil
}

type threePIDsResponse struct {
	ThreePIDs []struct{} `json:"threepids"`
}

// threePIDs lists the mail addresses and telephone numbers of the caller, of which this server knows none.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3account3pid
func (a *API) threePIDs(context.Context, *httpapi.Call, *httpapi.None) (*threePIDsResponse, error) {
	return &threePIDsResponse{[]struct{}{}}, nil
}
