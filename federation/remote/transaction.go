package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/outbound"
)

// Transaction is what one server tells another at a time: events, and what is not kept in rooms.
// https://spec.matrix.org/v1.19/server-server-api/#transactions
type Transaction struct {
	Origin         matrix.ServerName `json:"origin"`
	OriginServerTS int64             `json:"origin_server_ts"`
	PDUs           []json.RawMessage `json:"pdus"`
	EDUs           []json.RawMessage `json:"edus,omitempty"`
}

// EDU is an ephemeral data unit.
// https://spec.matrix.org/v1.19/server-server-api/#edus
type EDU struct {
	Type    string          `json:"edu_type"`
	Content json.RawMessage `json:"content"`
}

// SendResponse is the answer to a transaction, and Results what it has.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
type SendResponse struct {
	PDUs Results `json:"pdus"`
}

// Results says what became of the events of a transaction.
type Results map[matrix.EventID]Result

// Result is what became of one event.
type Result struct {
	Error string `json:"error,omitempty"` // empty: it was taken
}

// Send sends a transaction under an ID. Without an error it has arrived, and must not be sent again; the results are
// what the other server says, which may be of other events than those sent, or nothing.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
func (c *Client) Send(ctx context.Context, to matrix.ServerName, id string, txn Transaction) (Results, error) {
	if len(txn.PDUs) > MaxPDUs || len(txn.EDUs) > MaxEDUs {
		return nil, fmt.Errorf("a transaction of %d PDUs and %d EDUs is too large", len(txn.PDUs), len(txn.EDUs))
	}
	text, err := c.http.Bytes(ctx, outbound.Call{
		To: to, Method: http.MethodPut, Content: txn.appendJSON(nil), MaxBytes: maxResultsBytes, Timeout: sendTimeout,
		URI: outbound.Path("_matrix", "federation", "v1", "send", id),
	})
	if err != nil && !errors.Is(err, outbound.ErrTooLarge) {
		return nil, err
	}
	return readResults(text), nil
}

// appendJSON writes the transaction, without a second look at what is in it.
func (t Transaction) appendJSON(dst []byte) []byte {
	size := 128 + len(t.Origin)
	for _, list := range [][]json.RawMessage{t.PDUs, t.EDUs} {
		for _, raw := range list {
			size += len(raw) + 1
		}
	}
	if cap(dst)-len(dst) < size {
		dst = append(make([]byte, 0, len(dst)+size), dst...)
	}
	dst = append(dst, '{')
	if len(t.EDUs) > 0 {
		dst = append(appendArray(append(dst, `"edus":`...), t.EDUs), ',')
	}
	dst = canonical.AppendString(append(dst, `"origin":`...), string(t.Origin))
	dst = strconv.AppendInt(append(dst, `,"origin_server_ts":`...), t.OriginServerTS, 10)
	return append(appendArray(append(dst, `,"pdus":`...), t.PDUs), '}')
}

func appendArray(dst []byte, list []json.RawMessage) []byte {
	dst = append(dst, '[')
	for i, raw := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, raw...)
	}
	return append(dst, ']')
}

// readResults reads the answer to a transaction as far as it makes sense. The status has said that it arrived: to send
// it again because of what else is in the answer would be to send it for ever.
func readResults(text []byte) Results {
	var answer struct {
		PDUs map[matrix.EventID]json.RawMessage `json:"pdus"`
	}
	if json.Unmarshal(text, &answer) != nil {
		return nil
	}
	results := make(Results, len(answer.PDUs))
	for id, raw := range answer.PDUs {
		var r Result
		if json.Unmarshal(raw, &r) == nil {
			results[id] = r
		}
	}
	return results
}
