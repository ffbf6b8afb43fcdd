package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// maxAnswerBytes is more than what there is to say of 50 PDUs.
const maxAnswerBytes = 1 << 20

// HTTP makes a Sender that uses the network.
func HTTP(c *outbound.Client) Sender { return httpSender{c} }

type httpSender struct{ client *outbound.Client }

// Permits implements Sender.
func (h httpSender) Permits(s matrix.ServerName) error { return h.client.Permits(s) }

// Send implements Sender.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid
func (h httpSender) Send(ctx context.Context, to matrix.ServerName, t Transaction) (Answer, error) {
	text, err := h.client.Bytes(ctx, outbound.Call{
		To: to, Method: http.MethodPut, URI: outbound.Path("_matrix", "federation", "v1", "send", t.ID),
		Content: t.Body, MaxBytes: maxAnswerBytes, Timeout: patience, Lone: true,
	})
	if err != nil {
		return Answer{}, err
	}
	return readAnswer(text), nil
}

// readAnswer reads what a server says of each PDU. That it answered 200 is what counts: a body that makes no sense
// changes nothing.
func readAnswer(text []byte) Answer {
	var body struct {
		PDUs map[matrix.EventID]json.RawMessage `json:"pdus"`
	}
	if json.Unmarshal(text, &body) != nil {
		return Answer{}
	}
	a := Answer{}
	for id, raw := range body.PDUs {
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(raw, &said) == nil && said.Error != "" {
			if a.Errors == nil {
				a.Errors = map[matrix.EventID]string{}
			}
			a.Errors[id] = shorten(said.Error)
		}
	}
	return a
}

const maxErrorText = 200

func shorten(s string) string {
	if len(s) <= maxErrorText {
		return s
	}
	return s[:maxErrorText] + "..."
}

// judge says what became of a transaction. Refused is only what may be for its content: an answer that says that the
// server, or the way to it, is not well says nothing of that.
func judge(err error) outcome {
	var answer *outbound.RemoteError
	var ours *matrix.Error
	switch {
	case err == nil:
		return outcome{verdict: delivered}
	case errors.As(err, &answer):
		if isRefusal(answer.Status) {
			return outcome{verdict: refused}
		}
		return outcome{verdict: unreachable, wait: answer.RetryAfter}
	case errors.As(err, &ours) && (ours.Code == matrix.BadJSON || ours.Code == matrix.NotJSON):
		return outcome{verdict: refused} // by ourselves: it cannot be written
	}
	return outcome{verdict: unreachable}
}

func isRefusal(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status <= http.StatusInternalServerError
}
