package query

import (
	"context"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// queryProfile tells what a user of this server shows of itself.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile
func (a *API) queryProfile(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.Profile, error) {
	user, err := a.ourUser(c.Query("user_id"))
	if err != nil {
		return nil, err
	}
	if field := c.Query("field"); field != "" {
		value, err := a.users.ProfileField(ctx, user, field)
		if err != nil {
			return nil, err
		}
		return &remote.Profile{field: value}, nil
	}
	fields, err := a.users.Profile(ctx, user)
	if err != nil {
		return nil, err
	}
	profile := remote.Profile(fields)
	return &profile, nil
}

// ourUser reads the ID of a user of this server. Others are not asked about here: what we know of them is not ours to
// tell.
func (a *API) ourUser(text string) (matrix.UserID, error) {
	user, err := matrix.ParseUserID(text)
	if err != nil {
		return "", err
	}
	if user.Server() != a.name {
		return "", matrix.Errorf(matrix.NotFound, "%s is no user of this server", user)
	}
	return user, nil
}

// queryDirectory tells where an alias of this server leads.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory
func (a *API) queryDirectory(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.AliasTarget, error) {
	alias, err := matrix.ParseRoomAlias(c.Query("room_alias"))
	if err != nil {
		return nil, err
	}
	if alias.Server() != a.name {
		return nil, matrix.Errorf(matrix.NotFound, "%s is no alias of this server", alias)
	}
	id, servers, err := a.rooms.ResolveAlias(ctx, alias)
	if err != nil {
		return nil, err
	}
	return &remote.AliasTarget{RoomID: id, Servers: servers}, nil
}

// queryOther is asked for what the specification does not know.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryquerytype
func (a *API) queryOther(_ context.Context, c *peer.Call, _ *httpapi.None) (*httpapi.None, error) {
	return nil, matrix.Errorf(matrix.Unrecognized, "there is no query %q", c.Path("queryType"))
}
