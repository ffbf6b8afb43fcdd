package accounts

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/storage"
	"github.com/myelin-chat/myelin/storage/users"
)

// Types of account data that the server manages.
const (
	PushRules = "m.push_rules"
	FullyRead = "m.fully_read"
)

const (
	maxAccountDataBytes     = 1 << 20
	maxAccountDataTypeBytes = 255
)

// Datum is one entry of account data. Its position is set in what is read, and not looked at in what is written.
type Datum = users.AccountDatum

// AccountData returns the content of one entry; room is empty for global data.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridaccount_datatype
func (a *Accounts) AccountData(ctx context.Context, user matrix.UserID, room matrix.RoomID, typ string) (json.RawMessage, error) {
	content, found, err := users.AccountData(ctx, a.db, user, room, typ)
	switch {
	case err != nil:
		return nil, err
	case found:
		return content, nil
	case room == "" && typ == PushRules:
		return a.settings.DefaultPushRules(user), nil
	}
	return nil, matrix.Errorf(matrix.NotFound, "there is no account data %q", typ)
}

// AccountDataSince returns what a user set after one position of the log, up to and with another; all of it after 0.
func (a *Accounts) AccountDataSince(ctx context.Context, user matrix.UserID, after, upTo storage.Position) ([]Datum, error) {
	return users.AccountDataSince(ctx, a.db, user, storage.Span{After: after, UpTo: upTo})
}

// RoomAccountData returns all that a user set for a room.
func (a *Accounts) RoomAccountData(ctx context.Context, user matrix.UserID, room matrix.RoomID) ([]Datum, error) {
	return users.RoomAccountData(ctx, a.db, user, room)
}

// WithPushRules adds the default push rules to all the global account data of a user who never changed a rule.
func (a *Accounts) WithPushRules(user matrix.UserID, global []Datum) []Datum {
	if slices.ContainsFunc(global, func(d Datum) bool { return d.Room == "" && d.Type == PushRules }) {
		return global
	}
	return append(global, Datum{Type: PushRules, Content: a.settings.DefaultPushRules(user)})
}

// SetAccountData sets one entry, unless the server alone manages its type.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridaccount_datatype
func (a *Accounts) SetAccountData(ctx context.Context, user matrix.UserID, d Datum) error {
	if d.Type == PushRules || d.Type == FullyRead {
		return matrix.Errorf(matrix.BadJSON, "%s cannot be set through this API", d.Type).WithStatus(http.StatusMethodNotAllowed)
	}
	if d.Type == "" || len(d.Type) > maxAccountDataTypeBytes {
		return matrix.Errorf(matrix.InvalidParam, "the type of account data has 1 to %d bytes", maxAccountDataTypeBytes)
	}
	if len(d.Content) > maxAccountDataBytes {
		return matrix.Errorf(matrix.TooLarge, "account data has at most %d bytes", maxAccountDataBytes)
	}
	// Lenient: the order of an m.tag is a float.
	content, err := canonical.JSON(d.Content, canonical.Lenient)
	if err != nil {
		return err
	}
	if content[0] != '{' {
		return matrix.Errorf(matrix.BadJSON, "account data has to be an object")
	}
	d.Content = content
	return a.putAccountData(ctx, user, d)
}

// SetFullyRead moves a user's fully-read marker in a room.
// https://spec.matrix.org/v1.19/client-server-api/#fully-read-markers
func (a *Accounts) SetFullyRead(ctx context.Context, user matrix.UserID, room matrix.RoomID, event matrix.EventID) error {
	content := canonical.AppendString([]byte(`{"event_id":`), string(event))
	return a.putAccountData(ctx, user, Datum{Room: room, Type: FullyRead, Content: append(content, '}')})
}

// putAccountData stores an entry that was checked, or made here.
func (a *Accounts) putAccountData(ctx context.Context, user matrix.UserID, d Datum) error {
	_, err := a.db.Commit(ctx, users.SetAccountData{User: user, Room: d.Room, Type: d.Type, Content: d.Content})
	return err
}
