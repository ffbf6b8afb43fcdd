package remote

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
)

// SendLeave sends a leave of ours to a resident server.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid
func (c *Client) SendLeave(ctx context.Context, to matrix.ServerName, leave *event.Event) error {
	call := membershipCall(to, "send_leave", leave)
	_, err := c.http.Bytes(ctx, call)
	if lacksEndpoint(err) {
		_, err = c.http.Bytes(ctx, olderForm(call))
	}
	return err
}
