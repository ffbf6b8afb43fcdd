package spaces

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Limits of an answer about a space.
const (
	maxSpaceChildren = 1000 // listed
	maxSpaceRooms    = 200  // of these described
	maxAllowedRooms  = 20   // looked at for one restricted room
)

const (
	typeSpaceChild = "m.space.child"
	typeSpace      = "m.space"
)

// hierarchyResponse is a remote.Hierarchy that has the list of children, be it empty.
type hierarchyResponse struct {
	Room         spaceRoom          `json:"room"`
	Children     []remote.SpaceRoom `json:"children"`
	Inaccessible []matrix.RoomID    `json:"inaccessible_children"`
}

type spaceRoom struct {
	remote.SpaceRoom
	ChildrenState []remote.SpaceChild `json:"children_state"`
}

// hierarchy describes a space and the rooms in it, as far as the server that asks could enter them or read along.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
func (a *API) hierarchy(ctx context.Context, c *peer.Call, _ *httpapi.None) (*hierarchyResponse, error) {
	id, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	s := summary{api: a, origin: c.Origin, suggestedOnly: c.Query("suggested_only") == "true"}
	space, can, err := s.room(ctx, id)
	if err != nil {
		return nil, err
	}
	if can != accessible {
		return nil, matrix.Errorf(matrix.NotFound, "there is no room %s that %s could enter", id, c.Origin)
	}
	out := &hierarchyResponse{
		Room:     spaceRoom{space, space.ChildrenState},
		Children: []remote.SpaceRoom{}, Inaccessible: []matrix.RoomID{},
	}
	for _, child := range space.ChildrenState[:min(len(space.ChildrenState), maxSpaceRooms)] {
		if child.StateKey == id {
			continue
		}
		room, can, err := s.room(ctx, child.StateKey)
		switch {
		case err != nil:
			return nil, err
		case can == accessible:
			out.Children = append(out.Children, room)
		case can == inaccessible:
			out.Inaccessible = append(out.Inaccessible, child.StateKey)
		}
	}
	return out, nil
}

// entry says whether a room can be described to a server.
type entry uint8

const (
	unknown      entry = iota // this server is not in it, and knows nothing reliable
	inaccessible              // the other server could neither enter it nor read along
	accessible
)

// summary describes rooms to one server.
type summary struct {
	api           *API
	origin        matrix.ServerName
	suggestedOnly bool
}

// room describes a room.
func (s *summary) room(ctx context.Context, id matrix.RoomID) (out remote.SpaceRoom, _ entry, err error) {
	state, err := s.api.rooms.Current(ctx, id)
	if matrix.CodeOf(err) == matrix.NotFound {
		return out, unknown, nil
	}
	if err != nil {
		return out, unknown, err
	}
	if here, err := s.api.access.HasMember(ctx, state.Room(), s.api.rooms.ServerName()); err != nil || !here {
		return out, unknown, err
	}
	found, err := state.Events(ctx, summaryKeys...)
	if err != nil {
		return out, unknown, err
	}
	out = describe(state.Room(), found)
	if ok, err := s.mayEnter(ctx, state.Room(), out); err != nil || !ok {
		return out, inaccessible, err
	}
	head, _, err := rooms.HeadOf(ctx, s.api.db, state.Room().Num)
	if err != nil {
		return out, unknown, err
	}
	out.JoinedMembers = head.Joined
	out.ChildrenState = []remote.SpaceChild{}
	if out.RoomType == typeSpace {
		out.ChildrenState, err = s.children(ctx, state)
	}
	return out, accessible, err
}

// summaryKeys is the state that describes a room, in the order in which describe takes it.
var summaryKeys = []event.Key{
	{Type: event.TypeCreate}, {Type: event.TypeJoinRules}, {Type: event.TypeHistoryVisibility}, {Type: "m.room.name"},
	{Type: "m.room.topic"}, {Type: "m.room.canonical_alias"}, {Type: "m.room.avatar"}, {Type: "m.room.guest_access"},
	{Type: "m.room.encryption"},
}

func describe(room rooms.Room, found []*rooms.Event) (out remote.SpaceRoom) {
	text := func(i int, field string) string {
		if found[i] == nil {
			return ""
		}
		s, _ := canonical.String(canonical.Get(found[i].Content, field))
		return s
	}
	out.RoomID, out.RoomVersion = room.ID, room.Version.ID
	out.RoomType, out.JoinRule = text(0, "type"), text(1, "join_rule")
	out.WorldReadable = text(2, "history_visibility") == "world_readable"
	out.Name, out.Topic, out.CanonicalAlias = text(3, "name"), text(4, "topic"), text(5, "alias")
	out.AvatarURL, out.GuestCanJoin = text(6, "url"), text(7, "guest_access") == "can_join"
	out.Encryption = text(8, "algorithm")
	if out.JoinRule == "" {
		out.JoinRule = "invite"
	}
	if found[1] != nil && isRestricted(out.JoinRule) {
		out.AllowedRoomIDs = allowedRooms(found[1].Content)
	}
	return out
}

