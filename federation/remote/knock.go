package remote

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// SendKnock sends a knock of ours to a resident server, and returns state events that tell what the room is.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid
func (c *Client) SendKnock(ctx context.Context, to matrix.ServerName, knock *event.Event) (Events, error) {
	return c.events(ctx, eventList{
		call: outbound.Call{
			To: to, Method: "PUT", Content: knock.JSON, MaxBytes: maxStrippedBytes, Timeout: handshakeTimeout,
			URI: outbound.Path("_matrix", "federation", "v1", "send_knock", string(knock.RoomID), string(knock.ID)),
		},
		room: Room{ID: knock.RoomID, Version: knock.Version}, member: "knock_room_state", max: maxStrippedEvents,
	})
}
