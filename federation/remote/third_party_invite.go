package remote

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// ThirdPartyInvite is the membership event that one server asks another to make out of an invite to an e-mail address
// or a telephone number, since only the server of the inviting user may sign it.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid
type ThirdPartyInvite struct {
	Type     string          `json:"type"` // m.room.member
	RoomID   matrix.RoomID   `json:"room_id"`
	Sender   matrix.UserID   `json:"sender"`    // of the m.room.third_party_invite event
	StateKey matrix.UserID   `json:"state_key"` // the invited user
	Content  json.RawMessage `json:"content"`   // membership and third_party_invite
}

// ExchangeThirdPartyInvite asks another server to invite a user of ours, for whom it has an invite by address.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid
func (c *Client) ExchangeThirdPartyInvite(ctx context.Context, to matrix.ServerName, in ThirdPartyInvite) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = c.http.Bytes(ctx, outbound.Call{
		To: to, Method: http.MethodPut, Content: body, MaxBytes: maxSmallBytes, Timeout: handshakeTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", "exchange_third_party_invite", string(in.RoomID)),
	})
	return err
}

// OnBind is what an identity server tells the server of a user who has bound an address.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv13pidonbind
type OnBind struct {
	Medium  string          `json:"medium"`
	Address string          `json:"address"`
	UserID  matrix.UserID   `json:"mxid"`
	Invites []PendingInvite `json:"invites"`
}

// PendingInvite is an invite that waited for an address to be bound.
type PendingInvite struct {
	Medium  string          `json:"medium"`
	Address string          `json:"address"`
	UserID  matrix.UserID   `json:"mxid"`
	RoomID  matrix.RoomID   `json:"room_id"`
	Sender  matrix.UserID   `json:"sender"`
	Signed  json.RawMessage `json:"signed"`
}
