package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
)

// logout ends the session of the caller.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout
func (a *API) logout(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.None, error) {
	return nil, a.accounts.Logout(ctx, c.Requester)
}

// logoutAll ends all sessions of the caller.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall
func (a *API) logoutAll(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.None, error) {
	return nil, a.accounts.LogoutAll(ctx, c.Requester)
}
