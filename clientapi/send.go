package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
)

type eventIDResponse struct {
	EventID matrix.EventID `json:"event_id"`
}

// send sends a message event, a redaction among them.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid
func (a *API) send(ctx context.Context, c *httpapi.Call, content *httpapi.RawBody) (*eventIDResponse, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	typ, err := opaque(c, "eventType")
	if err != nil {
		return nil, err
	}
	txn, err := transaction(c, string(room), "send", typ)
	if err != nil {
		return nil, err
	}
	id, err := a.rooms.Send(ctx, c.Requester, roomserver.SendEvent{Room: room, Type: typ, Content: *content, Txn: txn})
	if err != nil {
		return nil, err
	}
	a.ephemeral.Active(c.User)
	return &eventIDResponse{EventID: id}, nil
}

// redact takes the content of an event away.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid
func (a *API) redact(ctx context.Context, c *httpapi.Call, in *reasonRequest) (*eventIDResponse, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	target, err := matrix.ParseEventID(c.Path("eventID"))
	if err != nil {
		return nil, err
	}
	txn, err := transaction(c, string(room), "redact", string(target))
	if err != nil {
		return nil, err
	}
	id, err := a.rooms.Redact(ctx, c.Requester, roomserver.RedactEvent{Room: room, Event: target, Reason: in.Reason, Txn: txn})
	if err != nil {
		return nil, err
	}
	a.ephemeral.Active(c.User)
	return &eventIDResponse{EventID: id}, nil
}

// transaction reads the transaction ID at the end of a path. What stands before it is given decoded, and without the
// version, so that a repeat is known however it was written.
// https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
func transaction(c *httpapi.Call, room, action, subject string) (roomserver.Txn, error) {
	id, err := opaque(c, "txnID")
	return roomserver.Txn{Path: room + "/" + action + "/" + subject, ID: id}, err
}
