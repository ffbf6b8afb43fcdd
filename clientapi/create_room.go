package clientapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

// createRoomRequest keeps apart what is absent and what is empty where that makes a difference: those are raw.
type createRoomRequest struct {
	Visibility      string            `json:"visibility"`
	RoomAliasName   string            `json:"room_alias_name"`
	Name            string            `json:"name"`
	Topic           string            `json:"topic"`
	Invite          []string          `json:"invite"`
	Invite3PID      []json.RawMessage `json:"invite_3pid"`
	RoomVersion     string            `json:"room_version"`
	CreationContent json.RawMessage   `json:"creation_content"`
	InitialState    []initialState    `json:"initial_state"`
	Preset          string            `json:"preset"`
	IsDirect        bool              `json:"is_direct"`
	PowerLevels     json.RawMessage   `json:"power_level_content_override"`
}

type initialState struct {
	Type     string          `json:"type"`
	StateKey string          `json:"state_key"`
	Content  json.RawMessage `json:"content"`
}

type createRoomResponse struct {
	RoomID matrix.RoomID `json:"room_id"`
}

// createRoom makes a room, with the caller in it.
// https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom
func (a *API) createRoom(ctx context.Context, c *httpapi.Call, in *createRoomRequest) (*createRoomResponse, error) {
	create, err := in.parse()
	if err != nil {
		return nil, err
	}
	if _, isAlone := a.network.(alone); !isAlone {
		create.Invite, create.InviteLater = a.split(create.Invite)
	}
	room, err := a.rooms.Create(ctx, c.Requester, create)
	if err != nil {
		return nil, err
	}
	a.inviteLater(ctx, c.Requester, room, create)
	return &createRoomResponse{RoomID: room}, nil
}

// split tells the users of this server from those of others.
func (a *API) split(users []matrix.UserID) (here, elsewhere []matrix.UserID) {
	for _, user := range users {
		if user.Server() == a.rooms.ServerName() {
			here = append(here, user)
		} else {
			elsewhere = append(elsewhere, user)
		}
	}
	return here, elsewhere
}

// invitesTimeout is how long the servers of those who are invited to a new room may take together.
const invitesTimeout = time.Minute

// inviteLater invites the users of other servers. The room is there, with or without those whose servers refuse them or
// cannot be reached.
func (a *API) inviteLater(ctx context.Context, by matrix.Requester, room matrix.RoomID, in roomserver.CreateRoom) {
	ctx, cancel := context.WithTimeout(ctx, invitesTimeout)
	defer cancel()
	for _, user := range in.InviteLater {
		if err := a.network.Invite(ctx, by, roomserver.Move{Room: room, Target: user}, in.Direct); err != nil {
			a.log.Info("a user of another server was not invited to a new room", "server", user.Server(), "cause", err)
		}
	}
}

// parse turns the request into the room server's terms. What a room may begin with is the room server's to say.
func (in *createRoomRequest) parse() (out roomserver.CreateRoom, err error) {
	out = roomserver.CreateRoom{
		AliasName: in.RoomAliasName, Name: in.Name, Topic: in.Topic, Direct: in.IsDirect,
		Preset: in.Preset, CreationContent: present(in.CreationContent), PowerLevels: present(in.PowerLevels),
	}
	if out.Public, err = isPublic(in.Visibility, false); err != nil {
		return out, err
	}
	if len(in.Invite3PID) > 0 {
		return out, matrix.Errorf(matrix.ThreepidDenied, "this server cannot invite by e-mail address or telephone number")
	}
	if in.RoomVersion != "" {
		if out.Version, err = matrix.ParseRoomVersion(in.RoomVersion); err != nil {
			return out, matrix.Errorf(matrix.UnsupportedRoomVersion, "this server has no such room version")
		}
	}
	for _, text := range in.Invite {
		user, err := matrix.ParseUserID(text)
		if err != nil {
			return out, err
		}
		out.Invite = append(out.Invite, user)
	}
	for _, s := range in.InitialState {
		if s.Type == "" || present(s.Content) == nil {
			return out, matrix.Errorf(matrix.BadJSON, "what is in \"initial_state\" must have a \"type\" and a \"content\"")
		}
		out.InitialState = append(out.InitialState, s.state())
	}
	return out, nil
}

// state passes the content on unread: roomserver checks it as it checks any event.
func (s initialState) state() roomserver.InitialState {
	return roomserver.InitialState{Type: s.Type, StateKey: s.StateKey, Content: s.Content}
}

// present takes null for absent.
func present(raw json.RawMessage) []byte {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// isPublic reads a visibility in the directory.
func isPublic(visibility string, absent bool) (bool, error) {
	switch visibility {
	case "":
		return absent, nil
	case "public", "private":
		return visibility == "public", nil
	}
	return false, matrix.Errorf(matrix.InvalidParam, "\"visibility\" must be public or private, not %q", visibility)
}
