package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type registerRequest struct {
	Auth              json.RawMessage `json:"auth"`
	Username          string          `json:"username"`
	Password          string          `json:"password"`
	DeviceID          string          `json:"device_id"`
	DeviceDisplayName string          `json:"initial_device_display_name"`
	InhibitLogin      bool            `json:"inhibit_login"`
}

// guestRequest is all that is looked at when a guest comes.
type guestRequest struct {
	DeviceDisplayName string `json:"initial_device_display_name"`
}

// register makes an account, or that of a guest, for whom the rest of the body is not looked at: not even at its types.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register
func (a *API) register(ctx context.Context, c *httpapi.Call, body *httpapi.RawBody) (*sessionResponse, error) {
	var session accounts.Session
	var err error
	switch kind := c.Query("kind"); kind {
	case "", "user":
		session, err = a.registerUser(ctx, *body)
	case "guest":
		var in guestRequest
		if err = httpapi.Decode(*body, &in); err == nil {
			session, err = a.accounts.RegisterGuest(ctx, in.DeviceDisplayName)
		}
	default:
		return nil, matrix.Errorf(matrix.InvalidParam, "kind must be user or guest, not %q", kind)
	}
	if err != nil {
		return nil, challenged(err)
	}
	return &sessionResponse{UserID: session.User, AccessToken: session.AccessToken, DeviceID: session.Device}, nil
}

// registerUser makes an account, once what is asked for is proved: the answer may be a challenge.
func (a *API) registerUser(ctx context.Context, body []byte) (accounts.Session, error) {
	var in registerRequest
	if err := httpapi.Decode(body, &in); err != nil {
		return accounts.Session{}, err
	}
	return a.accounts.Register(ctx, accounts.Registration{
		Username: in.Username, Password: in.Password, InhibitLogin: in.InhibitLogin, Auth: in.Auth,
		Device: accounts.Device{ID: in.DeviceID, DisplayName: in.DeviceDisplayName},
	})
}

type availableResponse struct {
	Available bool `json:"available"`
}

// available tells whether a user name is free.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable
func (a *API) available(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*availableResponse, error) {
	if !c.HasQuery("username") {
		return nil, matrix.Errorf(matrix.MissingParam, "a username is needed")
	}
	if err := a.accounts.Available(ctx, c.Query("username")); err != nil {
		return nil, err
	}
	return &availableResponse{true}, nil
}

type validityResponse struct {
	Valid bool `json:"valid"`
}

// registrationTokenValidity tells whether a registration token could be used now.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity
func (a *API) registrationTokenValidity(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*validityResponse, error) {
	if !c.HasQuery("token") {
		return nil, matrix.Errorf(matrix.MissingParam, "a token is needed")
	}
	valid, err := a.accounts.ValidRegistrationToken(ctx, c.Query("token"))
	if err != nil {
		return nil, err
	}
	return &validityResponse{valid}, nil
}
