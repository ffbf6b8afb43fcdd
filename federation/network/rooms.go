package network

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Rooms is what rooms ask of other servers: the roomserver.Remote of the server. What is refused of an answer is left
// out of it, and noted by remote.Client.
type Rooms struct {
	ask *remote.Client
}

var _ roomserver.Remote = Rooms{}

// NewRooms lets rooms ask through a client.
func NewRooms(c *remote.Client) Rooms { return Rooms{ask: c} }

// MissingEvents implements roomserver.Remote.
func (r Rooms) MissingEvents(ctx context.Context, from matrix.ServerName, gap roomserver.Gap) (roomserver.Between, error) {
	answer, err := r.ask.MissingEvents(ctx, from, remote.Gap{
		Room: roomOf(gap.Room), Earliest: gap.Earliest, Latest: gap.Latest, Limit: gap.Limit, MinDepth: gap.MinDepth,
	})
	return roomserver.Between{Events: answer.Events, Broken: answer.Refused.Malformed + answer.Refused.Unsigned}, err
}

// StateIDs implements roomserver.Remote.
func (r Rooms) StateIDs(
	ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID,
) (roomserver.StateIDs, error) {
	ids, err := r.ask.StateIDs(ctx, from, placeOf(room, at))
	return roomserver.StateIDs{State: ids.State, Auth: ids.AuthChain}, err
}

// State implements roomserver.Remote.
func (r Rooms) State(
	ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID,
) (roomserver.StateEvents, error) {
	state, err := r.ask.State(ctx, from, placeOf(room, at))
	return roomserver.StateEvents{State: state.State, Auth: state.AuthChain, Refused: state.Refused.Total()}, err
}

// Event implements roomserver.Remote. It is nil if the server gave another event, or one that is no good.
func (r Rooms) Event(
	ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID,
) (*event.Event, error) {
	return r.ask.Event(ctx, from, placeOf(room, id))
}

// EventAuth implements roomserver.Remote.
func (r Rooms) EventAuth(
	ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID,
) ([]*event.Event, error) {
	answer, err := r.ask.EventAuth(ctx, from, placeOf(room, id))
	return answer.Events, err
}

// Backfill implements roomserver.Remote.
func (r Rooms) Backfill(ctx context.Context, from matrix.ServerName, h roomserver.History) ([]*event.Event, error) {
	answer, err := r.ask.Backfill(ctx, from, remote.History{Room: roomOf(h.Room), From: h.From, Limit: h.Limit})
	return answer.Events, err
}

// PolicySign implements roomserver.Remote.
func (r Rooms) PolicySign(ctx context.Context, p policy.Server, ev *event.Event) (*event.Event, error) {
	signed, err := r.ask.PolicySign(ctx, remote.PolicyServer{Name: p.Name, Key: p.Key}, ev)
	return signed, remote.ExplainPolicy(p.Name, err)
}

// EventAt implements roomserver.Remote.
func (r Rooms) EventAt(
	ctx context.Context, from matrix.ServerName, room rooms.Room, m rooms.Moment,
) (matrix.EventID, error) {
	answer, err := r.ask.TimestampToEvent(ctx, from, remote.Moment{Room: room.ID, TimeMS: m.AtMS, Backwards: m.Backward})
	return answer.EventID, err
}

func roomOf(r rooms.Room) remote.Room { return remote.Room{ID: r.ID, Version: r.Version} }

func placeOf(r rooms.Room, id matrix.EventID) remote.Place {
	return remote.Place{Room: roomOf(r), Event: id}
}
