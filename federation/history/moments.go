package history

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// timestampToEvent tells which event that the server may have in full is nearest to a time. Only what is here is looked
// at: who asks, asks others too.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
func (a *API) timestampToEvent(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.EventAtTime, error) {
	ms, err := strconv.ParseInt(c.Query("ts"), 10, 64)
	dir := c.Query("dir")
	if err != nil || dir != "b" && dir != "f" {
		return nil, matrix.Errorf(matrix.InvalidParam, "\"ts\" must be a number of milliseconds, and \"dir\" b or f")
	}
	v, err := a.eye(ctx, c)
	if err != nil {
		return nil, err
	}
	found, there, err := v.Nearest(ctx, rooms.Moment{AtMS: ms, Backward: dir == "b"})
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, matrix.Errorf(matrix.NotFound, "there is no event on that side of %d", ms)
	}
	return &remote.EventAtTime{EventID: found.ID, OriginServerTS: found.OriginServerTS}, nil
}
