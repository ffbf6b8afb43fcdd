package history

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver/view"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// eye opens the room of a request to the server that makes it. Who is not in it, is denied by its ACL, or asks for a room
// that is not known, is refused alike but for the words of the ACL, which members may know.
func (a *API) eye(ctx context.Context, c *peer.Call) (*view.ServerViewer, error) {
	id, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return a.eyeOn(ctx, c, id)
}

func (a *API) eyeOn(ctx context.Context, c *peer.Call, id matrix.RoomID) (*view.ServerViewer, error) {
	v, err := view.OpenServer(ctx, a.rooms, a.db, view.ServerIn{Server: c.Origin, Room: id})
	if err != nil {
		return nil, err
	}
	return v, a.access.Check(ctx, c.Origin, id)
}

// find returns an event of the room that a request is about. Events of other rooms are not found, like those that are
// nowhere, and those that broke the rules.
func (a *API) find(ctx context.Context, v *view.ServerViewer, id string) (*rooms.Event, error) {
	e, found, err := rooms.EventByID(ctx, a.db, v.Room, matrix.EventID(id))
	if err != nil {
		return nil, err
	}
	if !found || e.Kind == rooms.Rejected {
		return nil, notFound(id)
	}
	return e, nil
}

func notFound(event string) error {
	return matrix.Errorf(matrix.NotFound, "there is no event %q", event)
}

// transaction is an answer in the form of a transaction.
func (a *API) transaction(pdus [][]byte) *httpapi.Answer {
	head := canonical.AppendString([]byte(`{"origin":`), string(a.rooms.ServerName()))
	head = strconv.AppendInt(append(head, `,"origin_server_ts":`...), a.now().UnixMilli(), 10)
	return new(peer.Answer).Text(string(head) + `,"pdus":`).List(pdus).Text("}").End()
}

// shown returns events as a server may have them, without those that it may not.
func shown(ctx context.Context, v *view.ServerViewer, events []*rooms.Event) ([][]byte, error) {
	pdus := make([][]byte, 0, len(events))
	for _, e := range events {
		pdu, ok, err := v.PDU(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			pdus = append(pdus, pdu)
		}
	}
	return pdus, nil
}
