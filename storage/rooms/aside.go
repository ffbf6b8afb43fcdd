package rooms

import "github.com/myelin-chat/myelin/storage"

// SetAside stores a membership of a user of this server in a room that this server is not in: an invite from elsewhere,
// a knock, or the end of one of them. It has an event, which is in no timeline and in no state.
type SetAside struct {
	Room       Room
	NewRoom    bool // the room itself is stored with it: storage.ErrDuplicate if it was meanwhile
	Event      *Event
	Known      bool // the event is stored already
	Membership Membership
}

// Rows implements storage.Write. The news is of kind NewsInvite, as for every change of a user's rooms that is no event
// of the room.
func (w SetAside) Rows(it *storage.Item) {
	if w.NewRoom {
		it.Insert(roomsTable, w.Room.Num, string(w.Room.ID), string(w.Room.Version.ID))
	}
	if !w.Known {
		e := NewEvent{Event: w.Event}
		e.rows(it, nil, nil)
	}
	m := w.Membership
	m.rows(it, it.News(storage.News{Kind: storage.NewsInvite, Room: m.Room, User: m.User, Value: m}))
}
