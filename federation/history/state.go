package history

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// event returns one event, wherever it is.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid
func (a *API) event(ctx context.Context, c *peer.Call, _ *httpapi.None) (*httpapi.Answer, error) {
	const maxRooms = 10 // with an ID that somebody chose
	id := c.Path("eventID")
	nums, err := rooms.RoomsOfEvent(ctx, a.db, matrix.EventID(id), maxRooms)
	if err != nil {
		return nil, err
	}
	known, err := rooms.ByNumbers(ctx, a.db, nums)
	if err != nil {
		return nil, err
	}
	for _, num := range nums {
		pdu, err := a.eventIn(ctx, c, known[num])
		if err == nil {
			return a.transaction([][]byte{pdu}), nil
		}
		if code := matrix.CodeOf(err); code != matrix.NotFound && code != matrix.Forbidden {
			return nil, err
		}
	}
	return nil, notFound(id)
}

// eventIn returns the event if it is in a room that the server is in.
func (a *API) eventIn(ctx context.Context, c *peer.Call, room rooms.Room) ([]byte, error) {
	v, err := a.eyeOn(ctx, c, room.ID)
	if err != nil {
		return nil, err
	}
	e, err := a.find(ctx, v, c.Path("eventID"))
	if err != nil {
		return nil, err
	}
	pdu, ok, err := v.PDU(ctx, e)
	if err == nil && !ok {
		err = notFound(c.Path("eventID"))
	}
	return pdu, err
}

// eventAuth returns the events that authorise one.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid
func (a *API) eventAuth(ctx context.Context, c *peer.Call, _ *httpapi.None) (*httpapi.Answer, error) {
	v, err := a.eye(ctx, c)
	if err != nil {
		return nil, err
	}
	e, err := a.find(ctx, v, c.Path("eventID"))
	if err != nil {
		return nil, err
	}
	chain, err := a.authChain(ctx, v.Room, []*rooms.Event{e})
	if err != nil {
		return nil, err
	}
	return new(peer.Answer).Text(`{"auth_chain":`).List(rooms.Texts(chain)).Text("}").End(), nil
}

// state returns the state before an event, and what authorises it.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid
func (a *API) state(ctx context.Context, c *peer.Call, _ *httpapi.None) (*httpapi.Answer, error) {
	state, chain, err := a.stateBefore(ctx, c)
	if err != nil {
		return nil, err
	}
	return new(peer.Answer).Text(`{"auth_chain":`).List(rooms.Texts(chain)).Text(`,"pdus":`).List(rooms.Texts(state)).Text("}").End(), nil
}

// stateIDs returns the same by IDs.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid
func (a *API) stateIDs(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.StateIDs, error) {
	state, chain, err := a.stateBefore(ctx, c)
	if err != nil {
		return nil, err
	}
	return &remote.StateIDs{State: idsOf(state), AuthChain: idsOf(chain)}, nil
}

// stateBefore finds the state before the event that a request names. A server that is in the room may have any of its
// states: without them it could not check the events that it is sent.
func (a *API) stateBefore(ctx context.Context, c *peer.Call) (state, chain []*rooms.Event, err error) {
	v, err := a.eye(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	e, err := a.find(ctx, v, c.Query("event_id"))
	if err != nil {
		return nil, nil, err
	}
	if e.StateUnknown {
		return nil, nil, matrix.Errorf(matrix.NotFound, "this server does not know the state before %s", e.ID)
	}
	if state, err = a.stateAt(ctx, v, e); err != nil {
		return nil, nil, err
	}
	chain, err = a.authChain(ctx, v.Room, state)
	return state, chain, err
}

// stateAt returns the state before an event. While the members of the room are unknown, the answer is 404, as for any event
// of which "the server doesn't know about the state"; the code says to other servers that this will pass (MSC3895).
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid
func (a *API) stateAt(ctx context.Context, v *view.ServerViewer, e *rooms.Event) ([]*rooms.Event, error) {
	if e.StateBefore == 0 {
		return nil, nil // of the first event
	}
	partial, err := a.rooms.IsPartial(ctx, v.Room)
	if err != nil {
		return nil, err
	}
	if partial {
		return nil, matrix.Errorf(matrix.UnableDueToPartialState, "the members of %s are still being fetched by this server", v.Room.ID)
	}
	return a.rooms.StateAt(v.Room, e.StateBefore).All(ctx)
}

// Limits on the search for what authorises events.
const (
	maxAuthChain   = 100_000
	authChainChunk = 500
)

// authChain returns the events that authorise some, and those that authorise these, down to the creation of the room.
func (a *API) authChain(ctx context.Context, room rooms.Room, of []*rooms.Event) ([]*rooms.Event, error) {
	known := make(map[matrix.EventID]*rooms.Event, len(of))
	for _, e := range of {
		known[e.ID] = e
	}
	inChain := map[matrix.EventID]bool{}
	var chain []*rooms.Event
	for level := of; len(level) > 0; {
		var found []*rooms.Event
		var ask []matrix.EventID
		for _, e := range level {
			for _, id := range e.Authorities() {
				if inChain[id] {
					continue
				}
				inChain[id] = true
				if had := known[id]; had != nil {
					found = append(found, had)
				} else {
					ask = append(ask, id)
				}
			}
		}
		for some := range slices.Chunk(ask, authChainChunk) {
			read, err := rooms.EventsByID(ctx, a.db, room, some)
			if err != nil {
				return nil, err
			}
			found = append(found, read...)
		}
		level = slices.DeleteFunc(found, func(e *rooms.Event) bool { return e.Kind == rooms.Rejected })
		chain = append(chain, level...)
		if len(chain) > maxAuthChain {
			return nil, matrix.Errorf(matrix.ResourceLimitExceeded, "more than %d events authorise this", maxAuthChain)
		}
	}
	return chain, nil
}

func idsOf(events []*rooms.Event) []matrix.EventID {
	list := make([]matrix.EventID, len(events))
	for i, e := range events {
		list[i] = e.ID
	}
	return list
}
