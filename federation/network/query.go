package network

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Alias tells where an alias of another server leads, and which servers are there.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory
func (n *Network) Alias(ctx context.Context, alias matrix.RoomAlias) (matrix.RoomID, []matrix.ServerName, error) {
	target, err := n.remote.Alias(ctx, alias)
	if err != nil {
		return "", nil, remote.Explain(err)
	}
	return target.RoomID, target.Servers, nil
}

// Profile asks for the profile of a user of another server: all of it, or one field.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile
func (n *Network) Profile(ctx context.Context, user matrix.UserID, field string) (map[string]json.RawMessage, error) {
	profile, err := n.remote.Profile(ctx, user, field)
	if err != nil {
		return nil, remote.Explain(err)
	}
	if field != "" && profile[field] == nil {
		return nil, matrix.Errorf(matrix.NotFound, "%s has no profile field %q", user, field)
	}
	return profile, nil
}

// PublicRooms asks for a page of the directory of another server.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms
func (n *Network) PublicRooms(ctx context.Context, of matrix.ServerName, in roomserver.DirectoryQuery) (roomserver.DirectoryPage, error) {
	ask := remote.PublicRoomsRequest{Limit: int64(in.Limit), Since: in.Since}
	if in.Term != "" || in.RoomTypes != nil {
		ask.Filter = &remote.PublicRoomsFilter{Term: in.Term, RoomTypes: in.RoomTypes}
	}
	answer, err := n.remote.PublicRooms(ctx, of, ask)
	if err != nil {
		return roomserver.DirectoryPage{}, remote.Explain(err)
	}
	page := roomserver.DirectoryPage{Next: answer.NextBatch, Prev: answer.PrevBatch, Total: answer.Total}
	for _, r := range answer.Chunk {
		page.Rooms = append(page.Rooms, rooms.Published{
			Room: r.RoomID, Name: r.Name, Topic: r.Topic, CanonicalAlias: r.CanonicalAlias, AvatarURL: r.AvatarURL,
			JoinRule: r.JoinRule, RoomType: r.RoomType, WorldReadable: r.WorldReadable, GuestCanJoin: r.GuestCanJoin,
			Joined: r.JoinedMembers,
		})
	}
	return page, nil
}
