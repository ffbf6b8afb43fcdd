package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

type moveRequest struct {
	UserID string `json:"user_id"`
	Reason string `json:"reason"`
}

// invite calls a user into a room.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite
func (a *API) invite(ctx context.Context, c *httpapi.Call, in *moveRequest) (*httpapi.None, error) {
	return move(ctx, c, in, func(ctx context.Context, by matrix.Requester, in roomserver.Move) error {
		return a.network.Invite(ctx, by, in, false)
	})
}

// kick makes a user leave a room.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick
func (a *API) kick(ctx context.Context, c *httpapi.Call, in *moveRequest) (*httpapi.None, error) {
	return move(ctx, c, in, a.rooms.Kick)
}

// ban makes a user leave a room and keeps it out.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban
func (a *API) ban(ctx context.Context, c *httpapi.Call, in *moveRequest) (*httpapi.None, error) {
	return move(ctx, c, in, a.rooms.Ban)
}

// unban lets a user come back.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban
func (a *API) unban(ctx context.Context, c *httpapi.Call, in *moveRequest) (*httpapi.None, error) {
	return move(ctx, c, in, a.rooms.Unban)
}

// mover changes somebody else's membership.
type mover = func(context.Context, matrix.Requester, roomserver.Move) error

// move reads a request and has it done. A missing user is told apart from a bad one, as some clients forget it.
func move(ctx context.Context, c *httpapi.Call, in *moveRequest, do mover) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	if in.UserID == "" {
		return nil, matrix.Errorf(matrix.MissingParam, "\"user_id\" must say who is meant")
	}
	target, err := matrix.ParseUserID(in.UserID)
	if err != nil {
		return nil, err
	}
	return nil, do(ctx, c.Requester, roomserver.Move{Room: room, Target: target, Reason: in.Reason})
}

// leave takes the caller out of a room, or rejects an invite to it, or takes back a knock.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave
func (a *API) leave(ctx context.Context, c *httpapi.Call, in *reasonRequest) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return nil, a.network.Leave(ctx, c.Requester, room, in.Reason)
}

// forget hides a room that the caller has left.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget
func (a *API) forget(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return nil, a.rooms.Forget(ctx, c.Requester, room)
}
