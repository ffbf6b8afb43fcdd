package receive

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/owner"
)

// Adopt takes a room into this server, with the join of its first user here. State that its own auth events
// do not allow is left out; if the join itself is not allowed by what is left, nothing of the room is shown.
// It may be called again for a room that was left meanwhile, or if it failed.
//
// The state is stored in chunks before the room is there for anybody, which it is with the join event. If members are
// omitted, the room is partial from then on, until Run has fetched them.
func (s *Receiver) Adopt(ctx context.Context, in owner.JoinAnswer) error {
	a, err := s.owners.NewAdoption(in)
	if err != nil {
		return err
	}
	s.inbox.admit(in.Room, nil)
	defer s.inbox.leave(in.Room, nil)
	done, err := s.inbox.fetchAlone(ctx, in.Room)
	if err != nil {
		return err
	}
	defer done()
	lived, err := a.Find(ctx)
	switch {
	case err != nil:
		return err
	case lived:
		return s.rejoin(ctx, a)
	}
	return a.Run(ctx)
}

// rejoin takes up a room again that this server has been in.
func (s *Receiver) rejoin(ctx context.Context, a *owner.Adoption) error {
	room, err := s.owners.Room(ctx, a.Room)
	if err != nil {
		return err
	}
	f := s.newFetch(room, "", nil)
	create, err := f.createEvent(ctx)
	if err != nil {
		return err
	}
	for _, ev := range a.State {
		if ev.Type == event.TypeCreate && ev.ID != create.ID {
			return matrix.Errorf(matrix.Unknown, "room %s was created by %s, not by %s", room.ID, create.ID, ev.ID).WithStatus(502)
		}
	}
	for _, ev := range slices.Concat(a.AuthChain, a.State) {
		f.addOutlier(ev)
	}
	if err := s.storeFetched(ctx, f); err != nil {
		return err
	}
	return a.Rejoin(ctx)
}
