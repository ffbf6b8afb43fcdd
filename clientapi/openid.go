package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type openIDResponse struct {
	AccessToken      string            `json:"access_token"`
	ExpiresIn        int64             `json:"expires_in"` // seconds
	MatrixServerName matrix.ServerName `json:"matrix_server_name"`
	TokenType        string            `json:"token_type"`
}

// openIDToken gives the caller a token by which somebody else can learn from this server who the caller is.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridopenidrequest_token
func (a *API) openIDToken(_ context.Context, c *httpapi.Call, _ *httpapi.None) (*openIDResponse, error) {
	if err := own(c); err != nil {
		return nil, err
	}
	token, life, err := a.accounts.OpenIDToken(c.Requester)
	if err != nil {
		return nil, err
	}
	return &openIDResponse{
		AccessToken: token, ExpiresIn: int64(life.Seconds()), MatrixServerName: a.rooms.ServerName(), TokenType: "Bearer",
	}, nil
}
