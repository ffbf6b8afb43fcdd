package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// WellKnown is where the server says that it is to be found. What is empty is not said.
type WellKnown struct {
	Client string // base URL for clients
	Server string // host:port for other servers
}

// wellKnownClient is how a client finds the server; a login tells it too.
type wellKnownClient struct {
	HomeServer homeServer `json:"m.homeserver"`
}

type homeServer struct {
	BaseURL string `json:"base_url"`
}

type wellKnownServer struct {
	Server string `json:"m.server"`
}

// discovery is what clients are told of where to find the server; nil if nothing.
func (a *API) discovery() *wellKnownClient {
	if a.wellKnown.Client == "" {
		return nil
	}
	return &wellKnownClient{homeServer{a.wellKnown.Client}}
}

// wellKnownForClients tells clients where the server is.
// https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient
func (a *API) wellKnownForClients(context.Context, *httpapi.Call, *httpapi.None) (*wellKnownClient, error) {
	if found := a.discovery(); found != nil {
		return found, nil
	}
	return nil, errNoWellKnown()
}

// wellKnownForServers tells other servers where the server is.
// https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver
func (a *API) wellKnownForServers(context.Context, *httpapi.Call, *httpapi.None) (*wellKnownServer, error) {
	if a.wellKnown.Server == "" {
		return nil, errNoWellKnown()
	}
	return &wellKnownServer{a.wellKnown.Server}, nil
}

// errNoWellKnown makes clients and servers take the name of the server for its address, as the specification has it.
func errNoWellKnown() error {
	return matrix.Errorf(matrix.NotFound, "this server does not say where it is to be found")
}
