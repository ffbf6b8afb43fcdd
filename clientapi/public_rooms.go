package clientapi

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// publicRoomsRequest is the body of the search; the plain list is a search for nothing.
type publicRoomsRequest struct {
	Limit  int64  `json:"limit"`
	Since  string `json:"since"`
	Filter struct {
		Term      string    `json:"generic_search_term"`
		RoomTypes []*string `json:"room_types"`
	} `json:"filter"`
	AllNetworks bool   `json:"include_all_networks"`
	Network     string `json:"third_party_instance_id"`
}

type publicRoomsResponse struct {
	Chunk     []publicRoom `json:"chunk"`
	NextBatch string       `json:"next_batch,omitempty"`
	PrevBatch string       `json:"prev_batch,omitempty"`
	Total     int64        `json:"total_room_count_estimate"`
}

// publicRoom is an entry of the directory. Its two booleans are always said, as clients draw them.
type publicRoom struct {
	RoomID         matrix.RoomID `json:"room_id"`
	Name           string        `json:"name,omitempty"`
	Topic          string        `json:"topic,omitempty"`
	CanonicalAlias string        `json:"canonical_alias,omitempty"`
	AvatarURL      string        `json:"avatar_url,omitempty"`
	JoinRule       string        `json:"join_rule,omitempty"`
	RoomType       string        `json:"room_type,omitempty"`
	WorldReadable  bool          `json:"world_readable"`
	GuestCanJoin   bool          `json:"guest_can_join"`
	JoinedMembers  int64         `json:"num_joined_members"`
}

// publicRooms lists the rooms that are published here.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
func (a *API) publicRooms(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*publicRoomsResponse, error) {
	in := publicRoomsRequest{Since: c.Query("since")}
	if text := c.Query("limit"); text != "" {
		var err error
		if in.Limit, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, matrix.Errorf(matrix.InvalidParam, "\"limit\" must be a number")
		}
	}
	return a.searchPublicRooms(ctx, c, &in)
}

// searchPublicRooms lists the rooms that are published here and fit a filter.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms
func (a *API) searchPublicRooms(ctx context.Context, c *httpapi.Call, in *publicRoomsRequest) (*publicRoomsResponse, error) {
	switch {
	case in.Limit < 0:
		return nil, matrix.Errorf(matrix.InvalidParam, "\"limit\" must not be negative")
	case in.Network != "" && in.AllNetworks:
		return nil, matrix.Errorf(matrix.InvalidParam, "ask for one network or for all of them")
	case in.Network != "":
		return &publicRoomsResponse{Chunk: []publicRoom{}}, nil // no bridge publishes rooms here
	}
	page, err := a.directory(ctx, c.Query("server"), roomserver.DirectoryQuery{
		Limit: int(min(in.Limit, 1<<30)), Since: in.Since, Term: in.Filter.Term, RoomTypes: in.Filter.RoomTypes,
	})
	if err != nil {
		return nil, err
	}
	out := &publicRoomsResponse{
		Chunk: make([]publicRoom, len(page.Rooms)), NextBatch: page.Next, PrevBatch: page.Prev, Total: page.Total,
	}
	for i, p := range page.Rooms {
		out.Chunk[i] = showPublished(p)
	}
	return out, nil
}

// directory reads the directory of a server, of this one if none is named.
func (a *API) directory(ctx context.Context, of string, in roomserver.DirectoryQuery) (roomserver.DirectoryPage, error) {
	if of == "" || of == string(a.rooms.ServerName()) {
		return a.rooms.Directory(ctx, in)
	}
	server, err := matrix.ParseServerName(of)
	if err != nil {
		return roomserver.DirectoryPage{}, err
	}
	return a.network.PublicRooms(ctx, server, in)
}

func showPublished(p rooms.Published) publicRoom {
	return publicRoom{
		RoomID: p.Room, Name: p.Name, Topic: p.Topic, CanonicalAlias: p.CanonicalAlias, AvatarURL: p.AvatarURL,
		JoinRule: p.JoinRule, RoomType: p.RoomType, WorldReadable: p.WorldReadable, GuestCanJoin: p.GuestCanJoin,
		JoinedMembers: p.Joined,
	}
}

type visibility struct {
	Visibility string `json:"visibility"`
}

// visibility tells whether a room is published here.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid
func (a *API) visibility(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*visibility, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	public, err := a.rooms.Visibility(ctx, room)
	if err != nil {
		return nil, err
	}
	if public {
		return &visibility{"public"}, nil
	}
	return &visibility{"private"}, nil
}

// setVisibility publishes a room, or hides it again.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid
func (a *API) setVisibility(ctx context.Context, c *httpapi.Call, in *visibility) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	public, err := isPublic(in.Visibility, true)
	if err != nil {
		return nil, err
	}
	return nil, a.rooms.SetVisibility(ctx, c.Requester, room, public)
}
