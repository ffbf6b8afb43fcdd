package intake

import (
	"context"
	"encoding/json"
	"time"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/federation/inbox"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
)

// What is taken of EDUs: typing, receipts, presence and messages to devices, each of users of the server that sends it
// only. Device lists and keys are dropped: nobody here could ask for them yet, and when somebody can, the whole list is
// asked of their server first.

const (
	// typingLife is how long somebody types of whom the server does not say that it stopped. Servers repeat themselves
	// every 40 seconds or so.
	typingLife = time.Minute

	// In one transaction, whatever comes of them: each is a look into the database.
	maxReceiptRooms = 1000
	maxReceipts     = 1000
	maxPresences    = 500
)

// typing says that somebody types in a room, or does not any more.
type typing struct {
	Room   matrix.RoomID `json:"room_id"`
	User   matrix.UserID `json:"user_id"`
	Typing bool          `json:"typing"`
}

// passing is what is said for the moment only.
type passing struct {
	typing   []typing
	presence []ephemeral.RemotePresence
}

// looked is how much of a transaction was looked at.
type looked struct{ receiptRooms, receipts, presences int }

// takeEDUs reads what is not kept in rooms. What has not the form it should have is left out, since nobody could be
// told.
func (t *intake) takeEDUs(ctx context.Context, edus []json.RawMessage) (p passing, err error) {
	for _, raw := range edus {
		var in edu
		if json.Unmarshal(raw, &in) != nil {
			continue
		}
		switch in.Type {
		case "m.typing":
			err = t.takeTyping(ctx, in.Content, &p)
		case "m.receipt":
			err = t.takeReceipts(ctx, in.Content)
		case "m.presence":
			err = t.takePresence(ctx, in.Content, &p)
		case accounts.DirectToDevice:
			t.takeToDevice(in.Content)
		}
		if err != nil {
			return passing{}, err
		}
	}
	return p, nil
}

// isTheirs says whether a user is of the server that sent the transaction.
func (t *intake) isTheirs(user matrix.UserID) bool {
	_, err := matrix.ParseUserID(string(user))
	return err == nil && user.Server() == t.origin
}

// takeTyping takes who types in a room, of those who are in it.
// https://spec.matrix.org/v1.19/server-server-api/#typing-notifications
func (t *intake) takeTyping(ctx context.Context, content []byte, p *passing) error {
	var in typing
	if json.Unmarshal(content, &in) != nil || !t.isTheirs(in.User) {
		return nil
	}
	r, err := t.room(ctx, in.Room)
	if err != nil || r.refused != nil {
		return err
	}
	joined, err := t.api.access.MayBeJoined(ctx, in.Room, in.User)
	if joined {
		p.typing = append(p.typing, in)
	}
	return err
}

// takeReceipts takes receipts, which are stored once the events of the transaction are in their rooms.
// https://spec.matrix.org/v1.19/server-server-api/#receipts
func (t *intake) takeReceipts(ctx context.Context, content []byte) error {
	var byRoom map[matrix.RoomID]map[string]json.RawMessage
	if json.Unmarshal(content, &byRoom) != nil {
		return nil
	}
	for id, types := range byRoom {
		var byUser map[matrix.UserID]json.RawMessage
		if json.Unmarshal(types[roomserver.ReceiptRead], &byUser) != nil {
			continue
		}
		if t.looked.receiptRooms++; t.looked.receiptRooms > maxReceiptRooms {
			return nil
		}
		r, err := t.room(ctx, id)
		if err != nil {
			return err
		}
		if r.refused != nil {
			continue
		}
		for user, raw := range byUser {
			said, ok := readReceipt(user, raw)
			if ok && t.isTheirs(user) && t.looked.receipts < maxReceipts {
				t.looked.receipts++
				r.receipts = append(r.receipts, said)
			}
		}
	}
	return nil
}

func readReceipt(user matrix.UserID, raw []byte) (inbox.Receipt, bool) {
	var in struct {
		EventIDs []matrix.EventID `json:"event_ids"`
		Data     struct {
			TS       int64  `json:"ts"`
			ThreadID string `json:"thread_id"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &in) != nil || len(in.EventIDs) == 0 {
		return inbox.Receipt{}, false
	}
	_, err := matrix.ParseEventID(string(in.EventIDs[0]))
	return inbox.Receipt{User: user, Event: in.EventIDs[0], Thread: in.Data.ThreadID, TS: in.Data.TS}, err == nil
}

// takePresence takes how users are there, of those who share a room with somebody here.
// https://spec.matrix.org/v1.19/server-server-api/#presence
func (t *intake) takePresence(ctx context.Context, content []byte, p *passing) error {
	var in struct {
		Push []json.RawMessage `json:"push"`
	}
	if json.Unmarshal(content, &in) != nil {
		return nil
	}
	for _, raw := range in.Push {
		var said struct {
			User            matrix.UserID `json:"user_id"`
			Presence        string        `json:"presence"`
			Status          string        `json:"status_msg"`
			LastActiveAgoMS int64         `json:"last_active_ago"`
		}
		if json.Unmarshal(raw, &said) != nil || !t.isTheirs(said.User) {
			continue
		}
		if t.looked.presences++; t.looked.presences > maxPresences {
			return nil
		}
		known, err := t.api.access.IsKnown(ctx, said.User)
		if err != nil {
			return err
		}
		if known {
			ago := time.Duration(min(max(0, said.LastActiveAgoMS), maxAgoMS)) * time.Millisecond
			p.presence = append(p.presence, ephemeral.RemotePresence{
				User: said.User, State: said.Presence, Status: said.Status, LastActiveAgo: ago,
			})
		}
	}
	return nil
}

// maxAgoMS is a year: longer ago is as long ago.
const maxAgoMS = 365 * 24 * 3600 * 1000

// apply lets what is said for the moment be seen.
func (a *API) apply(p passing) {
	for _, said := range p.typing {
		life := typingLife
		if !said.Typing {
			life = 0
		}
		a.ephemeral.SetTyping(said.Room, said.User, life)
	}
	for _, said := range p.presence {
		a.ephemeral.SetRemotePresence(said)
	}
}
