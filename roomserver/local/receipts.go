package local

import (
	"cmp"
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// The types of receipts.
const (
	ReceiptRead        = "m.read"
	ReceiptReadPrivate = "m.read.private"
)

// threadMain is the thread of all events that are in no other.
const threadMain = "main"

// A SetReceipt says how far a user has read.
type SetReceipt struct {
	Room   matrix.RoomID
	Type   string // ReceiptRead or ReceiptReadPrivate
	Event  matrix.EventID
	Thread string // root event ID or "main"; empty if unthreaded
	TS     int64  // when that was, as another server says; 0, and what is yet to come, is now
}

// SetReceipt moves a receipt forward. One that would move backward is not stored, which is no error:
// two devices of a user may read at different speed.
// https://spec.matrix.org/v1.19/client-server-api/#receipts
func (s *Users) SetReceipt(ctx context.Context, by matrix.Requester, in SetReceipt) error {
	if in.Type != ReceiptRead && in.Type != ReceiptReadPrivate {
		return matrix.Errorf(matrix.InvalidParam, "there is no receipt type %q", in.Type)
	}
	if err := checkThread(in.Thread); err != nil {
		return err
	}
	room, err := s.owners.Room(ctx, in.Room)
	if err != nil {
		return notThere(in.Room, err)
	}
	if joined, err := s.owners.MayBeJoined(ctx, room, by.User); err != nil || !joined {
		return cmp.Or(err, error(matrix.Errorf(matrix.Forbidden, "%s is not in %s", by.User, room.ID)))
	}
	receipt := rooms.Receipt{
		RoomNum: room.Num, User: by.User, Type: in.Type, Thread: in.Thread,
		Event: in.Event, TS: s.now().UnixMilli(),
	}
	if in.TS > 0 {
		receipt.TS = min(in.TS, receipt.TS)
	}
	forward, err := s.movesForward(ctx, room, receipt)
	if err != nil || !forward {
		return err
	}
	_, err = s.db.Commit(ctx, rooms.SetReceipt{Room: room.ID, Receipt: receipt})
	return err
}

func checkThread(thread string) error {
	if thread == "" || thread == threadMain {
		return nil
	}
	if _, err := matrix.ParseEventID(thread); err != nil {
		return matrix.Errorf(matrix.InvalidParam, "\"thread_id\" must be \"main\" or the ID of an event")
	}
	return nil
}

// movesForward compares a receipt with the one it would replace. Its event and its thread must be in
// the room, so that nobody fills the table with threads that are not.
func (s *Users) movesForward(ctx context.Context, room rooms.Room, receipt rooms.Receipt) (bool, error) {
	have, err := rooms.ReceiptsOfUser(ctx, s.db, room.Num, receipt.User)
	if err != nil {
		return false, fmt.Errorf("find receipts of %s in %s: %w", receipt.User, room.ID, err)
	}
	var before matrix.EventID
	for _, r := range have {
		if r.Type == receipt.Type && r.Thread == receipt.Thread {
			before = r.Event
		}
	}
	ids := []matrix.EventID{receipt.Event, before, matrix.EventID(receipt.Thread)}
	found, err := rooms.EventsByID(ctx, s.db, room, ids)
	if err != nil {
		return false, fmt.Errorf("find events of %s: %w", room.ID, err)
	}
	byID := make(map[matrix.EventID]*rooms.Event, len(found))
	for _, ev := range found {
		byID[ev.ID] = ev
	}
	to, from := byID[receipt.Event], byID[before]
	switch {
	case to == nil || to.Order.Anchor == 0:
		return false, matrix.Errorf(matrix.NotFound, "there is no event %s in %s", receipt.Event, room.ID)
	case receipt.Thread != "" && receipt.Thread != threadMain && byID[matrix.EventID(receipt.Thread)] == nil:
		return false, matrix.Errorf(matrix.InvalidParam, "there is no thread %s in %s", receipt.Thread, room.ID)
	}
	return from == nil || to.Order.Compare(from.Order) > 0, nil
}
