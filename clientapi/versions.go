package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
)

type versionsResponse struct {
	Versions         []string        `json:"versions"`
	UnstableFeatures map[string]bool `json:"unstable_features"`
}

// versions tells which versions of the specification and which features outside of them clients can count on.
//
// A version stands here once all is there that clients take it for: v1.2 is taken for spaces, v1.3 for threads, v1.10
// for recursive relations, v1.11 for authenticated media. Without any from v1.1 to v1.13, SDKs refuse the server.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions
func (a *API) versions(context.Context, *httpapi.Call, *httpapi.None) (*versionsResponse, error) {
	return &versionsResponse{
		Versions: []string{"r0.5.0", "r0.6.0", "r0.6.1", "v1.1"},
		UnstableFeatures: map[string]bool{
			"org.matrix.msc2285.stable": true, // private read receipts, of v1.4
			"org.matrix.msc3827.stable": true, // the directory by room type, of v1.4
			"uk.tcpip.msc4133.stable":   true, // profile fields, of v1.16
		},
	}, nil
}
