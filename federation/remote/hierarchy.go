package remote

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Hierarchy is a space and the rooms in it that we may see.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
type Hierarchy struct {
	Room         SpaceRoom               `json:"room"`
	Children     Tolerant[SpaceRoom]     `json:"children"`
	Inaccessible Tolerant[matrix.RoomID] `json:"inaccessible_children"`
}

// SpaceRoom is the summary of a room in a space.
type SpaceRoom struct {
	PublicRoom
	RoomVersion    matrix.RoomVersion      `json:"room_version,omitempty"`
	Encryption     string                  `json:"encryption,omitempty"`
	AllowedRoomIDs Tolerant[matrix.RoomID] `json:"allowed_room_ids,omitempty"`
	ChildrenState  Tolerant[SpaceChild]    `json:"children_state,omitempty"`
}

// SpaceChild is an m.space.child event of a space, stripped.
type SpaceChild struct {
	Type           string          `json:"type"`
	StateKey       matrix.RoomID   `json:"state_key"`
	Sender         matrix.UserID   `json:"sender"`
	OriginServerTS int64           `json:"origin_server_ts"`
	Content        json.RawMessage `json:"content"`
}

// Space is the room that a hierarchy is of.
type Space struct {
	Room          matrix.RoomID
	SuggestedOnly bool
}

// Hierarchy asks for a space and its rooms.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
func (c *Client) Hierarchy(ctx context.Context, from matrix.ServerName, space Space) (Hierarchy, error) {
	query := url.Values{"suggested_only": {"false"}}
	if space.SuggestedOnly {
		query.Set("suggested_only", "true")
	}
	var h Hierarchy
	err := c.answer(ctx, outbound.Call{
		To: from, MaxBytes: maxDirectoryBytes, Timeout: queryTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", "hierarchy", string(space.Room)) + "?" + query.Encode(),
	}, &h)
	if err != nil {
		return Hierarchy{}, err
	}
	if h.Room.RoomID != space.Room {
		return Hierarchy{}, badOf(from, bad("a hierarchy of another room"))
	}
	h.Inaccessible = slices.DeleteFunc(h.Inaccessible, func(id matrix.RoomID) bool { return !isRoomID(id) })
	h.Children = slices.DeleteFunc(h.Children, func(r SpaceRoom) bool { return !isRoomID(r.RoomID) })
	h.Room.clean()
	for i := range h.Children {
		h.Children[i].clean()
	}
	return h, nil
}

// clean takes out what is not of its form.
func (r *SpaceRoom) clean() {
	r.AllowedRoomIDs = slices.DeleteFunc(r.AllowedRoomIDs, func(id matrix.RoomID) bool { return !isRoomID(id) })
	r.ChildrenState = slices.DeleteFunc(r.ChildrenState, func(s SpaceChild) bool {
		_, err := matrix.ParseUserID(string(s.Sender))
		return s.Type != "m.space.child" || !isRoomID(s.StateKey) || err != nil || !isObject(s.Content)
	})
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }
