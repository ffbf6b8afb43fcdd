package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
)

type loginTokenResponse struct {
	LoginToken  string `json:"login_token"`
	ExpiresInMS int64  `json:"expires_in_ms"`
}

// loginToken makes a token by which another device of the caller can log in once.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token
func (a *API) loginToken(ctx context.Context, c *httpapi.Call, in *authRequest) (*loginTokenResponse, error) {
	token, life, err := a.accounts.LoginToken(ctx, c.Requester, in.Auth)
	if err != nil {
		return nil, challenged(err)
	}
	return &loginTokenResponse{LoginToken: token, ExpiresInMS: life.Milliseconds()}, nil
}
