// Package rooms keeps rooms in the database: their events, states, members, receipts and aliases.
//
// Reads are functions over a storage.Querier. Writes are values (Append, Create, ...) that only
// roomserver makes; the committer numbers and stores them. What is read is final: an Event is never
// changed, and one that was redacted is handed out in its redacted form only.
package rooms

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/event/statetree"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// A Room is what never changes about a room.
type Room struct {
	Num     int64 // row number
	ID      matrix.RoomID
	Version *event.Version
}

// ByID returns the room with this ID, if the database knows it.
func ByID(ctx context.Context, q storage.Querier, id matrix.RoomID) (Room, bool, error) {
	return storage.First(ctx, q, (*Room).scan, `SELECT room_num, room_id, version FROM rooms WHERE room_id = $1`, string(id))
}

// ByNumbers returns the rooms with these row numbers.
func ByNumbers(ctx context.Context, q storage.Querier, nums []int64) (map[int64]Room, error) {
	found, err := storage.List(ctx, q, (*Room).scan, `
		SELECT room_num, room_id, version FROM rooms
		WHERE room_num IN (SELECT CAST(key AS BIGINT) FROM json_each($1))`, storage.Numbers(nums...))
	if err != nil {
		return nil, err
	}
	byNum := make(map[int64]Room, len(found))
	for _, r := range found {
		byNum[r.Num] = r
	}
	return byNum, nil
}

func (r *Room) scan(rows storage.Rows) error {
	var num int64
	var id, version string
	if err := rows.Scan(&num, &id, &version); err != nil {
		return err
	}
	room, err := makeRoom(num, id, version)
	*r = room
	return err
}

func makeRoom(num int64, id, version string) (Room, error) {
	v, ok := event.VersionOf(matrix.RoomVersion(version))
	if !ok {
		return Room{}, fmt.Errorf("room %s has version %q, which this server does not know", id, version)
	}
	return Room{Num: num, ID: matrix.RoomID(id), Version: v}, nil
}

// A Head is what a room's owner goes on from: the room as its last live event left it.
type Head struct {
	RoomNum     int64
	Position    storage.Position // of the last live event
	Root        statetree.NodeID // current state
	Depth       int64            // the greatest of the extremities
	Extremities []int64          // event numbers
	Joined      int64            // members of the current state
	Invited     int64
}

// HeadOf returns the head of a room. A room known only by an invite or a knock has none.
func HeadOf(ctx context.Context, q storage.Querier, roomNum int64) (Head, bool, error) {
	return storage.First(ctx, q, (*Head).scan, `
		SELECT room_num, position, root, depth, extremities, joined, invited FROM room_heads
		WHERE room_num = $1`, roomNum)
}

func (h *Head) scan(rows storage.Rows) error {
	var tips string
	err := rows.Scan(&h.RoomNum, &h.Position, &h.Root, &h.Depth, &tips, &h.Joined, &h.Invited)
	if err == nil {
		h.Extremities, err = numbersIn(tips)
	}
	return err
}
