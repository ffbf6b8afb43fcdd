package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// event tells one event.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomideventeventid
func (a *API) event(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	v, seen, err := a.find(ctx, c)
	if err != nil {
		return nil, err
	}
	out, err := v.AppendOne(ctx, nil, seen, a.form())
	return (*httpapi.Raw)(&out), err
}

// find returns the event of the path. One that there is not, one that the caller may not see, and one in a room that it
// knows nothing of, are the same M_NOT_FOUND.
func (a *API) find(ctx context.Context, c *httpapi.Call) (*view.Viewer, view.Seen, error) {
	id, err := matrix.ParseEventID(c.Path("eventID"))
	if err != nil {
		return nil, view.Seen{}, err
	}
	v, err := a.viewer(ctx, c)
	if err == nil && v.Now.Forgotten {
		_, err = v.Standing(ctx)
	}
	if matrix.CodeOf(err) == matrix.Forbidden {
		return nil, view.Seen{}, noEvent(id)
	}
	if err != nil {
		return nil, view.Seen{}, err
	}
	found, _, err := rooms.EventByID(ctx, a.db, v.Room, id)
	if err != nil {
		return nil, view.Seen{}, err
	}
	if found == nil {
		return nil, view.Seen{}, noEvent(id)
	}
	seen, err := v.See(ctx, []*rooms.Event{found})
	if err == nil && len(seen) == 0 {
		err = noEvent(id)
	}
	if err != nil {
		return nil, view.Seen{}, err
	}
	return v, seen[0], nil
}

// noEvent does not tell what is not there from what may not be seen: the difference is a fact about the room.
func noEvent(id matrix.EventID) error {
	return matrix.Errorf(matrix.NotFound, "there is no event %s, or you may not see it", id)
}
