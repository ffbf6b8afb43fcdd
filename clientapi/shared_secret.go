package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type nonceResponse struct {
	Nonce string `json:"nonce"`
}

// registrationNonce begins a registration by a program that knows the shared secret. The endpoint is that of Synapse,
// which tools and tests speak.
// https://element-hq.github.io/synapse/latest/admin_api/register_api.html
func (a *API) registrationNonce(context.Context, *httpapi.Call, *httpapi.None) (*nonceResponse, error) {
	nonce, err := a.accounts.RegistrationNonce()
	if err != nil {
		return nil, err
	}
	return &nonceResponse{nonce}, nil
}

// sharedSecretRequest is as Synapse has it, since programs that provision accounts were written for that.
type sharedSecretRequest struct {
	Nonce       string `json:"nonce"`
	Username    string `json:"username"`
	Password    string `json:"password"`
	DisplayName string `json:"displayname"`
	UserType    string `json:"user_type"`
	Admin       bool   `json:"admin"`
	MAC         string `json:"mac"`
}

type sharedSecretResponse struct {
	UserID      matrix.UserID     `json:"user_id"`
	AccessToken string            `json:"access_token"`
	DeviceID    matrix.DeviceID   `json:"device_id"`
	HomeServer  matrix.ServerName `json:"home_server"`
}

// registerWithSharedSecret makes an account for a program that knows the shared secret.
// https://element-hq.github.io/synapse/latest/admin_api/register_api.html
func (a *API) registerWithSharedSecret(ctx context.Context, _ *httpapi.Call, in *sharedSecretRequest) (*sharedSecretResponse, error) {
	session, err := a.accounts.RegisterWithSharedSecret(ctx, accounts.SharedSecretRegistration{
		Nonce: in.Nonce, Username: in.Username, Password: in.Password, DisplayName: in.DisplayName,
		UserType: in.UserType, Admin: in.Admin, MAC: in.MAC,
	})
	if err != nil {
		return nil, err
	}
	return &sharedSecretResponse{
		UserID: session.User, AccessToken: session.AccessToken, DeviceID: session.Device, HomeServer: session.User.Server(),
	}, nil
}
