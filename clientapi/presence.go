package clientapi

import (
	"context"
	"fmt"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/roomserver/ephemeral"
	"github.com/myelin-chat/myelin/storage/rooms"
)

type setPresenceRequest struct {
	Presence  string `json:"presence"`
	StatusMsg string `json:"status_msg"`
}

// setPresence is the caller's own word about itself.
// https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3presenceuseridstatus
func (a *API) setPresence(_ context.Context, c *httpapi.Call, in *setPresenceRequest) (*httpapi.None, error) {
	if err := own(c); err != nil {
		return nil, err
	}
	if in.Presence == "" {
		return nil, matrix.Errorf(matrix.MissingParam, "presence is missing")
	}
	return nil, a.ephemeral.SetPresence(c.User, in.Presence, in.StatusMsg)
}

type presenceResponse struct {
	Presence        string `json:"presence"`
	StatusMsg       string `json:"status_msg,omitempty"`
	LastActiveAgo   *int64 `json:"last_active_ago,omitempty"`  // in milliseconds
	CurrentlyActive *bool  `json:"currently_active,omitempty"` // of users who are online
}

// presence tells how present a user is, to itself and to those who share a room with it. Others are not told whether
// there is such a user.
// https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3presenceuseridstatus
func (a *API) presence(ctx context.Context, c *httpapi.Call, _ *httpapi.None) (*presenceResponse, error) {
	user, err := matrix.ParseUserID(c.Path("userID"))
	if err != nil {
		return nil, err
	}
	if user != c.User {
		shares, err := a.shareRoom(ctx, user, c.User)
		if err != nil {
			return nil, err
		}
		if !shares {
			return nil, matrix.Errorf(matrix.Forbidden, "you share no room with %s", user)
		}
	}
	return showPresence(a.ephemeral.Presence(user)), nil
}

// showPresence leaves out when a user was last active if this process has never seen it: a number would be a guess.
func showPresence(p ephemeral.Presence) *presenceResponse {
	out := &presenceResponse{Presence: p.State, StatusMsg: p.Status}
	if p.Known {
		ms := p.LastActiveAgo.Milliseconds()
		out.LastActiveAgo = &ms
	}
	if p.State == ephemeral.Online {
		out.CurrentlyActive = &p.CurrentlyActive
	}
	return out
}

// shareRoom says whether two users are joined to the same room.
func (a *API) shareRoom(ctx context.Context, one, other matrix.UserID) (bool, error) {
	joined := map[int64]bool{}
	for _, user := range []matrix.UserID{one, other} {
		all, err := rooms.MembershipsOfUser(ctx, a.db, user, 0)
		if err != nil {
			return false, fmt.Errorf("find the rooms of %s: %w", user, err)
		}
		for _, m := range all {
			switch {
			case m.Membership != event.Join:
			case user == one:
				joined[m.RoomNum] = true
			case joined[m.RoomNum]:
				return true, nil
			}
		}
	}
	return false, nil
}
