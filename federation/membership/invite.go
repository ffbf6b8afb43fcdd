package membership

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
)

// Invites are the invites of other servers to users of this one. roomserver implements it.
type Invites interface {
	// ReceiveInvite takes an invite to a user of this server and returns it with this server's signature, the only thing
	// that it adds. The event is an m.room.member event of membership invite, to an existing user of this server, by a
	// user of the server that sent it, which has signed it. state has stripped state events, clean in their form, by
	// which the user can tell what the room is; nobody has checked that they are true. The room may be known here or
	// not. That the invite is not wanted is an error: M_FORBIDDEN or M_INVITE_BLOCKED.
	ReceiveInvite(ctx context.Context, invite *event.Event, state []json.RawMessage) (*event.Event, error)
}

// invite takes an invite to a user of this server, and signs it.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (a *API) invite(ctx context.Context, c *peer.Call, in *remote.InviteRequest) (*remote.InviteResponse, error) {
	if in.RoomVersion == "" || in.Event == nil {
		return nil, matrix.Errorf(matrix.MissingParam, "room_version and event are needed")
	}
	version, known := event.VersionOf(in.RoomVersion)
	if !known {
		return nil, matrix.Errorf(matrix.IncompatibleRoomVersion, "this server does not know room version %q", in.RoomVersion).
			With("room_version", in.RoomVersion)
	}
	return a.takeInvite(ctx, c, invitation{version: version, event: in.Event, state: in.State})
}

// inviteV1 is the first version of the same, where the event is the body, and the version of the room 1 or 2, which have
// the same events.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid
func (a *API) inviteV1(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*[2]any, error) {
	version, _ := event.VersionOf("1")
	room, err := a.rooms.Room(ctx, matrix.RoomID(c.Path("roomID")))
	if err == nil {
		version = room.Version
	}
	var beside remote.InviteRequestV1
	if err := httpapi.Decode(*in, &beside); err != nil {
		return nil, err
	}
	answer, err := a.takeInvite(ctx, c, invitation{version: version, event: json.RawMessage(*in), state: beside.Unsigned.State})
	if err != nil {
		return nil, err
	}
	return &[2]any{200, answer}, nil
}

// invitation is what a request to invite has.
type invitation struct {
	version *event.Version
	event   json.RawMessage
	state   []json.RawMessage
}

func (a *API) takeInvite(ctx context.Context, c *peer.Call, in invitation) (*remote.InviteResponse, error) {
	e, err := a.invitedBy(ctx, c, in)
	if err != nil {
		return nil, err
	}
	if err := a.userExists(ctx, e.Target()); err != nil {
		return nil, err
	}
	state, err := a.inviteState(ctx, in, e.RoomID)
	if err != nil {
		return nil, err
	}
	signed, err := a.invites.ReceiveInvite(ctx, e, state)
	if err != nil {
		return nil, err
	}
	return &remote.InviteResponse{Event: signed.JSON}, nil
}

// invitedBy reads the event, and makes sure that it is an invite by a user of the server that sent it to a user of this
// one in the room that the request names, and nothing else: it will have our signature.
func (a *API) invitedBy(ctx context.Context, c *peer.Call, in invitation) (*event.Event, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	if had, err := a.rooms.Room(ctx, room); err == nil && had.Version != in.version {
		return nil, invalid("%s has room version %s, not %s", room, had.Version.ID, in.version.ID)
	} else if err != nil && matrix.CodeOf(err) != matrix.NotFound {
		return nil, err
	}
	e, err := event.Parse(in.version, in.event)
	if err != nil {
		return nil, err
	}
	sent := roomserver.Sent{Origin: c.Origin, Room: room, ID: matrix.EventID(c.Path("eventID")), Event: e}
	if err := checkSent(sent, event.Invite); err != nil {
		return nil, err
	}
	if _, err := matrix.ParseUserID(string(e.Target())); err != nil || e.Target().Server() != a.name {
		return nil, invalid("%q is no user of this server", e.Target())
	}
	if err := a.checkSignature(ctx, e); err != nil {
		return nil, err
	}
	return e, a.access.Check(ctx, c.Origin, room)
}

// maxInviteState bounds the state events that come with an invite.
const maxInviteState = 64

// inviteState returns what is told of the room, stripped. Of rooms whose ID is the hash of their creation it must be
// events that are proved to be of the room, among them the creation. Elsewhere all is hearsay, and what has not the form
// is left out.
func (a *API) inviteState(ctx context.Context, in invitation, room matrix.RoomID) ([]json.RawMessage, error) {
	if len(in.state) > maxInviteState {
		return nil, invalid("more than %d state events come with the invite", maxInviteState)
	}
	if in.version.RoomIDs == event.CreateHashRoomIDs {
		if err := a.proveState(ctx, in, room); err != nil {
			return nil, err
		}
	}
	stripped := []json.RawMessage{}
	places := map[event.Key]bool{}
	for _, raw := range in.state {
		place, text := strip(raw)
		if text != nil && !places[place] {
			places[place] = true
			stripped = append(stripped, text)
		}
	}
	return stripped, nil
}

// proveState checks events that come with an invite.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (a *API) proveState(ctx context.Context, in invitation, room matrix.RoomID) error {
	events := make([]*event.Event, len(in.state))
	for i, raw := range in.state {
		e, err := event.Parse(in.version, raw)
		if err != nil {
			return invalid("invite_room_state: %v", err)
		}
		if e.RoomID != room || !e.IsState() {
			return invalid("invite_room_state: %s is no state event of %s", e.ID, room)
		}
		events[i] = e
	}
	if !slices.ContainsFunc(events, func(e *event.Event) bool { return e.Type == event.TypeCreate }) {
		return invalid("invite_room_state has no create event")
	}
	for _, err := range a.ring.VerifyEvents(ctx, events) {
		if err != nil {
			return invalid("invite_room_state: %v", err)
		}
	}
	return nil
}

// strip returns the stripped form of a state event, and its place in the state; nil if it is none. The creation of a room
// also tells when that was.
// https://spec.matrix.org/v1.19/client-server-api/#stripped-state
func strip(raw []byte) (event.Key, []byte) {
	obj := objectOf(raw)
	if obj == nil {
		return event.Key{}, nil
	}
	typ, isText := canonical.String(canonical.Get(obj, "type"))
	key, hasKey := canonical.String(canonical.Get(obj, "state_key"))
	sender, _ := canonical.String(canonical.Get(obj, "sender"))
	content := canonical.Get(obj, "content")
	_, err := matrix.ParseUserID(sender)
	if err != nil || !isText || !hasKey || !isObject(content) || len(obj) > event.MaxBytes {
		return event.Key{}, nil
	}
	if len(typ) > event.MaxFieldBytes || len(key) > event.MaxFieldBytes {
		return event.Key{}, nil
	}
	text := append([]byte(`{"content":`), content...)
	if ts, isInt := canonical.Int(canonical.Get(obj, "origin_server_ts")); isInt && typ == event.TypeCreate {
		text = strconv.AppendInt(append(text, `,"origin_server_ts":`...), ts, 10)
	}
	text = canonical.AppendString(append(text, `,"sender":`...), sender)
	text = canonical.AppendString(append(text, `,"state_key":`...), key)
	text = canonical.AppendString(append(text, `,"type":`...), typ)
	return event.Key{Type: typ, StateKey: key}, append(text, '}')
}