func isRestricted(joinRule string) bool {
	return joinRule == "restricted" || joinRule == "knock_restricted"
}

// allowedRooms are the rooms whose members may join.
// https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
func allowedRooms(joinRules []byte) []matrix.RoomID {
	list := []matrix.RoomID{}
	allow := canonical.Get(joinRules, "allow")
	if len(allow) == 0 || allow[0] != '[' {
		return list
	}
	for condition := range canonical.Elements(allow) {
		if condition[0] != '{' || len(list) == maxAllowedRooms {
			continue
		}
		typ, _ := canonical.String(canonical.Get(condition, "type"))
		text, _ := canonical.String(canonical.Get(condition, "room_id"))
		if id, err := matrix.ParseRoomID(text); err == nil && typ == "m.room_membership" {
			list = append(list, id)
		}
	}
	return list
}

// mayEnter says whether some user of the server could enter a room or read along.
func (s *summary) mayEnter(ctx context.Context, room rooms.Room, out remote.SpaceRoom) (bool, error) {
	switch {
	case out.WorldReadable, out.JoinRule == "public", out.JoinRule == "knock", out.JoinRule == "knock_restricted":
		return true, nil
	}
	users, err := rooms.UsersOf(ctx, s.api.db, room.Num, s.origin, maxAllowedRooms)
	if err != nil {
		return false, err
	}
	for _, user := range users {
		m, _, err := rooms.MembershipOf(ctx, s.api.db, room.Num, user)
		if err != nil || m.Membership == event.Join || m.Membership == event.Invite {
			return err == nil, err
		}
	}
	if !isRestricted(out.JoinRule) {
		return false, nil
	}
	for _, id := range out.AllowedRoomIDs {
		allowed, err := s.api.rooms.Room(ctx, id)
		if err != nil {
			if matrix.CodeOf(err) == matrix.NotFound {
				continue
			}
			return false, err
		}
		if ok, err := s.api.access.HasMember(ctx, allowed, s.origin); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// children lists the rooms of a space, in their order.
// https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space
func (s *summary) children(ctx context.Context, state roomserver.State) ([]remote.SpaceChild, error) {
	events, err := state.NonMembers(ctx)
	if err != nil {
		return nil, err
	}
	type ordered struct {
		remote.SpaceChild
		order string
	}
	var all []ordered
	for _, e := range events {
		if child, ok := spaceChild(e); ok && (!s.suggestedOnly || string(canonical.Get(e.Content, "suggested")) == "true") {
			order, _ := canonical.String(canonical.Get(e.Content, "order"))
			all = append(all, ordered{child, validOrder(order)})
		}
	}
	slices.SortFunc(all, func(a, b ordered) int {
		if (a.order == "") != (b.order == "") {
			return cmp.Compare(b.order, a.order) // those without an order come last
		}
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.OriginServerTS, b.OriginServerTS), cmp.Compare(a.StateKey, b.StateKey))
	})
	children := make([]remote.SpaceChild, 0, len(all))
	for _, child := range all[:min(len(all), maxSpaceChildren)] {
		children = append(children, child.SpaceChild)
	}
	return children, nil
}

// validOrder returns an order that is one, and else none.
func validOrder(order string) string {
	if len(order) > 50 || slices.ContainsFunc([]byte(order), func(c byte) bool { return c < 0x20 || c > 0x7e }) {
		return ""
	}
	return order
}

// spaceChild reads an event that puts a room into a space: one without servers takes it out again.
func spaceChild(e *rooms.Event) (remote.SpaceChild, bool) {
	if e.Type != typeSpaceChild {
		return remote.SpaceChild{}, false
	}
	id, err := matrix.ParseRoomID(*e.StateKey)
	var content struct {
		Via []string `json:"via"`
	}
	if err != nil || json.Unmarshal(e.Content, &content) != nil || len(content.Via) == 0 {
		return remote.SpaceChild{}, false
	}
	return remote.SpaceChild{
		Type: e.Type, StateKey: id, Sender: e.Sender, OriginServerTS: e.OriginServerTS, Content: json.RawMessage(e.Content),
	}, true
}
