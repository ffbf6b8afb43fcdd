package rooms

import (
	"errors"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// SetAside stores a membership of a user of this server in a room that this server is not in: an invite from elsewhere,
// a knock, or the end of one of them. It has an event, which is in no timeline and in no state.
type SetAside struct {
	Room       Room
	NewRoom    bool // the room itself is stored with it: storage.ErrDuplicate if it was meanwhile
	Event      *Event
	Known      bool // the event is stored already
	Membership Membership
	Ends       int64         // the event by which the user must still stand to the room, or it fails with ErrAsideOver; 0: any
	Unheard    *UnheardLeave // of a leave that no server of the room has heard of; nil else
}

// ErrAsideOver says that what was to be ended is over: the membership is another by now.
var ErrAsideOver = errors.New("rooms: the invite or knock is over")

// Rows implements storage.Write.
func (w SetAside) Rows(it *storage.Item) {
	if w.Ends != 0 {
		it.Require(ErrAsideOver, `
			UPDATE memberships SET event_num = $3 WHERE room_num = $1 AND user_id = $2 AND event_num = $4`,
			w.Room.Num, string(w.Membership.User), w.Event.Num, w.Ends)
	}
	if w.NewRoom {
		it.Insert(roomsTable, w.Room.Num, string(w.Room.ID), string(w.Room.Version.ID))
	}
	if !w.Known {
		e := NewEvent{Event: w.Event}
		e.rows(it, nil, nil)
	}
	if w.Unheard != nil {
		w.Unheard.rows(it)
	}
	w.Membership.aloneRows(it)
}

// BeginAnew forgets all that is stored of a room that this server has never been in, and gives it its version: whoever
// told of it before was wrong about that, and with it about how to read its events.
type BeginAnew struct {
	Room Room
}

// Rows implements storage.Write.
func (w BeginAnew) Rows(it *storage.Item) {
	it.Require(matrix.Errorf(matrix.Unknown, "this server has been in %s", w.Room.ID), `
		UPDATE rooms SET version = $2
		WHERE room_num = $1 AND NOT EXISTS (SELECT room_num FROM room_heads WHERE room_num = $1)`,
		w.Room.Num, string(w.Room.Version.ID))
	for _, table := range []string{"events", "state_nodes", "memberships", "membership_history", "pending_redactions", "unheard_leaves", "state_doubts", "state_notes"} {
		it.Exec(`DELETE FROM `+table+` WHERE room_num = $1`, w.Room.Num)
	}
}
