package clientapi

import (
	"encoding/json"
	"errors"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
)

// authRequest is a request that needs user-interactive authentication, and nothing else. A client that only wants to
// see the flows sends none.
// https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
type authRequest struct {
	Auth json.RawMessage `json:"auth"`
}

// challenged makes of an accounts.Challenge the answer that it is. Other errors stay what they are.
func challenged(err error) error {
	var challenge *accounts.Challenge
	if errors.As(err, &challenge) {
		return &httpapi.Answer{Status: challenge.Status(), JSON: challenge}
	}
	return err
}
