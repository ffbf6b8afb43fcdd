package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// PublicRoomsRequest asks for a page of the directory of a server.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms
type PublicRoomsRequest struct {
	Limit       int64              `json:"limit,omitempty"` // 0: the server's choice
	Since       string             `json:"since,omitempty"`
	Filter      *PublicRoomsFilter `json:"filter,omitempty"`
	AllNetworks bool               `json:"include_all_networks,omitempty"`
	Network     string             `json:"third_party_instance_id,omitempty"`
}

// PublicRoomsFilter says which rooms are wanted.
type PublicRoomsFilter struct {
	Term      string    `json:"generic_search_term,omitempty"`
	RoomTypes []*string `json:"room_types,omitempty"` // nil stands for rooms without a type
}

// PublicRooms is a page of a directory.
type PublicRooms struct {
	Chunk     Tolerant[PublicRoom] `json:"chunk"`
	NextBatch string               `json:"next_batch,omitempty"`
	PrevBatch string               `json:"prev_batch,omitempty"`
	Total     int64                `json:"total_room_count_estimate,omitempty"`
}

// PublicRoom is a room in a directory.
type PublicRoom struct {
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

// PublicRooms asks for a page of the directory of a server: by GET where nothing is searched for, since some servers
// know that alone.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms
func (c *Client) PublicRooms(ctx context.Context, of matrix.ServerName, in PublicRoomsRequest) (PublicRooms, error) {
	call := outbound.Call{
		To: of, URI: "/_matrix/federation/v1/publicRooms", MaxBytes: maxDirectoryBytes, Timeout: queryTimeout,
	}
	if in.Filter == nil {
		call.URI += in.query()
	} else {
		body, err := json.Marshal(in)
		if err != nil {
			return PublicRooms{}, err
		}
		call.Method, call.Content = http.MethodPost, body
	}
	var page PublicRooms
	if err := c.answer(ctx, call, &page); err != nil {
		return PublicRooms{}, err
	}
	page.Chunk = slices.DeleteFunc(page.Chunk, func(r PublicRoom) bool { return !isRoomID(r.RoomID) })
	return page, nil
}

func (in PublicRoomsRequest) query() string {
	query := url.Values{}
	if in.Limit > 0 {
		query.Set("limit", strconv.FormatInt(in.Limit, 10))
	}
	if in.Since != "" {
		query.Set("since", in.Since)
	}
	if in.AllNetworks {
		query.Set("include_all_networks", "true")
	}
	if in.Network != "" {
		query.Set("third_party_instance_id", in.Network)
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

func isRoomID(id matrix.RoomID) bool {
	_, err := matrix.ParseRoomID(string(id))
	return err == nil
}
