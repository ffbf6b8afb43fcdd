package owner

import (
	"context"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// NewRoom begins a room that is made here. Its first event gives it its ID.
func (s *Owners) NewRoom(v *event.Version) *Step {
	st := s.newStep(rooms.Room{Num: s.db.NextNumber(), Version: v}, tip{}, nil)
	st.created = true
	return st
}

// Delay dates the events of the step some milliseconds later.
func (st *Step) Delay(ms int64) { st.nowMS += ms }

// Name gives a new room its ID.
func (st *Step) Name(id matrix.RoomID) { st.room.ID = id }

// MakeAlias has an alias of a new room stored with it.
func (st *Step) MakeAlias(alias matrix.RoomAlias, by matrix.UserID) {
	st.aliases = append(st.aliases, rooms.Alias{Alias: alias, RoomNum: st.room.Num, Room: st.room.ID, Creator: by})
}

// MakesAlias says whether an alias is stored with the room.
func (st *Step) MakesAlias(alias matrix.RoomAlias) bool {
	return slices.ContainsFunc(st.aliases, func(a rooms.Alias) bool { return a.Alias == alias })
}

// Abandon gives up a new room.
func (s *Owners) Abandon(st *Step) { s.cache.Trees.Dropped(st.nodes) }

// Found stores a new room. ErrDuplicate says that its ID or an alias is taken.
func (s *Owners) Found(ctx context.Context, st *Step) error {
	stored := make(chan error, 1)
	s.db.Submit(st.write(s.generations.Add(1)), func(first storage.Position, err error) {
		if err != nil {
			s.cache.Trees.Dropped(st.nodes)
		} else {
			s.cache.Trees.Stored(st.nodes)
			s.remember(st, first)
		}
		stored <- err
	})
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err() // the commit goes on
	}
}
