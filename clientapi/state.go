package clientapi

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/view"
)

// setState changes the piece of a room's state that has a state key.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey
func (a *API) setState(ctx context.Context, c *httpapi.Call, content *httpapi.RawBody) (*eventIDResponse, error) {
	return a.sendState(ctx, c, *content, c.Path("stateKey"))
}

// setStateNoKey changes the piece of a room's state with the empty state key, which the path may leave out.
func (a *API) setStateNoKey(ctx context.Context, c *httpapi.Call, content *httpapi.RawBody) (*eventIDResponse, error) {
	return a.sendState(ctx, c, *content, "")
}

// sendState has no transaction ID: to set the same state again changes nothing, and answers with the event that is
// there.
func (a *API) sendState(ctx context.Context, c *httpapi.Call, content []byte, stateKey string) (*eventIDResponse, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	typ, err := opaque(c, "eventType")
	if err != nil {
		return nil, err
	}
	if invite, ok := a.inviteElsewhere(typ, stateKey, content); ok {
		invite.move.Room = room
		return a.sendInvite(ctx, c, invite)
	}
	id, err := a.rooms.SendState(ctx, c.Requester, roomserver.SendState{Room: room, Type: typ, StateKey: stateKey, Content: content})
	if err != nil {
		return nil, err
	}
	a.ephemeral.Active(c.User)
	return &eventIDResponse{EventID: id}, nil
}

// An inviteState is an invite that a client sends as state.
type inviteState struct {
	move   roomserver.Move
	direct bool
}

// inviteElsewhere says whether state is the invite of a user of another server, whose server has to agree to it first.
func (a *API) inviteElsewhere(typ, stateKey string, content []byte) (in inviteState, ok bool) {
	if _, isAlone := a.network.(alone); isAlone || typ != event.TypeMember {
		return in, false
	}
	var body struct {
		Membership event.Membership `json:"membership"`
		Reason     string           `json:"reason"`
		Direct     bool             `json:"is_direct"`
	}
	target, err := matrix.ParseUserID(stateKey)
	if err != nil || target.Server() == a.rooms.ServerName() || json.Unmarshal(content, &body) != nil || body.Membership != event.Invite {
		return in, false
	}
	return inviteState{roomserver.Move{Target: target, Reason: body.Reason}, body.Direct}, true
}

func (a *API) sendInvite(ctx context.Context, c *httpapi.Call, in inviteState) (*eventIDResponse, error) {
	if err := a.network.Invite(ctx, c.Requester, in.move, in.direct); err != nil {
		return nil, err
	}
	state, err := a.rooms.Current(ctx, in.move.Room)
	if err != nil {
		return nil, err
	}
	_, invite, err := state.Member(ctx, in.move.Target)
	if err != nil {
		return nil, err
	}
	if invite == nil {
		return nil, matrix.Errorf(matrix.NotFound, "the invite of %s is gone already", in.move.Target)
	}
	a.ephemeral.Active(c.User)
	return &eventIDResponse{EventID: invite.ID}, nil
}

// stateEvent tells one piece of a room's state: its content, or with format=event all of it.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstateeventtypestatekey
func (a *API) stateEvent(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	return a.showState(ctx, c, event.Key{Type: c.Path("eventType"), StateKey: c.Path("stateKey")})
}

// stateEventNoKey tells the piece of a room's state with the empty state key.
func (a *API) stateEventNoKey(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	return a.showState(ctx, c, event.Key{Type: c.Path("eventType")})
}

// showState answers from the state that the caller sees: who has left, from that in which it left.
func (a *API) showState(ctx context.Context, c *httpapi.Call, key event.Key) (*httpapi.Raw, error) {
	at, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	state, err := a.state(ctx, at)
	if err != nil {
		return nil, err
	}
	found, err := state.Event(ctx, key)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, matrix.Errorf(matrix.NotFound, "%s has no state %q with the key %q", at.Room.ID, key.Type, key.StateKey)
	}
	switch format := c.Query("format"); format {
	case "", "content":
		out := httpapi.Raw(found.Content)
		return &out, nil
	case "event":
		out, err := at.AppendOne(ctx, nil, view.Seen{Event: found}, a.form())
		return (*httpapi.Raw)(&out), err
	default:
		return nil, matrix.Errorf(matrix.InvalidParam, "\"format\" must be content or event, not %q", format)
	}
}

// wholeState tells all of a room's state.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate
func (a *API) wholeState(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	at, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	state, err := a.state(ctx, at)
	if err != nil {
		return nil, err
	}
	events, err := state.All(ctx)
	if err != nil {
		return nil, err
	}
	out, err := at.Append(ctx, nil, shown(events), a.stateForm())
	return (*httpapi.Raw)(&out), err
}
