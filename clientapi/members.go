package clientapi

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// members tells the member events of a room, at present or at a token.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers
func (a *API) members(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	at, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	wanted, err := membershipFilter(c)
	if err != nil {
		return nil, err
	}
	state, err := a.stateAtToken(ctx, at, c.Query("at"))
	if err != nil {
		return nil, err
	}
	members, err := state.Members(ctx)
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(e *rooms.Event) bool { return !wanted(e.Membership()) })
	out, err := at.Append(ctx, []byte(`{"chunk":`), shown(members), a.stateForm())
	out = append(out, '}')
	return (*httpapi.Raw)(&out), err
}

// stateAtToken is the state that the eye sees at a token; empty: the latest.
func (a *API) stateAtToken(ctx context.Context, at eye, token string) (roomserver.State, error) {
	if token == "" {
		return a.state(ctx, at)
	}
	gap, err := view.ParseGap(token)
	if err != nil {
		return roomserver.State{}, err
	}
	state, err := a.stateAt(ctx, at, gap.Position())
	if err != nil || state.Root() != 0 {
		return state, err
	}
	return a.firstState(ctx, at)
}

// firstState stands in for the state at a token from before the room: what its creator made of it by coming in.
// Clients get such tokens where a timeline reaches back to the beginning, and ask who was there then.
func (a *API) firstState(ctx context.Context, at eye) (roomserver.State, error) {
	root, err := rooms.FirstRoot(ctx, a.db, at.Room.Num)
	return a.rooms.StateAt(at.Room, root), err
}

// membershipFilter reads which memberships are wanted. Given both ways, either suffices.
func membershipFilter(c *httpapi.Call) (func(event.Membership) bool, error) {
	in, out := event.Membership(c.Query("membership")), event.Membership(c.Query("not_membership"))
	for _, m := range []event.Membership{in, out} {
		switch m {
		case "", event.Join, event.Invite, event.Knock, event.Leave, event.Ban:
		default:
			return nil, matrix.Errorf(matrix.InvalidParam, "there is no membership %q", m)
		}
	}
	return func(m event.Membership) bool {
		return in == "" && out == "" || in != "" && m == in || out != "" && m != out
	}, nil
}

// joinedMembers tells who is in a room, with their names and pictures there.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members
func (a *API) joinedMembers(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	v, err := a.viewer(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := mustBeJoined(v); err != nil {
		return nil, err
	}
	state, err := a.rooms.Current(ctx, v.Room.ID)
	if err != nil {
		return nil, err
	}
	members, err := state.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := []byte(`{"joined":{`)
	for _, e := range members {
		if e.Membership() != event.Join {
			continue
		}
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		out = canonical.AppendString(out, *e.StateKey)
		out = appendText(append(out, `:{"display_name":`...), canonical.Get(e.Content, "displayname"))
		out = appendText(append(out, `,"avatar_url":`...), canonical.Get(e.Content, "avatar_url"))
		out = append(out, '}')
	}
	out = append(out, "}}"...)
	return (*httpapi.Raw)(&out), nil
}

// appendText copies a JSON string. Where there is none it writes null, as clients have learned to expect.
func appendText(dst, raw []byte) []byte {
	if _, ok := canonical.String(raw); !ok {
		return append(dst, "null"...)
	}
	return append(dst, raw...)
}

type joinedRoomsResponse struct {
	JoinedRooms []matrix.RoomID `json:"joined_rooms"`
}

// joinedRooms tells which rooms the caller is in.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms
func (a *API) joinedRooms(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*joinedRoomsResponse, error) {
	memberships, err := rooms.MembershipsOfUser(ctx, a.db, c.User, 0)
	if err != nil {
		return nil, err
	}
	out := &joinedRoomsResponse{JoinedRooms: []matrix.RoomID{}}
	for _, m := range memberships {
		if m.Membership == event.Join {
			out.JoinedRooms = append(out.JoinedRooms, m.Room)
		}
	}
	return out, nil
}
