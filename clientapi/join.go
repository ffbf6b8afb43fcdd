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
	return a.enter(ctx, c, room, *in)
}

// join lets the caller enter a room that it may name by an alias.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias
func (a *API) join(ctx context.Context, c *httpapi.Call, in *joinRequest) (*roomIDResponse, error) {
	room, err := a.resolve(ctx, c.Path("roomIDOrAlias"))
	if err != nil {
		return nil, err
	}
	return a.enter(ctx, c, room, *in)
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
func (a *API) enter(ctx context.Context, c *httpapi.Call, room matrix.RoomID, in joinRequest) (*roomIDResponse, error) {
	reason, extra, err := in.event()
	if err != nil {
		return nil, err
	}
	err = a.rooms.JoinWith(ctx, c.Requester, roomserver.JoinRoom{Room: room, Reason: reason, Extra: extra})
	if err != nil {
		return nil, elsewhere(c, room, err)
	}
	return &roomIDResponse{RoomID: room}, nil
}

// knock asks to be let in.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias
func (a *API) knock(ctx context.Context, c *httpapi.Call, in *reasonRequest) (*roomIDResponse, error) {
	room, err := a.resolve(ctx, c.Path("roomIDOrAlias"))
	if err != nil {
		return nil, err
	}
	if err := a.rooms.Knock(ctx, c.Requester, room, in.Reason); err != nil {
		return nil, elsewhere(c, room, err)
	}
	return &roomIDResponse{RoomID: room}, nil
}

// resolve returns the room that an ID or alias names.
func (a *API) resolve(ctx context.Context, text string) (matrix.RoomID, error) {
	if !strings.HasPrefix(text, "#") {
		return matrix.ParseRoomID(text)
	}
	alias, err := matrix.ParseRoomAlias(text)
	if err != nil {
		return "", err
	}
	return a.resolveAlias(ctx, alias)
}

// elsewhere tells who names servers to go through that this server does not go through others.
func elsewhere(c *httpapi.Call, room matrix.RoomID, err error) error {
	if matrix.CodeOf(err) == matrix.NotFound && len(via(c)) > 0 {
		return matrix.Errorf(matrix.NotFound, "%s is not on this server, which does not reach others", room)
	}
	return err
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
