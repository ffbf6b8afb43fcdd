package clientapi

import (
	"context"
	"unicode/utf8"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// accountData shows what the caller keeps under a type.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridaccount_datatype
func (a *API) accountData(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	return a.readAccountData(ctx, c, "")
}

// roomAccountData shows what the caller keeps under a type for a room.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3useruseridroomsroomidaccount_datatype
func (a *API) roomAccountData(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*httpapi.Raw, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return a.readAccountData(ctx, c, room)
}

// readAccountData reads global data where the room is empty. Account data is private, so that of others is refused
// rather than said to be absent.
func (a *API) readAccountData(ctx context.Context, c *httpapi.Call, room matrix.RoomID) (*httpapi.Raw, error) {
	if err := own(c); err != nil {
		return nil, err
	}
	content, err := a.accounts.AccountData(ctx, c.User, room, c.Path("type"))
	if err != nil {
		return nil, err
	}
	return (*httpapi.Raw)(&content), nil
}

// setAccountData keeps something for the caller under a type.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridaccount_datatype
func (a *API) setAccountData(ctx context.Context, c *httpapi.Call, in *httpapi.RawBody) (*httpapi.None, error) {
	return nil, a.writeAccountData(ctx, c, accounts.Datum{Content: []byte(*in)})
}

// setRoomAccountData keeps something for the caller under a type for a room.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3useruseridroomsroomidaccount_datatype
func (a *API) setRoomAccountData(ctx context.Context, c *httpapi.Call, in *httpapi.RawBody) (*httpapi.None, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return nil, err
	}
	return nil, a.writeAccountData(ctx, c, accounts.Datum{Room: room, Content: []byte(*in)})
}

// writeAccountData leaves it to accounts what may stand there; push rules and the fully-read marker, for two, may not
// be set this way.
func (a *API) writeAccountData(ctx context.Context, c *httpapi.Call, d accounts.Datum) error {
	if err := own(c); err != nil {
		return err
	}
	d.Type = c.Path("type")
	if !utf8.ValidString(d.Type) {
		return matrix.Errorf(matrix.InvalidParam, "the type of account data has to be text")
	}
	return a.accounts.SetAccountData(ctx, c.User, d)
}
