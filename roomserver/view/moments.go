package view

import (
	"context"

	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Nearest returns the event nearest to a moment that the viewer may see, as far as its sight reaches. Of events of the
// same time it is the one that comes first in the direction. It is false if there is none, or if very many that are
// hidden lie before it.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
func (v *Viewer) Nearest(ctx context.Context, q storage.Querier, m rooms.Moment, s Sight) (*rooms.Event, bool, error) {
	search := timeSearch{q: q, room: v.Room, sees: func(ctx context.Context, e *rooms.Event) (bool, error) {
		if s.Until != 0 && After(e).compare(At(s.Until)) > 0 {
			return false, nil
		}
		_, visible, err := v.Look(ctx, e)
		return visible, err
	}}
	return search.nearest(ctx, m)
}

// Nearest returns the event nearest to a moment that the server may have in full; see Viewer.Nearest.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
func (v *ServerViewer) Nearest(ctx context.Context, m rooms.Moment) (*rooms.Event, bool, error) {
	return timeSearch{q: v.q, room: v.Room, sees: v.sees}.nearest(ctx, m)
}

// Limits of a search by time.
const (
	maxSearched   = 2000 // events looked at: what is hidden counts too
	firstSearched = 8    // read at first; then more at once, since much is hidden
)

// timeSearch looks for what somebody may see.
type timeSearch struct {
	q    storage.Querier
	room rooms.Room
	sees func(context.Context, *rooms.Event) (bool, error)
}

func (s timeSearch) nearest(ctx context.Context, m rooms.Moment) (*rooms.Event, bool, error) {
	query := rooms.TimeQuery{Moment: m, Limit: firstSearched}
	for searched := 0; searched < maxSearched; query.Limit = minFetched {
		found, err := rooms.ByTime(ctx, s.q, s.room, query)
		if err != nil || len(found) == 0 {
			return nil, false, err
		}
		for _, e := range found {
			if visible, err := s.sees(ctx, e); err != nil || visible {
				return e, visible, err
			}
		}
		searched += len(found)
		query.Beyond = found[len(found)-1]
	}
	return nil, false, nil
}
