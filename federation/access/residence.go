package access

import (
	"context"
	"sync"

	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// maxResidences bounds what is remembered.
const maxResidences = 10_000

// residences remembers in which rooms a user of this server is, by the state of which that is true: with each event of a
// room that is asked, and it costs a look at its members.
type residences struct {
	mu    sync.Mutex
	known map[matrix.RoomID]residence
}

type residence struct {
	root statetree.NodeID
	here bool
}

// IsResident says whether a user of this server is in a room.
func (a *Access) IsResident(ctx context.Context, room rooms.Room) (bool, error) {
	state, err := a.rooms.Current(ctx, room.ID)
	if matrix.CodeOf(err) == matrix.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a.residences.mu.Lock()
	r, known := a.residences.known[room.ID]
	a.residences.mu.Unlock()
	if known && r.root == state.Root() {
		return r.here, nil
	}
	here, err := a.HasMember(ctx, room, a.rooms.ServerName())
	if err != nil {
		return false, err
	}
	a.residences.mu.Lock()
	defer a.residences.mu.Unlock()
	if a.residences.known == nil || len(a.residences.known) >= maxResidences {
		a.residences.known = make(map[matrix.RoomID]residence)
	}
	a.residences.known[room.ID] = residence{root: state.Root(), here: here}
	return here, nil
}
