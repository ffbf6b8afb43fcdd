package remote

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/outbound"
)

// InviteRequest is the body of an invite.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
type InviteRequest struct {
	RoomVersion matrix.RoomVersion `json:"room_version"`
	Event       json.RawMessage    `json:"event"`
	State       []json.RawMessage  `json:"invite_room_state,omitempty"`
}

// InviteResponse is the answer to one.
type InviteResponse struct {
	Event json.RawMessage `json:"event"`
}

// InviteRequestV1 is what of an invite of the first version of the API is beside the event, which is the body.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid
type InviteRequestV1 struct {
	Unsigned struct {
		State []json.RawMessage `json:"invite_room_state,omitempty"`
	} `json:"unsigned"`
}

// Invite is an invite of ours to a user of another server.
type Invite struct {
	Event *event.Event
	State []*event.Event // what tells the invited what the room is; the create event has to be among them
}

// Invite asks the server of the invited user to agree, and returns the event with its signature.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid
func (c *Client) Invite(ctx context.Context, in Invite) (*event.Event, error) {
	invited, err := matrix.ParseUserID(string(in.Event.Target()))
	if err != nil || in.Event.Membership() != event.Invite {
		return nil, matrix.Errorf(matrix.BadJSON, "not an invite")
	}
	call := membershipCall(invited.Server(), "invite", in.Event)
	call.MaxBytes = maxEventBytes
	if call.Content, err = json.Marshal(in.body()); err != nil {
		return nil, err
	}
	var answer InviteResponse
	err = c.answer(ctx, call, &answer)
	if in.mayBeOld() && isBadOrMissing(err) {
		answer, err = c.inviteV1(ctx, olderForm(call), in)
	}
	if err != nil {
		return nil, err
	}
	signed, err := c.countersigned(ctx, countersignature{of: in.Event, by: invited.Server(), in: answer.Event})
	if err != nil {
		return nil, badOf(invited.Server(), err)
	}
	return signed, nil
}

func (in Invite) body() InviteRequest {
	return InviteRequest{RoomVersion: in.Event.Version.ID, Event: in.Event.JSON, State: in.state()}
}

func (in Invite) state() []json.RawMessage {
	state := make([]json.RawMessage, len(in.State))
	for i, e := range in.State {
		state[i] = e.JSON
	}
	return state
}

// mayBeOld says whether the first version of the API can do it: it does not name the room version.
func (in Invite) mayBeOld() bool { return in.Event.Version.EventIDs == event.ChosenEventIDs }

// isBadOrMissing says whether an answer may be that of a server without the second version of the API.
func isBadOrMissing(err error) bool {
	var answered *outbound.RemoteError
	return errors.As(err, &answered) && (answered.Status == http.StatusBadRequest || answered.Status == http.StatusNotFound)
}

// inviteV1 asks by the first version of the API: the event is the body, the state is in its unsigned.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid
func (c *Client) inviteV1(ctx context.Context, call outbound.Call, in Invite) (answer InviteResponse, err error) {
	var beside InviteRequestV1
	beside.Unsigned.State = in.state()
	unsigned, err := json.Marshal(beside.Unsigned)
	if err != nil {
		return answer, err
	}
	call.Content = canonical.AppendWith(nil, in.Event.JSON, "unsigned", unsigned)
	err = c.readStream(ctx, call, func(s *stream) error {
		return pair(s, func(s *stream) error { return s.decode(maxEventBytes, &answer) })
	})
	return answer, err
}
