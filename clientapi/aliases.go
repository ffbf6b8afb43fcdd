package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type aliasesResponse struct {
	Aliases []matrix.RoomAlias `json:"aliases"`
}

// aliases lists the aliases that a room has on this server.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases
func (a *API) aliases(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*aliasesResponse, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	found, err := a.rooms.Aliases(ctx, c.Requester, room)
	if err != nil {
		return nil, err
	}
	return &aliasesResponse{Aliases: found}, nil
}

type aliasResponse struct {
	RoomID  matrix.RoomID       `json:"room_id"`
	Servers []matrix.ServerName `json:"servers"`
}

// alias tells which room an alias leads to.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias
func (a *API) alias(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*aliasResponse, error) {
	alias, err := matrix.ParseRoomAlias(c.Path("roomAlias"))
	if err != nil {
		return nil, err
	}
	room, servers, err := a.resolveAlias(ctx, alias)
	if err != nil {
		return nil, err
	}
	return &aliasResponse{RoomID: room, Servers: servers}, nil
}

// resolveAlias returns the room of an alias, and servers through which it may be entered.
func (a *API) resolveAlias(ctx context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error) {
	if alias.Server() != a.rooms.ServerName() {
		return a.network.Alias(ctx, alias)
	}
	return a.rooms.ResolveAlias(ctx, alias)
}

type setAliasRequest struct {
	RoomID string `json:"room_id"`
}

// setAlias gives a room an alias.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias
func (a *API) setAlias(ctx context.Context, c *httpapi.Call, in *setAliasRequest) (*httpapi.None, error) {
	alias, err := matrix.ParseRoomAlias(c.Path("roomAlias"))
	if err != nil {
		return nil, err
	}
	if in.RoomID == "" {
		return nil, matrix.Errorf(matrix.MissingParam, "\"room_id\" must say which room is meant")
	}
	room, err := matrix.ParseRoomID(in.RoomID)
	if err != nil {
		return nil, err
	}
	return nil, a.rooms.SetAlias(ctx, c.Requester, alias, room)
}

// deleteAlias takes an alias away.
// https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias
func (a *API) deleteAlias(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.None, error) {
	alias, err := matrix.ParseRoomAlias(c.Path("roomAlias"))
	if err != nil {
		return nil, err
	}
	return nil, a.rooms.DeleteAlias(ctx, c.Requester, alias)
}
