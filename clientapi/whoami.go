package clientapi

import (
	"context"

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
