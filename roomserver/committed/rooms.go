// Package committed reads rooms as they are committed: what never changes about a room, its state at some moment, its events
// by number. All goes through one Cache, which whoever writes rooms keeps up to date.
//
// Of a partial room, the members of which are still being fetched, reading waits for them, for a time, where it needs them;
// what does not wait says so.
//
// Errors that a caller may see are matrix.Errors.
package committed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// Rooms are the rooms of a database as they are committed.
type Rooms struct {
	db       *storage.DB
	name     matrix.ServerName
	cache    *Cache
	partials *Partials
	loaded   func(matrix.RoomID) (statetree.NodeID, bool)
}

// NewRooms makes Rooms for a server of this name. Loaded returns the committed state of a room, if somebody has that in
// memory.
func NewRooms(cache *Cache, partials *Partials, name matrix.ServerName, loaded func(matrix.RoomID) (statetree.NodeID, bool)) *Rooms {
	return &Rooms{db: cache.db, name: name, cache: cache, partials: partials, loaded: loaded}
}

// ServerName is the name this server's users and events carry.
func (r *Rooms) ServerName() matrix.ServerName { return r.name }

// IsLocal says whether a user is of this server.
func (r *Rooms) IsLocal(user matrix.UserID) bool { return user.Server() == r.name }

// Room returns what never changes about a room: NotFound if this server does not know it.
func (r *Rooms) Room(ctx context.Context, id matrix.RoomID) (rooms.Room, error) {
	if room, ok := r.cache.rooms.Get(id); ok {
		return room, nil
	}
	room, found, err := rooms.ByID(ctx, r.db, id)
	switch {
	case err != nil:
		return rooms.Room{}, fmt.Errorf("find room %s: %w", id, err)
	case !found:
		return rooms.Room{}, NotHere("this server does not know the room %s", id)
	}
	r.cache.PutRoom(room)
	return room, nil
}

// Residence returns a room that a user of this server is in: NotFound otherwise, whatever else is known of the room.
func (r *Rooms) Residence(ctx context.Context, id matrix.RoomID) (rooms.Room, error) {
	room, err := r.Room(ctx, id)
	if err != nil {
		return room, err
	}
	present, err := rooms.JoinedOf(ctx, r.db, room.Num, r.name, 1)
	if err != nil {
		return room, fmt.Errorf("find the members of %s: %w", id, err)
	}
	if len(present) == 0 {
		return room, NotHere("this server is not in %s", id)
	}
	return room, nil
}

// Events returns events of a room by number, in the order asked. Each must exist.
func (r *Rooms) Events(ctx context.Context, room rooms.Room, nums []int64) ([]*rooms.Event, error) {
	return r.cache.Events(ctx, room, nums)
}

// StateRows returns what is stored of the events of a state.
func (r *Rooms) StateRows(ctx context.Context, room rooms.Room, ids []matrix.EventID) (map[matrix.EventID]rooms.StateRow, error) {
	rows := make(map[matrix.EventID]rooms.StateRow, len(ids))
	for some := range slices.Chunk(ids, MaxPerRead) {
		found, err := rooms.StateRowsByID(ctx, r.db, room.Num, some)
		if err != nil {
			return nil, fmt.Errorf("look for the state of %s: %w", room.ID, err)
		}
		for _, row := range found {
			rows[row.ID] = row
		}
	}
	return rows, nil
}

// notHereError says that this server is not in a room, or knows nothing of it.
type notHereError struct{ answer *matrix.Error }

func (e notHereError) Error() string { return e.answer.Error() }
func (e notHereError) Unwrap() error { return e.answer }

// NotHere is the error, NotFound for clients, that this server is not in a room, or knows nothing of it.
func NotHere(format string, args ...any) error {
	return notHereError{matrix.Errorf(matrix.NotFound, format, args...)}
}

// IsNotHere says whether an error is one of NotHere.
func IsNotHere(err error) bool { return errors.As(err, new(notHereError)) }

// IsJoined says whether a user is in a room that this server is in.
func (r *Rooms) IsJoined(ctx context.Context, id matrix.RoomID, user matrix.UserID) (bool, error) {
	room, err := r.Residence(ctx, id)
	if err != nil {
		return false, err
	}
	m, found, err := rooms.MembershipOf(ctx, r.db, room.Num, user)
	if err != nil {
		return false, fmt.Errorf("find the membership of %s in %s: %w", user, id, err)
	}
	return found && m.Membership == event.Join, nil
}

// Joined returns who is in a room, in no order.
func (r *Rooms) Joined(ctx context.Context, room rooms.Room) ([]rooms.Membership, error) {
	members, err := rooms.MembersOf(ctx, r.db, room.Num, event.Join)
	if err != nil {
		err = fmt.Errorf("find the members of %s: %w", room.ID, err)
	}
	return members, err
}
