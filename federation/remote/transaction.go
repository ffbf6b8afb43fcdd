package remote

import (
	"encoding/json"

	"github.com/myelin-chat/myelin/matrix"
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
