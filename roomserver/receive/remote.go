package receive

import (
	"context"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/policy"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Remote is what a room asks of other servers, each time of one server by name. It is the only way out
// of this package, and is never used by the owner of a room: what is missing is fetched first.
//
// The one door holds for its answers too: every event returned was read by event.Parse for the version
// of the room, and carries valid signatures of all its event.RequiredSigners. What does not is left out
// of the answer, as if the server had not sent it. Nothing else is promised: a server may answer with
// events of other rooms, with too many, with others than asked for, or in any order; all of that is
// looked after here. An answer with nothing in it is no error. Each request ends by itself within a few
// minutes, whatever the server does: nobody here takes the time.
type Remote interface {
	// MissingEvents asks for the events between some that we have and some that we were sent.
	// https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
	MissingEvents(ctx context.Context, from matrix.ServerName, gap Gap) (Between, error)
	// StateIDs asks for the state before an event, and its auth chain, by their IDs.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid
	StateIDs(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (StateIDs, error)
	// State asks for the same in full.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid
	State(ctx context.Context, from matrix.ServerName, room rooms.Room, at matrix.EventID) (StateEvents, error)
	// Event asks for one event.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid
	Event(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) (*event.Event, error)
	// EventAuth asks for the auth chain of an event.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid
	EventAuth(ctx context.Context, from matrix.ServerName, room rooms.Room, id matrix.EventID) ([]*event.Event, error)
	// Backfill asks for events and what came before them, newest first. They may have any number of prev
	// events: event.ParseHistory reads them.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid
	Backfill(ctx context.Context, from matrix.ServerName, history History) ([]*event.Event, error)
	// EventAt asks which event is nearest to a moment. That there is such an event is only said.
	// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
	EventAt(ctx context.Context, from matrix.ServerName, room rooms.Room, m rooms.Moment) (matrix.EventID, error)
	// PolicySign asks the policy server of a room for its signature of an event, and returns the event with it. The error
	// is a *matrix.Error with a status below 500 if the policy server refuses: it may be shown to a client. Any other says
	// that it cannot be reached, or makes no sense.
	// https://spec.matrix.org/v1.19/server-server-api/#post_matrixpolicyv1sign
	PolicySign(ctx context.Context, p policy.Server, ev *event.Event) (*event.Event, error)
}

// A Gap is a hole in what we know of a room.
type Gap struct {
	Room     rooms.Room
	Earliest []matrix.EventID // we have these, and what came before them
	Latest   []matrix.EventID // what is missing came before these
	Limit    int
	MinDepth int64
}

// Between is what a server has in a Gap.
type Between struct {
	Events []*event.Event
	Broken int // things besides that are no events of the room's version, or not signed as they should be
}

// A History is a stretch of a room's past.
type History struct {
	Room  rooms.Room
	From  []matrix.EventID // the newest events wanted
	Limit int
}

// StateIDs is the state before an event, and the auth chain of that state.
type StateIDs struct {
	State, Auth []matrix.EventID
}

// StateEvents is the state before an event, and the auth chain of that state.
type StateEvents struct {
	State, Auth []*event.Event
	Refused     int // so many more were in the answer, and were left out
}

// Alone is the Remote of a server that reaches no others.
func Alone() Remote { return alone{} }

type alone struct{}

var errAlone = matrix.Errorf(matrix.Unknown, "this server does not reach other servers").WithStatus(502)

func (alone) MissingEvents(context.Context, matrix.ServerName, Gap) (Between, error) {
	return Between{}, errAlone
}

func (alone) StateIDs(context.Context, matrix.ServerName, rooms.Room, matrix.EventID) (StateIDs, error) {
	return StateIDs{}, errAlone
}

func (alone) State(context.Context, matrix.ServerName, rooms.Room, matrix.EventID) (StateEvents, error) {
	return StateEvents{}, errAlone
}

func (alone) Event(context.Context, matrix.ServerName, rooms.Room, matrix.EventID) (*event.Event, error) {
	return nil, errAlone
}

func (alone) EventAuth(context.Context, matrix.ServerName, rooms.Room, matrix.EventID) ([]*event.Event, error) {
	return nil, errAlone
}

func (alone) Backfill(context.Context, matrix.ServerName, History) ([]*event.Event, error) {
	return nil, errAlone
}

func (alone) PolicySign(context.Context, policy.Server, *event.Event) (*event.Event, error) {
	return nil, errAlone
}

func (alone) EventAt(context.Context, matrix.ServerName, rooms.Room, rooms.Moment) (matrix.EventID, error) {
	return "", errAlone
}
