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
// A version is listed only as far as all that clients conclude from it is there: v1.3 stands for threads, v1.10 for
// recursive relations, v1.11 for authenticated media.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions
func (a *API) versions(context.Context, *httpapi.Call, *httpapi.None) (*versionsResponse, error) {
	return &versionsResponse{
		Versions: []string{"r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2"},
		UnstableFeatures: map[string]bool{
			"org.matrix.msc2285.stable": true, // private read receipts
			"uk.tcpip.msc4133.stable":   true, // profile fields
		},
	}, nil
}
