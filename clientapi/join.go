package clientapi

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

type reasonRequest struct {
	Reason string `json:"reason"`
}

type roomIDResponse struct {
	RoomID matrix.RoomID `json:"room_id"`
}

// joinByID lets the caller enter a room.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin
func (a *API) joinByID(ctx context.Context, c *httpapi.Call, in *joinRequest) (*roomIDResponse, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return a.enter(ctx, c, target{room, via(c)}, *in)
}

// join lets the caller enter a room that it may name by an alias.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias
func (a *API) join(ctx context.Context, c *httpapi.Call, in *joinRequest) (*roomIDResponse, error) {
	to, err := a.resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	return a.enter(ctx, c, to, *in)
}

// joinRequest is the body of a join: a reason, and whatever else the client wants in its member event.
type joinRequest map[string]json.RawMessage

// event returns the reason, and the rest but for what only servers say.
func (in joinRequest) event() (reason string, extra map[string]json.RawMessage, err error) {
	extra = maps.Clone(in)
	for _, name := range []string{"reason", "third_party_signed", "join_authorised_via_users_server"} {
		delete(extra, name)
	}
	if raw, ok := in["reason"]; ok && json.Unmarshal(raw, &reason) != nil {
		return "", nil, matrix.Errorf(matrix.BadJSON, "\"reason\" must be a string")
	}
	return reason, extra, nil
}

// enter is what both ways to join have in common.
func (a *API) enter(ctx context.Context, c *httpapi.Call, to target, in joinRequest) (*roomIDResponse, error) {
	reason, extra, err := in.event()
	if err != nil {
		return nil, err
	}
	join := roomserver.JoinRoom{Room: to.room, Reason: reason, Extra: extra}
	if err := a.network.Join(ctx, c.Requester, join, to.via); err != nil {
		return nil, err
	}
	return &roomIDResponse{RoomID: to.room}, nil
}

// knock asks to be let in.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias
func (a *API) knock(ctx context.Context, c *httpapi.Call, in *reasonRequest) (*roomIDResponse, error) {
	to, err := a.resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	knock := roomserver.JoinRoom{Room: to.room, Reason: in.Reason}
	if err := a.network.Knock(ctx, c.Requester, knock, to.via); err != nil {
		return nil, err
	}
	return &roomIDResponse{RoomID: to.room}, nil
}

// A target is the room of a request, and the servers through which it may be entered.
type target struct {
	room matrix.RoomID
	via  []matrix.ServerName
}

// resolve returns the room that the ID or alias of the path names.
func (a *API) resolve(ctx context.Context, c *httpapi.Call) (target, error) {
	text, to := c.Path("roomIDOrAlias"), target{via: via(c)}
	if !strings.HasPrefix(text, "#") {
		var err error
		to.room, err = matrix.ParseRoomID(text)
		return to, err
	}
	alias, err := matrix.ParseRoomAlias(text)
	if err != nil {
		return to, err
	}
	room, servers, err := a.resolveAlias(ctx, alias)
	return target{room, append(to.via, servers...)}, err
}

// via reads the servers that a room may be entered through, by the parameter's present name and its former one.
func via(c *httpapi.Call) []matrix.ServerName {
	var servers []matrix.ServerName
	for _, text := range append(c.QueryAll("via"), c.QueryAll("server_name")...) {
		if s, err := matrix.ParseServerName(text); err == nil {
			servers = append(servers, s)
		}
	}
	return servers
}
