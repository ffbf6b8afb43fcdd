package clientapi

import (
	"context"

	"github.com/myelin-chat/myelin/accounts"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

// maxToDeviceBody is the size of a request with encrypted messages for some thousand devices.
const maxToDeviceBody = 8 << 20

type sendToDeviceRequest struct {
	Messages accounts.DeviceMessages `json:"messages"`
}

// sendToDevice sends a message to each of some devices.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid
func (a *API) sendToDevice(ctx context.Context, c *httpapi.Call, in *sendToDeviceRequest) (*httpapi.None, error) {
	typ, err := opaque(c, "eventType")
	if err != nil {
		return nil, err
	}
	txn, err := opaque(c, "txnID")
	if err != nil {
		return nil, err
	}
	if in.Messages == nil {
		return nil, matrix.Errorf(matrix.MissingParam, "messages is missing")
	}
	return nil, a.accounts.SendToDevice(ctx, c.Requester, accounts.ToDevice{Type: typ, TxnID: txn, Messages: in.Messages})
}
