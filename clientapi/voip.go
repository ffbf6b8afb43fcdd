package clientapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/myelin-chat/myelin/httpapi"
)

// TURN is the relay that clients are given for calls.
type TURN struct {
	URIs     []string      // none: there is no relay
	Secret   string        // shared with the relay; empty: it asks nobody who they are
	Lifetime time.Duration // of credentials
}

// turnResponse is empty, and so is the object that is answered, where there is no relay.
type turnResponse struct {
	URIs     []string `json:"uris"`
	Username string   `json:"username"`
	Password string   `json:"password"`
	TTL      int      `json:"ttl"` // in seconds
}

// turnServer hands out credentials for the relay, if there is one. They are made from the secret shared with it and
// name their own end: the relay, coturn for example, needs no list of them. SHA-1 is part of that format.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver
func (a *API) turnServer(_ context.Context, c *httpapi.Call, _ *httpapi.None) (*turnResponse, error) {
	if len(a.turn.URIs) == 0 {
		return nil, nil
	}
	out := &turnResponse{URIs: a.turn.URIs, TTL: int(a.turn.Lifetime.Seconds())}
	if a.turn.Secret == "" {
		return out, nil // a relay for everybody
	}
	end := a.now().Add(a.turn.Lifetime)
	out.Username = fmt.Sprintf("%d:%s", end.Unix(), c.User)
	mac := hmac.New(sha1.New, []byte(a.turn.Secret))
	mac.Write([]byte(out.Username))
	out.Password = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return out, nil
}
