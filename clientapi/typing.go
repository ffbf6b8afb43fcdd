package clientapi

import (
	"context"
	"time"

	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
)

type typingRequest struct {
	Typing    *bool  `json:"typing"`
	TimeoutMS *int64 `json:"timeout"`
}

// How long somebody types who does not say so, and at most.
const (
	usualTyping   = 30 * time.Second
	longestTyping = 10 * time.Minute
)

// typing says that the caller types, or has stopped.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidtypinguserid
func (a *API) typing(ctx context.Context, c *httpapi.Call, in *typingRequest) (*httpapi.None, error) {
	who, err := matrix.ParseUserID(c.Path("userID"))
	if err != nil {
		return nil, err
	}
	if who != c.User {
		return nil, matrix.Errorf(matrix.Forbidden, "%s cannot type for %s", c.User, who)
	}
	v, err := a.member(ctx, c)
	if err != nil {
		return nil, err
	}
	timeout, err := in.timeout()
	if err != nil {
		return nil, err
	}
	a.ephemeral.SetTyping(v.Room.ID, who, timeout)
	a.ephemeral.Active(who)
	return nil, nil
}

// timeout is how long the caller will type; 0 if it has stopped. What is out of all reason is cut, not refused.
func (in *typingRequest) timeout() (time.Duration, error) {
	switch {
	case in.Typing == nil:
		return 0, matrix.Errorf(matrix.MissingParam, "\"typing\" must be true or false")
	case !*in.Typing:
		return 0, nil
	case in.TimeoutMS == nil:
		return usualTyping, nil
	}
	ms := min(max(*in.TimeoutMS, 1), longestTyping.Milliseconds())
	return time.Duration(ms) * time.Millisecond, nil
}
