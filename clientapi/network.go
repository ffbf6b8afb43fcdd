package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// Network does what may need other servers: of rooms that this server is not in, and of users, aliases and directories of
// others. What needs none it does at once. federation implements it.
type Network interface {
	// Join takes a user into a room, through the servers named if this one is not in it.
	Join(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error
	// Knock does so for a knock.
	Knock(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error
	// Leave leaves a room, rejects an invite to it, or takes back a knock.
	Leave(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error
	// Invite invites a user of any server.
	Invite(ctx context.Context, by matrix.Requester, in roomserver.Move, direct bool) error
	// Alias tells where an alias of another server leads, and through which servers.
	Alias(ctx context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error)
	// Profile returns the profile of a user of another server, or one field of it.
	Profile(ctx context.Context, user matrix.UserID, field string) (map[string]json.RawMessage, error)
	// PublicRooms returns a page of the directory of another server.
	PublicRooms(ctx context.Context, of matrix.ServerName, in roomserver.DirectoryQuery) (roomserver.DirectoryPage, error)
}

// alone is the Network of a server that reaches no others.
type alone struct{ rooms *roomserver.Server }

// Join implements Network.
func (n alone) Join(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	return elsewhere(in.Room, via, n.rooms.JoinWith(ctx, by, in))
}

// Knock implements Network.
func (n alone) Knock(ctx context.Context, by matrix.Requester, in roomserver.JoinRoom, via []matrix.ServerName) error {
	return elsewhere(in.Room, via, n.rooms.Knock(ctx, by, in.Room, in.Reason))
}

// elsewhere tells who names servers to go through that this server does not go through others.
func elsewhere(room matrix.RoomID, via []matrix.ServerName, err error) error {
	if matrix.CodeOf(err) == matrix.NotFound && len(via) > 0 {
		return matrix.Errorf(matrix.NotFound, "%s is not on this server, which does not reach others", room)
	}
	return err
}

// Leave implements Network.
func (n alone) Leave(ctx context.Context, by matrix.Requester, room matrix.RoomID, reason string) error {
	return n.rooms.Leave(ctx, by, room, reason)
}

// Invite implements Network.
func (n alone) Invite(ctx context.Context, by matrix.Requester, in roomserver.Move, _ bool) error {
	return n.rooms.Invite(ctx, by, in)
}

// Alias implements Network.
func (alone) Alias(_ context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error) {
	return "", nil, matrix.Errorf(matrix.NotFound, "%s is an alias of another server, which this one does not reach", alias)
}

// Profile implements Network.
func (alone) Profile(_ context.Context, user matrix.UserID, _ string) (map[string]json.RawMessage, error) {
	return nil, matrix.Errorf(matrix.NotFound, "%s is a user of another server, which this one does not reach", user)
}

// PublicRooms implements Network.
func (alone) PublicRooms(
	_ context.Context, of matrix.ServerName, _ roomserver.DirectoryQuery,
) (roomserver.DirectoryPage, error) {
	return roomserver.DirectoryPage{}, matrix.Errorf(matrix.NotFound, "the rooms of %q are not listed here: this server does not reach others", of)
}
