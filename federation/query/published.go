package query

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// programName is how this software calls itself.
const programName = "Myelin"

// serverKeys is what this server publishes of its keys; with a key ID too, which is the old form of the same.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server
func (a *API) serverKeys(context.Context, *httpapi.Call, *httpapi.None) (*httpapi.Raw, error) {
	return peer.Raw(a.ring.Published())
}

// queryKeys tells what this server knows of the keys of others.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixkeyv2query
func (a *API) queryKeys(ctx context.Context, _ *httpapi.Call, in *httpapi.RawBody) (*httpapi.Raw, error) {
	return peer.Raw(a.ring.Query(ctx, *in))
}

// queryServerKeys tells what this server knows of the keys of one other.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2queryservername
func (a *API) queryServerKeys(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	name, err := matrix.ParseServerName(c.Path("serverName"))
	if err != nil {
		return nil, err
	}
	var until int64
	if text := c.Query("minimum_valid_until_ts"); text != "" {
		if until, err = strconv.ParseInt(text, 10, 64); err != nil || until < 0 {
			return nil, matrix.Errorf(matrix.InvalidParam, "minimum_valid_until_ts must be a time in milliseconds")
		}
	}
	return peer.Raw(a.ring.QueryServer(ctx, name, until))
}

// programVersion says which software this is.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version
func (a *API) programVersion(context.Context, *httpapi.Call, *httpapi.None) (*remote.VersionResponse, error) {
	return &remote.VersionResponse{Server: remote.Implementation{Name: programName, Version: a.version}}, nil
}

// openIDUserInfo tells who holds an OpenID token was given to.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo
func (a *API) openIDUserInfo(_ context.Context, c *httpapi.Call, _ *httpapi.None) (*remote.UserInfo, error) {
	token := c.Query("access_token")
	if token == "" {
		return nil, matrix.Errorf(matrix.MissingToken, "an OpenID token is needed")
	}
	user, err := a.users.OpenIDUser(token)
	if err != nil {
		return nil, err
	}
	return &remote.UserInfo{Subject: user}, nil
}
