package membership

import (
	"context"
	"encoding/json"

	"github.com/myelin-chat/myelin/event"
	"github.com/myelin-chat/myelin/federation/keys"
	"github.com/myelin-chat/myelin/federation/peer"
	"github.com/myelin-chat/myelin/federation/remote"
	"github.com/myelin-chat/myelin/httpapi"
	"github.com/myelin-chat/myelin/matrix"
	"github.com/myelin-chat/myelin/matrix/canonical"
	"github.com/myelin-chat/myelin/roomserver"
	"github.com/myelin-chat/myelin/storage/rooms"
)

// makeJoin proposes the event with which a user of the server that asks joins a room.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
func (a *API) makeJoin(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.TemplateResponse, error) {
	return template(ctx, c, a.rooms.MakeJoin)
}

// makeLeave does so for a leave, with which an invite is rejected and a knock taken back, too.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid
func (a *API) makeLeave(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.TemplateResponse, error) {
	return template(ctx, c, a.rooms.MakeLeave)
}

// makeKnock does so for a knock.
// https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_knockroomiduserid
func (a *API) makeKnock(ctx context.Context, c *peer.Call, _ *httpapi.None) (*remote.TemplateResponse, error) {
	return template(ctx, c, a.rooms.MakeKnock)
}

func template(
	ctx context.Context, c *peer.Call, propose func(context.Context, roomserver.Visit) (roomserver.Template, error),
) (*remote.TemplateResponse, error) {
	visit, err := visitOf(c)
	if err != nil {
		return nil, err
	}
	t, err := propose(ctx, visit)
	if err != nil {
		return nil, err
	}
	return &remote.TemplateResponse{RoomVersion: t.Version.ID, Event: t.Event}, nil
}

// visitOf reads who wants to go where. A server speaks for its own users only.
func visitOf(c *peer.Call) (roomserver.Visit, error) {
	room, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return roomserver.Visit{}, err
	}
	user, err := matrix.ParseUserID(c.Path("userID"))
	if err != nil {
		return roomserver.Visit{}, err
	}
	if user.Server() != c.Origin {
		return roomserver.Visit{}, matrix.Errorf(matrix.Forbidden, "%s is not a user of %s", user, c.Origin)
	}
	visit := roomserver.Visit{Origin: c.Origin, Room: room, User: user}
	for _, version := range c.QueryAll("ver") {
		visit.Versions = append(visit.Versions, matrix.RoomVersion(version))
	}
	if visit.Versions == nil {
		visit.Versions = []matrix.RoomVersion{"1"}
	}
	return visit, nil
}

// sendJoin takes a join into its room, and answers with the state of the room before it.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
func (a *API) sendJoin(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.Answer, error) {
	sent, err := a.sentEvent(ctx, c, *in, event.Join)
	if err != nil {
		return nil, err
	}
	welcome, err := a.rooms.SendJoin(ctx, sent, c.Query("omit_members") == "true")
	if err != nil {
		return nil, err
	}
	return a.write(new(peer.Answer), welcome).End(), nil
}

// sendJoinV1 is the first version of the same.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_joinroomideventid
func (a *API) sendJoinV1(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.Answer, error) {
	sent, err := a.sentEvent(ctx, c, *in, event.Join)
	if err != nil {
		return nil, err
	}
	welcome, err := a.rooms.SendJoin(ctx, sent, false)
	if err != nil {
		return nil, err
	}
	return a.write(new(peer.Answer).Text("[200,"), welcome).Text("]").End(), nil
}

// write adds the answer to a join.
func (a *API) write(answer *peer.Answer, w roomserver.Welcome) *peer.Answer {
	head, _ := json.Marshal(joinHead{Origin: a.name, MembersOmitted: w.MembersOmitted, Servers: w.Servers}) // texts: cannot fail
	answer.Text(string(head[:len(head)-1]) + `,"event":`).JSON(w.Join.JSON)
	return answer.Text(`,"auth_chain":`).List(rooms.Texts(w.AuthChain)).Text(`,"state":`).List(rooms.Texts(w.State)).Text("}")
}

// joinHead is what in an answer to a join is not events.
type joinHead struct {
	Origin         matrix.ServerName   `json:"origin"`
	MembersOmitted bool                `json:"members_omitted"`
	Servers        []matrix.ServerName `json:"servers_in_room,omitempty"`
}

