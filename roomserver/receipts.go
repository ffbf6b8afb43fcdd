package roomserver

import (
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

// A SetReceipt says how far a user has read.
type SetReceipt struct {
	Room   matrix.RoomID
	Type   string // ReceiptRead or ReceiptReadPrivate
	Event  matrix.EventID
	Thread string // root event ID or "main"; empty if unthreaded
}

// SetReceipt moves a receipt forward. One that would move backward is not stored, which is no error:
// two devices of a user may read at different speed.
// https://spec.matrix.org/v1.19/client-server-api/#receipts
func (s *Server) SetReceipt(ctx context.Context, by matrix.Requester, in SetReceipt) error {
	if in.Type != ReceiptRead && in.Type != ReceiptReadPrivate {
		return matrix.Errorf(matrix.InvalidParam, "there is no receipt type %q", in.Type)
	}
	if err := checkThread(in.Thread); err != nil {
		return err
	}
	room, err := s.Room(ctx, in.Room)
	if err != nil {
		return notThere(in.Room, err)
	}
	if err := s.mustBeJoined(ctx, by.User, room); err != nil {
		return err
	}
	receipt := rooms.Receipt{
		RoomNum: room.Num, User: by.User, Type: in.Type, Thread: in.Thread,
		Event: in.Event, TS: s.now().UnixMilli(),
	}
	forward, err := s.movesForward(ctx, room, receipt)
	if err != nil || !forward {
		return err
	}
	_, err = s.db.Commit(ctx, rooms.SetReceipt{Room: room.ID, Receipt: receipt})
	return err
}

func checkThread(thread string) error {
	if thread == "" || thread == "main" {
		return nil
	}
	if _, err := matrix.ParseEventID(thread); err != nil {
		return matrix.Errorf(matrix.InvalidParam, "\"thread_id\" must be \"main\" or the ID of an event")
	}
	return nil
}

// movesForward compares a receipt with the one it would replace.
func (s *Server) movesForward(ctx context.Context, room rooms.Room, receipt rooms.Receipt) (bool, error) {
	ids := []matrix.EventID{receipt.Event}
	have, err := rooms.ReceiptsOfUser(ctx, s.db, room.Num, receipt.User)
	if err != nil {
		return false, fmt.Errorf("find receipts of %s in %s: %w", receipt.User, room.ID, err)
	}
	for _, r := range have {
		if r.Type == receipt.Type && r.Thread == receipt.Thread {
			ids = append(ids, r.Event)
		}
	}
	found, err := rooms.EventsByID(ctx, s.db, room, ids)
	if err != nil {
		return false, fmt.Errorf("find events of %s: %w", room.ID, err)
	}
	if len(found) == 0 || found[0].ID != receipt.Event || found[0].Order.Anchor == 0 {
		return false, matrix.Errorf(matrix.NotFound, "there is no event %s in %s", receipt.Event, room.ID)
	}
	return len(found) == 1 || found[0].Order.Compare(found[1].Order) > 0, nil
}
