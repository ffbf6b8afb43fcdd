package query

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// publicRooms is a page of the directory of this server.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms
func (a *API) publicRooms(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.PublicRooms, error) {
	in := remote.PublicRoomsRequest{Since: c.Query("since"), Network: c.Query("third_party_instance_id")}
	if text := c.Query("limit"); text != "" {
		limit, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, matrix.Errorf(matrix.InvalidParam, "limit must be a number")
		}
		in.Limit = limit
	}
	return a.searchPublicRooms(ctx, c, &in)
}

// searchPublicRooms is a page of what is found in the directory of this server.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms
func (a *API) searchPublicRooms(
	ctx context.Context, _ *peer.Call, in *remote.PublicRoomsRequest,
) (*remote.PublicRooms, error) {
	out := &remote.PublicRooms{Chunk: []remote.PublicRoom{}}
	if in.Network != "" {
		return out, nil // there are no bridges whose networks have rooms here
	}
	if in.Limit < 0 {
		return nil, matrix.Errorf(matrix.InvalidParam, "limit must not be negative")
	}
	ask := roomserver.DirectoryQuery{Limit: int(min(in.Limit, 1<<30)), Since: in.Since}
	if in.Filter != nil {
		ask.Term, ask.RoomTypes = in.Filter.Term, in.Filter.RoomTypes
	}
	page, err := a.rooms.Directory(ctx, ask)
	if err != nil {
		return nil, err
	}
	for _, p := range page.Rooms {
		out.Chunk = append(out.Chunk, remote.PublicRoom{
			RoomID: p.Room, Name: p.Name, Topic: p.Topic, CanonicalAlias: p.CanonicalAlias, AvatarURL: p.AvatarURL,
			JoinRule: p.JoinRule, RoomType: p.RoomType, WorldReadable: p.WorldReadable, GuestCanJoin: p.GuestCanJoin,
			JoinedMembers: p.Joined,
		})
	}
	out.NextBatch, out.PrevBatch, out.Total = page.Next, page.Prev, page.Total
	return out, nil
}
