package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
)

// protocols lists the networks that application services bridge to. There are no application services.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3thirdpartyprotocols
func (a *API) protocols(context.Context, *httpapi.Call, *httpapi.None) (*httpapi.None, error) {
	return nil, nil
}
