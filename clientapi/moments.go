package clientapi

import (
	"context"
	"strconv"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// momentResponse is the event nearest to a moment.
type momentResponse struct {
	EventID        matrix.EventID `json:"event_id"`
	OriginServerTS int64          `json:"origin_server_ts"`
}

// timestampToEvent tells which event that the caller may see is nearest to a time. Where history is missing in between,
// others are asked, and what they know is stored, so that the caller can read on from there.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
func (a *API) timestampToEvent(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*momentResponse, error) {
	m, err := momentOf(c)
	if err != nil {
		return nil, err
	}
	at, err := a.open(ctx, c)
	if err != nil {
		return nil, err
	}
	found, there, err := at.Nearest(ctx, a.db, m, at.Sight)
	if err != nil {
		return nil, err
	}
	if a.jump(ctx, at, m, found) {
		if found, there, err = at.Nearest(ctx, a.db, m, at.Sight); err != nil {
			return nil, err
		}
	}
	if !there {
		return nil, matrix.Errorf(matrix.NotFound, "there is no event that you may see on that side of %d", m.AtMS)
	}
	return &momentResponse{EventID: found.ID, OriginServerTS: found.OriginServerTS}, nil
}

// momentOf reads the parameters "ts" and "dir".
func momentOf(c *httpapi.Call) (m rooms.Moment, err error) {
	dir, ts := c.Query("dir"), c.Query("ts")
	if dir == "" || ts == "" {
		return m, matrix.Errorf(matrix.MissingParam, "\"ts\" must be a time, and \"dir\" say where to go: b or f")
	}
	if m.AtMS, err = strconv.ParseInt(ts, 10, 64); err != nil || dir != "b" && dir != "f" {
		return m, matrix.Errorf(matrix.InvalidParam, "\"ts\" must be a number of milliseconds, and \"dir\" b or f")
	}
	m.Backward = dir == "b"
	return m, nil
}

// jump lets others be asked for an event nearer than the one that was found, if any was, and says whether one has come.
// That they cannot be asked is no error: what is here is what is known.
func (a *API) jump(ctx context.Context, at eye, m rooms.Moment, found *rooms.Event) bool {
	over, missing, err := a.gapAround(ctx, at.Room, m, found)
	if err != nil || !missing {
		return false
	}
	jump := roomserver.Jump{Moment: m, Over: over}
	if found != nil {
		jump.Have = &found.OriginServerTS
	}
	ctx, cancel := context.WithTimeout(ctx, backfillTime)
	defer cancel()
	gained, err := a.rooms.BackfillAt(ctx, at.Room.ID, jump)
	return err == nil && gained
}

// gapAround finds where history is missing between the events nearest to a moment on either side: of what the caller may
// see on the side that was asked for, of all on the other. Where there is none, the timeline ends.
func (a *API) gapAround(ctx context.Context, room rooms.Room, m rooms.Moment, found *rooms.Event) (gap rooms.Order, missing bool, err error) {
	behind, err := rooms.ByTime(ctx, a.db, room, rooms.TimeQuery{
		Moment: rooms.Moment{AtMS: m.AtMS, Backward: !m.Backward}, Limit: 1,
	})
	if err != nil {
		return gap, false, err
	}
	first, last := rooms.Order{}, rooms.Order{Anchor: 1<<63 - 1}
	if found != nil && m.Backward {
		first = found.Order
	} else if found != nil {
		last = found.Order
	}
	if len(behind) > 0 && m.Backward {
		last = behind[0].Order
	} else if len(behind) > 0 {
		first = behind[0].Order
	}
	if first.Compare(last) > 0 {
		first, last = last, first // what was sent later may carry an earlier time
	}
	gaps, err := rooms.GapsNear(ctx, a.db, room.Num, last, 1)
	if err != nil || len(gaps) == 0 {
		return gap, false, err
	}
	gap = gaps[0].At
	return gap, gap.Compare(first) > 0 && gap.Compare(last) <= 0, nil
}
