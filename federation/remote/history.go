package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// Gap is a hole in what we know of a room.
type Gap struct {
	Room     Room
	Earliest []matrix.EventID // we have these, and what came before them
	Latest   []matrix.EventID // what is missing came before these
	Limit    int              // at most 100 are asked for
	MinDepth int64
}

// MissingEventsRequest is the body of get_missing_events.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
type MissingEventsRequest struct {
	Earliest []matrix.EventID `json:"earliest_events"`
	Latest   []matrix.EventID `json:"latest_events"`
	Limit    int              `json:"limit"`
	MinDepth int64            `json:"min_depth"`
}

// MissingEvents asks for the events in a gap.
// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
func (c *Client) MissingEvents(ctx context.Context, from matrix.ServerName, gap Gap) (Events, error) {
	limit := min(max(gap.Limit, 1), maxMissingEvents)
	body, err := json.Marshal(MissingEventsRequest{
		Earliest: notNil(gap.Earliest), Latest: notNil(gap.Latest), Limit: limit, MinDepth: gap.MinDepth,
	})
	if err != nil {
		return Events{}, err
	}
	return c.events(ctx, eventList{
		call: outbound.Call{
			To: from, Method: http.MethodPost, Content: body, MaxBytes: maxEventsBytes, Timeout: eventsTimeout,
			URI: outbound.Path("_matrix", "federation", "v1", "get_missing_events", string(gap.Room.ID)),
		},
		room: gap.Room, member: "events", max: limit,
	})
}

// History is a stretch of a room's past.
type History struct {
	Room  Room
	From  []matrix.EventID // the newest events wanted; the first 50 are asked for
	Limit int              // with From; at most 500 are asked for
}

// Backfill asks for events and what came before them.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid
func (c *Client) Backfill(ctx context.Context, from matrix.ServerName, h History) (Events, error) {
	limit := min(max(h.Limit, 1), maxBackfill)
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	for _, id := range h.From[:min(len(h.From), maxBackfillFrom)] {
		query.Add("v", string(id))
	}
	return c.events(ctx, eventList{
		call: outbound.Call{
			To: from, MaxBytes: maxEventsBytes, Timeout: eventsTimeout,
			URI: outbound.Path("_matrix", "federation", "v1", "backfill", string(h.Room.ID)) + "?" + query.Encode(),
		},
		room: h.Room, member: "pdus", max: limit, old: true,
	})
}

// EventAuth asks for the auth chain of an event.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid
func (c *Client) EventAuth(ctx context.Context, from matrix.ServerName, at Place) (Events, error) {
	return c.events(ctx, eventList{
		call: outbound.Call{
			To: from, MaxBytes: maxAuthChainBytes, Timeout: eventsTimeout,
			URI: outbound.Path("_matrix", "federation", "v1", "event_auth", string(at.Room.ID), string(at.Event)),
		},
		room: at.Room, member: "auth_chain", max: maxStateEvents,
	})
}

// Event asks for one event. It is nil if the answer has anything else than that.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid
func (c *Client) Event(ctx context.Context, from matrix.ServerName, at Place) (*event.Event, error) {
	answer, err := c.events(ctx, eventList{
		call: outbound.Call{
			To: from, MaxBytes: maxEventBytes, Timeout: queryTimeout,
			URI: outbound.Path("_matrix", "federation", "v1", "event", string(at.Event)),
		},
		room: at.Room, member: "pdus", max: 1,
	})
	if err != nil || len(answer.Events) == 0 || answer.Events[0].ID != at.Event {
		return nil, err
	}
	return answer.Events[0], nil
}

// Moment is a point in time in a room, from which an event is looked for.
type Moment struct {
	Room      matrix.RoomID
	TimeMS    int64
	Backwards bool
}

// EventAtTime is the answer of timestamp_to_event.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
type EventAtTime struct {
	EventID        matrix.EventID `json:"event_id"`
	OriginServerTS int64          `json:"origin_server_ts"`
}

// TimestampToEvent asks which event is closest to a time. That the event exists and has that time is only said.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
func (c *Client) TimestampToEvent(ctx context.Context, from matrix.ServerName, m Moment) (EventAtTime, error) {
	query := url.Values{"ts": {strconv.FormatInt(m.TimeMS, 10)}, "dir": {"f"}}
	if m.Backwards {
		query.Set("dir", "b")
	}
	var answer EventAtTime
	err := c.answer(ctx, outbound.Call{
		To: from, MaxBytes: maxSmallBytes, Timeout: queryTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", "timestamp_to_event", string(m.Room)) + "?" + query.Encode(),
	}, &answer)
	if err != nil {
		return EventAtTime{}, err
	}
	if _, err := matrix.ParseEventID(string(answer.EventID)); err != nil {
		return EventAtTime{}, badOf(from, err)
	}
	return answer, nil
}

// notNil makes an empty list of none, which would be null in JSON.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
