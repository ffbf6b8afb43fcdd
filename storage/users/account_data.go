package users

import (
	"context"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/storage"
)

// AccountDatum is one entry of a user's account data.
type AccountDatum struct {
	Room     matrix.RoomID // empty: global
	Type     string
	Content  []byte // a JSON object
	Position storage.Position
}

const accountDataColumns = `room_id, type, content, position`

func (d *AccountDatum) scan(rows storage.Rows) error {
	return rows.Scan(&d.Room, &d.Type, &d.Content, &d.Position)
}

// AccountData returns the content of one entry; room is empty for global data.
func AccountData(ctx context.Context, q storage.Querier, user matrix.UserID, room matrix.RoomID, typ string) ([]byte, bool, error) {
	return storage.One[[]byte](ctx, q, `
		SELECT content FROM account_data
		WHERE user_id = $1 AND room_id = $2 AND type = $3`, user, room, typ)
}

// AccountDataSince returns what was set in span, oldest first. After 0 it is all.
func AccountDataSince(ctx context.Context, q storage.Querier, user matrix.UserID, span storage.Span) ([]AccountDatum, error) {
	return storage.List(ctx, q, (*AccountDatum).scan, `
		SELECT `+accountDataColumns+` FROM account_data
		WHERE user_id = $1 AND position > $2 AND position <= $3
		ORDER BY position`, user, span.After, span.UpTo)
}

// RoomAccountData returns all of a user's account data for one room, or all global data if room is empty.
func RoomAccountData(ctx context.Context, q storage.Querier, user matrix.UserID, room matrix.RoomID) ([]AccountDatum, error) {
	return storage.List(ctx, q, (*AccountDatum).scan, `
		SELECT `+accountDataColumns+` FROM account_data
		WHERE user_id = $1 AND room_id = $2
		ORDER BY type`, user, room)
}

var accountDataTable = storage.NewTable("account_data", storage.Replace, `
	user_id TEXT KEY, room_id TEXT KEY, type TEXT KEY, content TEXT, position BIGINT`)

// SetAccountData sets one entry.
type SetAccountData struct {
	User    matrix.UserID
	Room    matrix.RoomID // empty: global
	Type    string
	Content []byte
}

// Rows implements storage.Write.
func (w SetAccountData) Rows(it *storage.Item) {
	at := it.News(storage.News{
		Kind: storage.NewsAccountData, User: w.User, Room: w.Room,
		Value: AccountDatum{Room: w.Room, Type: w.Type, Content: w.Content},
	})
	it.Insert(accountDataTable, w.User, w.Room, w.Type, string(w.Content), at)
}
