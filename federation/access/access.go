// Package access says what another server has to do with a room: whether the room's ACL permits it, and who of which
// server is in it. All that other servers ask or send is held against it first.
//
// https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls
package access

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Access answers for the rooms of this server.
type Access struct {
	db         *storage.DB
	rooms      *roomserver.Server
	acls       ACLs
	residences residences
}

// New returns an Access.
func New(db *storage.DB, r *roomserver.Server) *Access { return &Access{db: db, rooms: r} }

// HasMember says whether a user of a server is joined to a room. While not all its members are known, users whom nobody
// knows here are not.
func (a *Access) HasMember(ctx context.Context, room rooms.Room, s matrix.ServerName) (bool, error) {
	return rooms.HasJoined(ctx, a.db, room.Num, s)
}

// MayBeJoined says whether a user of any server is joined to a room: for certain, or, while not all members of the room are
// known, for all that is known. The error is M_NOT_FOUND if the room is not known.
func (a *Access) MayBeJoined(ctx context.Context, id matrix.RoomID, user matrix.UserID) (bool, error) {
	room, err := a.rooms.Room(ctx, id)
	if err != nil {
		return false, err
	}
	return a.rooms.MayBeJoined(ctx, room, user)
}

// IsKnown says whether a user of any server is joined to some room of this one.
func (a *Access) IsKnown(ctx context.Context, user matrix.UserID) (bool, error) {
	return rooms.IsJoinedAnywhere(ctx, a.db, user)
}