// sendLeave takes a leave into its room.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid
func (a *API) sendLeave(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.None, error) {
	sent, err := a.sentEvent(ctx, c, *in, event.Leave)
	if err != nil {
		return nil, err
	}
	return nil, a.rooms.SendLeave(ctx, sent)
}

// sendLeaveV1 is the first version of the same.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_leaveroomideventid
func (a *API) sendLeaveV1(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.Raw, error) {
	if _, err := a.sendLeave(ctx, c, in); err != nil {
		return nil, err
	}
	return peer.Raw([]byte(`[200,{}]`), nil)
}

// sendKnock takes a knock into its room, and answers with what tells which room it is.
// https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid
func (a *API) sendKnock(ctx context.Context, c *peer.Call, in *httpapi.RawBody) (*httpapi.Answer, error) {
	sent, err := a.sentEvent(ctx, c, *in, event.Knock)
	if err != nil {
		return nil, err
	}
	state, err := a.rooms.SendKnock(ctx, sent)
	if err != nil {
		return nil, err
	}
	return new(peer.Answer).Text(`{"knock_room_state":`).List(rooms.Texts(state)).Text("}").End(), nil
}

// sentEvent reads the membership event of a request, and holds it against the request: the room, the ID and the sender's
// server must be those of the request, and the membership what the endpoint is for. Its sender's server must have
// signed it.
func (a *API) sentEvent(ctx context.Context, c *peer.Call, body []byte, want event.Membership) (roomserver.Sent, error) {
	id, err := matrix.ParseRoomID(c.Path("roomID"))
	if err != nil {
		return roomserver.Sent{}, err
	}
	room, err := a.rooms.Room(ctx, id)
	if err != nil {
		return roomserver.Sent{}, err
	}
	e, err := event.Parse(room.Version, body)
	if err != nil {
		return roomserver.Sent{}, err
	}
	sent := roomserver.Sent{Origin: c.Origin, Room: id, ID: matrix.EventID(c.Path("eventID")), Event: e}
	if err := checkSent(sent, want); err != nil {
		return roomserver.Sent{}, err
	}
	if e.Target() != e.Sender {
		return roomserver.Sent{}, invalid("the sender %s is not the state key", e.Sender)
	}
	if via, ok := e.JoinAuthoriser(); ok && via.Server() != a.name {
		return roomserver.Sent{}, invalid("%s, who is to vouch for the join, is no user of this server", via)
	}
	return sent, a.checkSignature(ctx, e)
}

// checkSent holds a membership event against the request that it came with.
func checkSent(in roomserver.Sent, want event.Membership) error {
	e := in.Event
	switch {
	case e.Redacted:
		return invalid("the content hash of the event is wrong")
	case e.Type != event.TypeMember || !e.IsState() || e.Membership() != want:
		return invalid("this is not a member event of membership %s", want)
	case e.RoomID != in.Room:
		return invalid("the event is of %s, the request of %s", e.RoomID, in.Room)
	case e.ID != in.ID:
		return invalid("the event is %s, the request says %q", e.ID, in.ID)
	case e.Sender.Server() != in.Origin:
		return invalid("%s, who sent the event, is not a user of %s", e.Sender, in.Origin)
	}
	if server, named := e.ID.Server(); named && server != in.Origin {
		return invalid("the ID of the event is of %s, not of %s", server, in.Origin)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return matrix.Errorf(matrix.InvalidParam, format, args...)
}

// checkSignature checks that the server of the sender has signed an event. Others that must have signed it, as it is
// complete, are not asked for: it is here for the signature of this server.
func (a *API) checkSignature(ctx context.Context, e *event.Event) error {
	signed := keys.Object{JSON: e.RedactedJSON(), Server: e.Sender.Server()}
	if e.Version.EnforceKeyValidity {
		signed.AtMS = e.OriginServerTS
	}
	err := a.ring.VerifyObjects(ctx, []keys.Object{signed})[0]
	if err != nil && matrix.CodeOf(err) == matrix.Unknown {
		return matrix.Errorf(matrix.Forbidden, "the signing keys of %s cannot be had now", signed.Server)
	}
	if err != nil {
		return invalid("the event is not signed by the server of its sender: %v", err)
	}
	return nil
}

// isObject says whether canonical JSON is an object.
func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

// objectOf reads JSON that somebody else made as a canonical object; nil if it is none.
func objectOf(raw []byte) []byte {
	obj, err := canonical.JSON(raw, canonical.Lenient)
	if err != nil || !isObject(obj) {
		return nil
	}
	return obj
}
