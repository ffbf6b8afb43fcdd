package syncapi

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// accountData is what a user set, sorted by room.
type accountData struct {
	global []accounts.Datum
	rooms  map[matrix.RoomID][]accounts.Datum
}

func sortAccountData(found []accounts.Datum) accountData {
	var d accountData
	for _, datum := range found {
		if datum.Room == "" {
			d.global = append(d.global, datum)
			continue
		}
		if d.rooms == nil {
			d.rooms = map[matrix.RoomID][]accounts.Datum{}
		}
		d.rooms[datum.Room] = append(d.rooms[datum.Room], datum)
	}
	return d
}

func appendDatum(l list, d accounts.Datum) list {
	l = append(l.next(), `{"content":`...)
	l = append(l, d.Content...)
	l = append(l, `,"type":`...)
	l = canonical.AppendString(l, d.Type)
	return append(l, '}')
}

// globalData adds the account data that belongs to no room.
func (b *builder) globalData() {
	for _, d := range b.data.global {
		if b.req.filter.AccountData.Wants(d.Type, "") {
			b.out.accountData = appendDatum(b.out.accountData, d)
		}
	}
}

// roomData returns the account data of a room. A room that is new to the client
// comes with all of it.
func (b *builder) roomData(ctx context.Context, room matrix.RoomID, fresh bool) (list, error) {
	found := b.data.rooms[room]
	if fresh && !b.req.initial {
		var err error
		if found, err = b.api.Accounts.RoomAccountData(ctx, b.user.id, room); err != nil {
			return nil, err
		}
	}
	var l list
	for _, d := range found {
		if b.req.filter.Room.AccountData.Wants(d.Type, "") {
			l = appendDatum(l, d)
		}
	}
	return l, nil
}

// ignoredUsers reads the content of m.ignored_user_list.
func ignoredUsers(content []byte) map[matrix.UserID]bool {
	var in struct {
		Users map[matrix.UserID]json.RawMessage `json:"ignored_users"`
	}
	ignored := map[matrix.UserID]bool{}
	if json.Unmarshal(content, &in) != nil {
		return ignored // nobody, if the client stored nonsense
	}
	for u := range in.Users {
		ignored[u] = true
	}
	return ignored
}

// typingRooms returns the rooms whose typists changed since the token.
func (b *builder) typingRooms() []matrix.RoomID {
	var since int64
	if b.sameBoot() {
		since = b.req.told.Ephemeral
	}
	return b.api.Ephemeral.TypingSince(since)
}

// roomEphemeral returns the typing notice and the receipts of a room.
func (b *builder) roomEphemeral(ctx context.Context, s sight, fresh bool) (list, error) {
	filter := &b.req.filter.Room.Ephemeral
	if !filter.WantsRoom(s.Room) {
		return nil, nil
	}
	var l list
	if filter.Wants("m.typing", "") {
		l = b.appendTyping(l, s.Room, fresh)
	}
	if !filter.Wants("m.receipt", "") {
		return l, nil
	}
	receipts, err := b.receipts(ctx, s, fresh)
	if err != nil {
		return nil, err
	}
	return b.appendReceipts(l, receipts), nil
}

// appendTyping adds who types. A client that heard of typing from another life of
// this process is told even that nobody does.
func (b *builder) appendTyping(l list, room matrix.RoomID, fresh bool) list {
	resent := !b.sameBoot() && !b.req.initial && !fresh
	if !resent && !fresh && !slices.Contains(b.typing, room) {
		return l
	}
	typists, changed := b.api.Ephemeral.Typing(room)
	if fresh && len(typists) == 0 && (b.req.initial || changed == 0) {
		return l
	}
	l = append(l.next(), `{"content":{"user_ids":[`...)
	for i, u := range typists {
		if i > 0 {
			l = append(l, ',')
		}
		l = canonical.AppendString(l, string(u))
	}
	return append(l, `]},"type":"m.typing"}`...)
}

