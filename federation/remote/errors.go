package remote

import (
	"errors"
	"slices"

	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/outbound"
)

// explained are the codes of another server's error that mean the same to a client of ours. Others would mislead it:
// M_UNKNOWN_TOKEN, for one, would log it out, and what is wrong with our request is not its fault.
var explained = []matrix.ErrorCode{
	matrix.Forbidden, matrix.NotFound, matrix.InviteBlocked, matrix.LimitExceeded, matrix.TooLarge,
	matrix.UnableToAuthoriseJoin, matrix.UnableToGrantJoin, matrix.IncompatibleRoomVersion, matrix.UnsupportedRoomVersion,
}

// Explain turns an error of this package into one that may be shown to a client: what the other server says where the
// specification wants it passed on, else that it could not be asked, with the status 502.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
func Explain(err error) error {
	if err == nil {
		return nil
	}
	var answered *outbound.RemoteError
	if errors.As(err, &answered) {
		return explainAnswer(answered)
	}
	var own *matrix.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, ErrBadAnswer), errors.Is(err, outbound.ErrTooLarge):
		return matrix.Errorf(matrix.Unknown, "the other server gave an answer that makes no sense").WithStatus(502)
	}
	return matrix.Errorf(matrix.Unknown, "the other server could not be reached").WithStatus(502)
}

func explainAnswer(e *outbound.RemoteError) error {
	if e.Status >= 400 && e.Status < 500 && slices.Contains(explained, e.Code) {
		shown := matrix.Errorf(e.Code, "%s says: %s", e.Server, e.Message).WithStatus(e.Status)
		if e.RetryAfter > 0 {
			shown = shown.With("retry_after_ms", e.RetryAfter.Milliseconds())
		}
		return shown
	}
	return matrix.Errorf(matrix.Unknown, "%s could not do it: %s", e.Server, e.Message).WithStatus(502)
}

// lacksEndpoint says whether the error means that the other server does not know the endpoint, as against what it was
// asked about.
// https://spec.matrix.org/v1.19/server-server-api/#unsupported-endpoints
func lacksEndpoint(err error) bool {
	var answered *outbound.RemoteError
	if !errors.As(err, &answered) {
		return false
	}
	switch answered.Status {
	case 400:
		return answered.Code == matrix.Unrecognized
	case 404, 405:
		return answered.Code == matrix.Unrecognized || answered.Code == ""
	}
	return false
}
