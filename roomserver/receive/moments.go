package receive

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// A Jump is a leap over missing history to the event nearest to a moment.
type Jump struct {
	Moment rooms.Moment
	Over   rooms.Order // of the timeline event before which history is missing
	Have   *int64      // the time of the nearest event that is here: what is not nearer is not wanted
}

// jumpEvents is how many events are fetched with the one that is looked for, so that there is something around it.
const jumpEvents = 20

// BackfillAt asks other servers which event is nearest to a moment, and stores it with some of what came before it in the
// timeline, older than what is missing there: that stays missing, and can be filled in later at its own place. It says
// whether the timeline has gained anything. What the others say of time is believed of the event itself only.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
func (s *Receiver) BackfillAt(ctx context.Context, id matrix.RoomID, j Jump) (bool, error) {
	room, err := s.owners.Room(ctx, id)
	if err != nil {
		return false, err
	}
	// Of a partial room, each state of the past would be fetched with all its members.
	if partial, err := s.owners.IsPartial(ctx, room); partial || err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, FetchTimeout)
	defer cancel()
	s.inbox.admit(id, nil)
	defer s.inbox.leave(id, nil)
	done, err := s.inbox.fetchAlone(ctx, id)
	if err != nil {
		return false, err
	}
	defer done()
	gap, err := s.gapBefore(ctx, room, j.Over)
	if err != nil || gap == nil {
		return false, err
	}
	for _, server := range s.newFetch(room, gap.event.Sender.Server(), nil).servers(ctx) {
		f, err := s.fetchMoment(ctx, room, server, j)
		if err != nil {
			return false, err
		}
		if f != nil {
			return s.storeJump(ctx, f, gap.event.Order)
		}
	}
	return false, nil
}

// fetchMoment asks one server for the event nearest to a moment, and fetches it. It is nil if that leads to nothing.
func (s *Receiver) fetchMoment(ctx context.Context, room rooms.Room, server matrix.ServerName, j Jump) (*fetch, error) {
	id, err := s.remote.EventAt(ctx, server, room, j.Moment)
	if err != nil {
		return nil, ctx.Err() // another may know
	}
	f := s.newFetch(room, server, nil)
	if err := f.Look(ctx, []matrix.EventID{id}); err != nil || f.isInPlace(id) {
		return nil, err
	}
	if err := f.fetchHistory(ctx, []matrix.EventID{id}, jumpEvents); err != nil {
		return nil, err
	}
	if found := f.inBatch[id]; found == nil || !j.wants(found.OriginServerTS) {
		return nil, nil
	}
	return f, nil
}

// wants says whether a time is on the right side of the moment, and nearer than what is here.
func (j Jump) wants(ms int64) bool {
	if !j.Moment.Includes(ms) {
		return false
	}
	have := j.Have
	return have == nil || j.Moment.Backward && ms > *have || !j.Moment.Backward && ms < *have
}

// storeJump stores what was fetched as a stretch of its own, older than the one that ends with the gap at a place. Where
// the room's order leaves no place for another, it is a part of that.
func (s *Receiver) storeJump(ctx context.Context, f *fetch, over rooms.Order) (bool, error) {
	if err := s.storeFetched(ctx, f); err != nil {
		return false, err
	}
	at, apart, err := rooms.StretchBelow(ctx, s.db, f.room.Num, over)
	if err != nil {
		return false, fmt.Errorf("find a place for history in %s: %w", f.room.ID, err)
	}
	if !apart {
		at = over
	}
	gained, err := s.storeHistory(ctx, f, at)
	return gained > 0, err
}