// privateReceipt is the type that only its user is told of.
const privateReceipt = "m.read.private"

// receipts returns what was read since the token, as far as this user may know.
func (b *builder) receipts(ctx context.Context, s sight, fresh bool) ([]rooms.Receipt, error) {
	span := storage.Span{After: b.since(), UpTo: b.look.position}
	if fresh {
		span.After = 0
	}
	found, ok := s.receiptsIn(span)
	if ok && len(found) == 0 {
		return nil, nil
	}
	if !ok {
		var err error
		if found, err = rooms.Receipts(ctx, b.api.DB, s.RoomNum, span); err != nil {
			return nil, err
		}
		if span.After == 0 {
			b.api.hub.learnReceipts(s.RoomNum, found, span.UpTo)
		}
	}
	type whose struct {
		user         matrix.UserID
		kind, thread string
	}
	latest := make(map[whose]bool, len(found))
	mine := make([]rooms.Receipt, 0, len(found))
	for _, r := range slices.Backward(found) {
		key := whose{r.User, r.Type, r.Thread}
		if !latest[key] && (r.Type != privateReceipt || r.User == b.user.id) {
			mine = append(mine, r)
		}
		latest[key] = true
	}
	return mine, nil
}

// receiptTo is the content of m.receipt: event, type, user, receipt.
type receiptTo map[matrix.EventID]map[string]map[matrix.UserID]receiptBody

type receiptBody struct {
	TS     int64  `json:"ts"`
	Thread string `json:"thread_id,omitempty"`
}

// appendReceipts adds one m.receipt event with the latest of each user and type. An
// unthreaded receipt goes before a threaded one for the same event, which the
// format has no place for beside it.
// https://spec.matrix.org/v1.19/client-server-api/#receipts
func (b *builder) appendReceipts(l list, receipts []rooms.Receipt) list {
	if len(receipts) == 0 {
		return l
	}
	content := receiptTo{}
	for _, r := range receipts {
		byType := content[r.Event]
		if byType == nil {
			byType = map[string]map[matrix.UserID]receiptBody{}
			content[r.Event] = byType
		}
		byUser := byType[r.Type]
		if byUser == nil {
			byUser = map[matrix.UserID]receiptBody{}
			byType[r.Type] = byUser
		}
		if old, ok := byUser[r.User]; !ok || old.Thread != "" {
			byUser[r.User] = receiptBody{r.TS, r.Thread}
		}
	}
	data, err := json.Marshal(content)
	if err != nil {
		panic("receipts cannot be encoded: " + err.Error()) // maps of strings and numbers always can
	}
	l = append(l.next(), `{"content":`...)
	l = append(l, data...)
	return append(l, `,"type":"m.receipt"}`...)
}

// invited adds an invitation, unless it comes from somebody the user ignores.
func (b *builder) invited(s sight) {
	if b.ignored[inviter(s.Stripped, b.user.id)] {
		return
	}
	b.out.invite.add(s.Room, strippedSection("invite_state", s.Stripped))
}

// inviter finds in stripped state who invited user; empty if it is not there.
func inviter(stripped []byte, user matrix.UserID) matrix.UserID {
	var events []struct {
		Type     string        `json:"type"`
		StateKey string        `json:"state_key"`
		Sender   matrix.UserID `json:"sender"`
	}
	if json.Unmarshal(stripped, &events) != nil {
		return ""
	}
	for _, e := range events {
		if e.Type == event.TypeMember && e.StateKey == string(user) {
			return e.Sender
		}
	}
	return ""
}

// strippedSection makes the value of a room in the invite or knock section.
func strippedSection(name string, stripped []byte) []byte {
	if len(stripped) == 0 {
		stripped = []byte("[]")
	}
	dst := canonical.AppendString([]byte{'{'}, name)
	dst = append(dst, `:{"events":`...)
	dst = append(dst, stripped...)
	return append(dst, "}}"...)
}
